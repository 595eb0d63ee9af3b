"""psycopg_pool as the keeper of idle connections.

psycopg_pool connects in a worker thread, retries with growing pauses, and says
why it fails in the log only. djpool's callers connect themselves instead, so
that the server's answer reaches them, and hand the connection over: its
`connection_class` is a hook to take one that is ready in place of connecting.

Its workers have nothing to do: they take their work from a `queue.Queue`, whose lock
stays locked for ever if a time limit strikes a caller just when it is taken.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from djpool.adapters.kept import Kept, Topic
from djpool.core.errors import OptionsError
from djpool.core.options import PoolOptions
from djpool.core.slot import Entry, Slot
from djpool.core.workers import run_apart

# Long enough never to come due; psycopg_pool has no word for "never", and
# infinity overflows its scheduler. djpool's own limits apply.
NEVER = 4_000_000.0
# More than no seconds, for a connection that is there: psycopg_pool wants some.
PATIENCE = 5.0
PREFIX = "djpool "
# How those of its warnings begin that say no more than that it was left alone.
EXPECTED = ("reconnection attempt", "couldn't stop thread")


class NothingReady(psycopg.OperationalError):
    """psycopg_pool wants a connection in place of one that djpool closed."""


class Handed(psycopg.Connection[Any]):
    """A `connection_class` whose connections are handed over by djpool."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:  # noqa: ARG003
        """The connection that this thread handed over last.

        Raises:
            NothingReady: It has not. djpool opens one when somebody wants it.
        """
        try:
            return kwargs["handed"].connections[-1]
        except IndexError:
            raise NothingReady("djpool opens connections when wanted") from None


class _OwnAffairs(logging.Filter):
    """Keeps psycopg_pool from warning of what djpool does on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else ()
        for arg in args:
            if isinstance(arg, NothingReady) or hasattr(arg, "djpool_entry"):
                return record.levelno > logging.WARNING
        ours = bool(args) and str(args[0]).startswith(PREFIX)
        return not (ours and record.msg.startswith(EXPECTED))


_own_affairs = _OwnAffairs()


class PsycopgNativePool:
    """Idle connections in a `psycopg_pool.ConnectionPool`."""

    capacity: int | None = None

    def __init__(self, options: PoolOptions) -> None:
        settings: dict[str, Any] = {
            "min_size": 0,
            # djpool's gate keeps the bounds, also while it replaces one.
            "max_size": 1_000_000,
            "max_lifetime": NEVER,
            "max_idle": NEVER,
            "reconnect_timeout": 0.0,
            "num_workers": 1,
            "name": PREFIX + options.name,
            "connection_class": Handed,
            "open": False,
        }
        self._handed = Topic()
        self._opened = self._closed = False
        reserved = settings.keys() - {"num_workers"} | {"conninfo", "kwargs", "check"}
        # A worker would reset a connection while djpool lends it already.
        reserved |= {"reset", "close_returns"}
        if twice := sorted(reserved & options.native.keys()):
            raise OptionsError(
                f"native: {', '.join(twice)} cannot be passed on to psycopg_pool: "
                "djpool sets it"
            )
        try:
            self.native: ConnectionPool[Any] = ConnectionPool(
                **settings | {"kwargs": {"handed": self._handed}} | dict(options.native)
            )
        except (TypeError, ValueError) as error:
            raise OptionsError(f"native: psycopg_pool refuses it: {error}") from error
        self._idle = vars(self.native)["_pool"] = Kept()
        # Adding the same filter again does nothing.
        logging.getLogger("psycopg.pool").addFilter(_own_affairs)

    def join(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it is new
        connection = entry.connection
        connection.djpool_entry = entry
        if not self._opened:
            self._open()
        with self.native._lock:  # noqa: SLF001 (it counts in its workers only)
            self.native._nconns += 1  # noqa: SLF001
            connection.djpool_counts = True
        # What its workers call to connect.
        self._handed.during(connection, self.native._connect)  # noqa: SLF001

    def _open(self) -> None:
        """Open it, in a thread that no handler of a signal interrupts."""

        def run() -> None:
            # Closed meanwhile, it lends no more. And where no thread can be started, it
            # is open all the same: its threads have nothing to do here.
            with contextlib.suppress(PoolClosed, RuntimeError):
                self.native.open()
            # What was never open it lets be opened after its close(), too.
            if self._closed:
                self.close()

        run_apart(run)
        self._opened = True

    def take(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was given
        try:
            self._idle.wanted.during(entry.connection, self.native.getconn, PATIENCE)
        except (IndexError, PoolTimeout, PoolClosed) as error:
            raise LookupError("psycopg_pool closed it by itself") from error

    def give(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was lent
        self.native.putconn(entry.connection)

    def drop(self, connection: Any) -> None:
        # It is there if it was closed because giving it back was interrupted.
        self._idle.discard(connection)
        counts = getattr(connection, "djpool_counts", False)
        with self.native._lock:  # noqa: SLF001 (putconn() would leave it to a worker)
            if counts:
                connection.djpool_counts = False
                self.native._nconns -= 1  # noqa: SLF001
        connection._pool = None  # noqa: SLF001 (or the two refer to each other)

    def close(self) -> None:
        self._closed = True
        # Its two threads end at once unless the machine is very busy, and end
        # by themselves then: nobody waits for them at exit.
        self.native.close(timeout=0.1)
