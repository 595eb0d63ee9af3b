"""sqlite3 under djpool's own stack."""

from __future__ import annotations

import os
from typing import Any

from djpool.adapters.proxies import driver_s_own
from djpool.adapters.sqlite3_session import Origin, statements
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver
from djpool.core.options import Offer
from djpool.core.session import Change


class Sqlite3Driver(Driver):
    """sqlite3's words.

    There is no server that could go away, but there is a file that can: an open
    connection goes on writing to a database file that was deleted or replaced.
    So the look without a round trip is a look at the file.
    """

    vendor = "sqlite"
    changes = staticmethod(statements)
    looks = frozenset({"in_transaction", "isolation_level", "autocommit"})

    def __init__(self, connector: Connector) -> None:
        super().__init__(self._connect)
        self._open = connector.connect
        # Django runs sqlite3 with isolation_level None, which is autocommit.
        self._at_rest_level = None if connector.autocommit else ""
        # By the id of an open connection, which takes no attributes: the path
        # of its file, and which file that was.
        self._files: dict[int, tuple[str, tuple[int, int] | None]] = {}
        self._origins: dict[int, Origin] = {}

    def _connect(self, timeout: float) -> Any:
        connection = self._open(timeout)
        try:
            own = driver_s_own(connection)
            path = own.execute("PRAGMA database_list").fetchone()[2]
            self._files[id(connection)] = path, _identity(path)
        except BaseException:
            connection.close()
            raise
        return connection

    def peek(self, connection: Any) -> bool:
        path, file = self._files[id(connection)]
        try:
            _ = connection.in_transaction
        except Exception:  # noqa: BLE001 (closed, by somebody who kept it)
            return False
        return file is not None and _identity(path) == file

    def ping(self, connection: Any, timeout: float) -> None:
        path, file = self._files[id(connection)]
        if _identity(path) != file:
            raise FileNotFoundError(f"{path} was deleted or replaced")
        driver_s_own(connection).execute("SELECT 1").fetchone()

    def at_rest(self, connection: Any) -> bool:
        return (
            connection.isolation_level == self._at_rest_level
            and not connection.in_transaction
        )

    def answered(self, error: BaseException) -> bool:
        return True  # nothing is ever under way: SQLite runs in this process

    def tidy(self, connection: Any, timeout: float) -> None:
        connection.rollback()
        connection.isolation_level = self._at_rest_level

    def remember(self, connection: Any) -> None:
        self._origins[id(connection)] = Origin(driver_s_own(connection))

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        self._origins[id(connection)].go_back(driver_s_own(connection), change)

    def close(self, connection: Any) -> None:
        self._files.pop(id(connection), None)
        self._origins.pop(id(connection), None)
        connection.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError:
        return None
    return found.st_dev, found.st_ino


adapter = Adapter(offer=Offer(), driver=Sqlite3Driver)
