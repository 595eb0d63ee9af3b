"""A queue that lends a given connection, for drivers' own pools.

Such a pool lends the connection that comes first. djpool wants the connection of a
certain slot. So a slot refers to its connection at all times, also while the driver's
pool moves it: a signal's handler may raise an exception anywhere in there, and then
djpool knows which connection to close.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any


class Topic(threading.local):
    """The connection that a call further down this thread's stack is about."""

    def __init__(self) -> None:
        # Several, if a signal's handler leases amid such a call.
        self.connections: list[Any] = []

    def during(self, connection: Any, call: Callable[..., Any], *args: Any) -> None:
        """Call about `connection`."""
        connections = self.connections
        before = len(connections)
        try:
            connections.append(connection)
            call(*args)
        finally:
            del connections[before:]


class Kept:
    """Idle connections, in place of a pool's `collections.deque`.

    Thread-safe: each step is one step of a dict, and needs no lock.
    """

    def __init__(self) -> None:
        self._connections: dict[int, Any] = {}
        #: Within its `during()` the pool lends that connection, and no other.
        self.wanted = Topic()

    def append(self, connection: Any) -> None:
        """Keep a connection."""
        self._connections[id(connection)] = connection

    def popleft(self) -> Any:
        """Take out the connection that this thread wants, or any.

        Raises:
            IndexError: It is not here.
        """
        wanted = self.wanted.connections
        try:
            if wanted:
                return self._connections.pop(id(wanted[-1]))
            return self._connections.popitem()[1]
        except KeyError:
            raise IndexError("no such connection is idle") from None

    def discard(self, connection: Any) -> None:
        """Take out a connection if it is here."""
        self._connections.pop(id(connection), None)

    def clear(self) -> None:
        """Take out all."""
        self._connections.clear()

    def __len__(self) -> int:
        return len(self._connections)

    def __bool__(self) -> bool:
        # A pool that finds it empty waits. A thread that wants a certain connection
        # is to learn at once that it is not here.
        return bool(self._connections or self.wanted.connections)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._connections.values()))
