"""psycopg_pool as the keeper of idle connections.

psycopg_pool connects in a worker thread, retries with growing pauses, and says
why it fails in the log only. djpool's callers connect themselves instead, so
that the server's answer reaches them, and hand the connection over: its
`connection_class` is a hook to take one that is ready in place of connecting.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from djpool.core.errors import OptionsError
from djpool.core.options import PoolOptions
from djpool.core.slot import Entry, Slot

# Long enough never to come due; psycopg_pool has no word for "never", and
# infinity overflows its scheduler. djpool's own limits apply.
NEVER = 4_000_000.0
# Seconds to wait for what must be there already.
PATIENCE = 5.0
PREFIX = "djpool "
# How those of its warnings begin that say no more than that it was left alone.
EXPECTED = ("reconnection attempt", "couldn't stop thread")


class NothingReady(psycopg.OperationalError):
    """psycopg_pool wants a connection in place of one that djpool closed."""


class Closed(LookupError):
    """What psycopg_pool lent was closed already."""


class Handed(psycopg.Connection[Any]):
    """A `connection_class` whose connections come from a queue."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:  # noqa: ARG003
        """The connection that was handed over first.

        Raises:
            NothingReady: None was. djpool opens one when somebody wants it.
        """
        try:
            return kwargs["ready"].popleft()
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
        self._ready: deque[Any] = deque()
        reserved = settings.keys() - {"num_workers"} | {"conninfo", "kwargs", "check"}
        if twice := sorted(reserved & options.native.keys()):
            raise OptionsError(
                f"native: {', '.join(twice)} cannot be passed on to psycopg_pool: "
                "djpool sets it"
            )
        try:
            self.native: ConnectionPool[Any] = ConnectionPool(
                **settings | {"kwargs": {"ready": self._ready}} | dict(options.native)
            )
        except (TypeError, ValueError) as error:
            raise OptionsError(f"native: psycopg_pool refuses it: {error}") from error
        # Adding the same filter again does nothing.
        logging.getLogger("psycopg.pool").addFilter(_own_affairs)

    def join(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it is new
        entry.connection.djpool_entry = entry
        self._ready.append(entry.connection)
        self.native.open()  # does nothing when it is open already
        # Perhaps another one that came free meanwhile. Then this one lies in
        # the pool, or goes to whoever was promised the other.
        while True:
            with contextlib.suppress(Closed):
                self.take(slot)
                return

    def take(self, slot: Slot) -> None:
        slot.entry = None
        try:
            connection = self.native.getconn(PATIENCE)
        except PoolTimeout as error:
            raise LookupError("psycopg_pool closed it by itself") from error
        entry: Entry = connection.djpool_entry
        if entry.connection is None:
            # It came back here, and was then closed, because somebody was interrupted
            # between the two.
            self.drop(connection)
            raise Closed("it was closed")
        slot.entry = entry

    def give(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was lent
        self.native.putconn(entry.connection)
        slot.entry = None

    def drop(self, connection: Any) -> None:
        connection.close()  # again, if somebody was interrupted who closed it
        self.native.putconn(connection)  # which strikes off what it finds closed

    def close(self) -> None:
        # Its two threads end at once unless the machine is very busy, and end
        # by themselves then: nobody waits for them at exit.
        self.native.close(timeout=0.1)
