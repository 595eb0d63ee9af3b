"""MySQL Connector/Python's own pool as the keeper of idle connections.

That pool opens all its connections at once, and pings and reconnects under one
lock that all pools of the process share: one server that does not answer stops
them all. Here djpool's callers connect and ping themselves, without a lock, and
hand over what they opened. So the lock is held for a moment only.
"""

from __future__ import annotations

import queue
from typing import Any

from mysql.connector.errors import PoolError
from mysql.connector.pooling import CNX_POOL_MAXSIZE, MySQLConnectionPool

from djpool.adapters.kept import Kept
from djpool.core.errors import OptionsError
from djpool.core.options import PoolOptions
from djpool.core.slot import Entry, Slot


class _Idle(Kept):
    """A queue in place of the driver's own, which is a `queue.Queue`.

    The lock of that one stays locked for ever if a time limit strikes just when it is
    taken.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def put(self, item: Any, block: bool = True) -> None:
        if self.full():
            raise queue.Full
        self.append(item)

    def get(self, block: bool = True) -> Any:
        try:
            return self.popleft()
        except IndexError:
            raise queue.Empty from None

    def full(self) -> bool:
        return len(self) >= self._size

    def empty(self) -> bool:
        return not len(self)

    def qsize(self) -> int:
        return len(self)


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
        self._idle = vars(self.native)["_cnx_queue"] = _Idle(CNX_POOL_MAXSIZE)
        # It wants some configuration before it takes anything; nothing is
        # connected with this one.
        self.native.set_config(autocommit=True)

    def join(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it is new
        # Any other version would have it reconnect.
        entry.connection.pool_config_version = self.native._config_version  # noqa: SLF001

    def take(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was given
        connection = entry.connection
        try:
            # It returns a proxy, which djpool does not need.
            self._idle.wanted.during(connection, self.native.get_connection)
        except PoolError as error:
            raise LookupError("MySQL Connector/Python's pool has lost it") from error
        connection.is_connected = connection.djpool_is_connected

    def give(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was lent
        connection = entry.connection
        # It asks when it lends, and would reconnect, under the lock. djpool looks.
        connection.djpool_is_connected = connection.is_connected
        connection.is_connected = _assumed
        self.native.add_connection(connection)

    def drop(self, connection: Any) -> None:
        # It is there if it was closed because giving it back was interrupted.
        self._idle.discard(connection)

    def close(self) -> None:
        """Nothing to close: it has neither threads nor, by now, connections."""


def _assumed() -> bool:
    return True
