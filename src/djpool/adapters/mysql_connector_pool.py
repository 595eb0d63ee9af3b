"""MySQL Connector/Python's own pool as the keeper of idle connections.

That pool opens all its connections at once, and pings and reconnects under one
lock that all pools of the process share: one server that does not answer stops
them all. Here djpool's callers connect and ping themselves, without a lock, and
hand over what they opened. So the lock is held for a moment only.
"""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from mysql.connector.errors import PoolError
from mysql.connector.pooling import CNX_POOL_MAXSIZE, MySQLConnectionPool

from djpool.core.errors import OptionsError
from djpool.core.options import PoolOptions
from djpool.core.slot import Entry, Slot


class _Idle:
    """A queue in place of the driver's own, which is a `queue.Queue`.

    The lock of that one stays locked for ever if a time limit strikes just when it is
    taken. A deque's ends need no lock.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Any] = deque()

    def put(self, item: Any, block: bool = True) -> None:
        if self.full():
            raise queue.Full
        self._items.append(item)

    def get(self, block: bool = True) -> Any:
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None

    def full(self) -> bool:
        return len(self._items) >= self._size

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class ConnectorNativePool:
    """Idle connections in a `mysql.connector.pooling.MySQLConnectionPool`."""

    capacity: int | None = CNX_POOL_MAXSIZE

    def __init__(self, options: PoolOptions) -> None:
        if options.native:
            raise OptionsError(
                f"native: {', '.join(sorted(options.native))} cannot be passed on: "
                "MySQL Connector/Python's pool has no options of its own that "
                "djpool does not set"
            )
        # As large as it gets, so that the pool can be resized.
        self.native: Any = MySQLConnectionPool(
            pool_size=CNX_POOL_MAXSIZE, pool_name="djpool", pool_reset_session=False
        )
        vars(self.native)["_cnx_queue"] = _Idle(CNX_POOL_MAXSIZE)
        # It wants some configuration before it takes anything; nothing is
        # connected with this one.
        self.native.set_config(autocommit=True)

    def join(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it is new
        entry.connection.djpool_entry = entry
        # Any other version would have it reconnect.
        entry.connection.pool_config_version = self.native._config_version  # noqa: SLF001
        self._add(entry.connection)
        # Perhaps another one that came free meanwhile. Then this one lies in
        # the pool, or goes to whoever was promised the other.
        self.take(slot)

    def take(self, slot: Slot) -> None:
        slot.entry = None
        while slot.entry is None:
            slot.entry = self._next()

    def _next(self) -> Entry | None:
        try:
            pooled = self.native.get_connection()
        except PoolError as error:
            raise LookupError("MySQL Connector/Python's pool is empty") from error
        # Not the proxy, which swallows attributes that are set on it.
        connection = pooled._cnx  # noqa: SLF001
        connection.is_connected = connection.djpool_is_connected
        entry: Entry = connection.djpool_entry
        # It came back here, and was then closed, if somebody was interrupted between
        # the two.
        return None if entry.connection is None else entry

    def give(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was lent
        self._add(entry.connection)
        slot.entry = None

    def _add(self, connection: Any) -> None:
        # It asks when it lends, and would reconnect, under the lock. djpool looks.
        connection.djpool_is_connected = connection.is_connected
        connection.is_connected = _assumed
        self.native.add_connection(connection)

    def drop(self, connection: Any) -> None:
        """Nothing to strike off: it keeps no book of what it lent."""

    def close(self) -> None:
        """Nothing to close: it has neither threads nor, by now, connections."""


def _assumed() -> bool:
    return True
