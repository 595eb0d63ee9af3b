"""What python-oracledb does not show of a connection; forks; an end to connecting.

Its thin mode bounds the TCP connect only. After that it waits for the server's
answers to the logon for as long as it takes, and has no word for a limit. So a
`Deadline` watches over a connect, and shuts down its socket when the time is up.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

# Private, and so without types.
thin_impl: Any = importlib.import_module("oracledb.thin_impl")

# Between shutting down one socket and looking for the next: an address list, or
# retries, may have the driver connect again.
PAUSE = 0.1


def find_socket(inside: Any) -> socket.socket | None:
    """The socket of a connection's inside, which keeps it where Python cannot look.

    The garbage collector can: from the inside to its protocol, to its transport,
    to the socket. None if there is none (yet, or any more, or in thick mode).
    """
    if not isinstance(inside, thin_impl.ThinConnImpl):
        return None
    found: list[Any] = [inside]
    for part in ("Protocol", "Transport", None):
        referents = gc.get_referents(*found)
        if part is None:
            sockets = [each for each in referents if isinstance(each, socket.socket)]
            return sockets[0] if sockets else None
        found = [each for each in referents if type(each).__name__ == part]
    return None


# What would say farewell to the server when Python lets go of it.
_polite: weakref.WeakSet[Any] = weakref.WeakSet()
# In a forked child: the insides of its parent's.
_inherited: list[Any] = []


def keep_from_children(holder: Any) -> None:
    """Have forked children let go of a connection, or a pool, without a word."""
    _polite.add(holder)


def _after_fork_in_child() -> None:
    for holder in list(_polite):
        _inherited.append(holder._impl)  # noqa: SLF001
        holder._impl = None  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork_in_child)


class Haste:
    """Makes the driver's own limits shorter, by what a caller can still wait.

    Those of the project's settings stand if they are shorter, wherever they come
    from: OPTIONS, a connect string, tnsnames.ora.
    """

    def __init__(self, params: Any) -> None:
        """`params` are a connection's, or a pool's, as the driver has read them."""
        self._wanted: Sequence[tuple[Any, float]] = [
            (description, description.tcp_connect_timeout)
            for description in params.description_list.children
        ]

    def apply(self, seconds: float) -> None:
        for description, wanted in self._wanted:
            description.tcp_connect_timeout = min(wanted, seconds)
            # It sleeps between attempts, whatever the time. Whoever wants to try
            # again can, with a time of their own.
            description.retry_count = 0


def _nothing() -> None:
    pass


class Deadline:
    """The time that opening a session may take, all included.

    A context manager around it. What is under way when the time is up, or when the
    block is left by an exception, is cut off.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        # Guards what follows; notified when there is less to wait for.
        self._changed = threading.Condition()
        self._inside: Any = None
        self._elsewhere = False  # another thread connects it
        self._left = False
        #: Whether the time was up. Final, once the block was left.
        self.passed = False
        #: Whether nobody waits for the session any more.
        self.given_up = False
        #: Called if the session was opened, and does not come to be used.
        self.undo: Callable[[], None] = _nothing

    @property
    def seconds(self) -> float:
        """What is left of it; never nothing at all."""
        return max(self._end - time.monotonic(), 0.001)

    def watch(self, inside: Any) -> None:
        """Cut this connection off when the time is up."""
        with self._changed:
            self._inside = inside

    @contextlib.contextmanager
    def watching(self, inside: Any) -> Iterator[None]:
        """`watch()`, in another thread than the one that waits: it may give up."""
        with self._changed:
            self._inside, self._elsewhere = inside, True
        try:
            yield
        finally:
            with self._changed:
                self._elsewhere = False
                self._changed.notify()

    def __enter__(self) -> Deadline:
        # A daemon: a process that ends while it connects does not wait.
        guard = threading.Thread(target=self._guard, name="djpool-oracle", daemon=True)
        # Where there can be none, the driver's own limits hold.
        with contextlib.suppress(RuntimeError):
            guard.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.give_up()
            return
        with self._changed:
            self._left = True
            self._changed.notify()

    def give_up(self) -> None:
        """Leave the block, and cut off what is under way. May be called twice."""
        with self._changed:
            self._left = self.given_up = True
            self._changed.notify()
        # Once: the driver's pool counts down each time.
        undo, self.undo = self.undo, _nothing
        undo()

    def _guard(self) -> None:
        with self._changed:
            while not self._left or self._elsewhere:
                if not self.given_up and time.monotonic() < self._end:
                    self._changed.wait(self.seconds)
                    continue
                self.passed = self.passed or not self._left
                if (found := find_socket(self._inside)) is not None:
                    with contextlib.suppress(OSError):  # the other side was faster
                        found.shutdown(socket.SHUT_RDWR)
                self._changed.wait(PAUSE)
            self._inside = None  # which may refer to us, by its callbacks
