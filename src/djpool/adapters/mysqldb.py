"""MySQLdb under djpool's own stack: mysqlclient, or PyMySQL installed in its place.

Both speak to MySQL and to MariaDB. What the server says of the session with each
answer (autocommit, in a transaction) PyMySQL passes on; mysqlclient passes on
the former only, so with it a look at each statement stands in for the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from djpool.adapters.mysql_errors import MySQLErrors
from djpool.adapters.sockets import is_quiet, wait_readable
from djpool.adapters.timeouts import whole_seconds
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver
from djpool.core.options import Offer

# A bit of the protocol's status flags.
IN_TRANSACTION = 1
# What opens a transaction while autocommit is on, as the first words of a
# statement; comments may stand before them.
BEGINS = re.compile(
    rb"\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*|#[^\n]*\n\s*)*(?:BEGIN|START\s|XA\s|SET\s)",
    re.IGNORECASE | re.DOTALL,
)


class MySQLdbDriver(MySQLErrors):
    """What mysqlclient and PyMySQL have in common."""

    vendor = "mysql"

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.connect)
        self._autocommit = connector.autocommit

    def tidy(self, connection: Any) -> None:
        connection.rollback()
        connection.autocommit(self._autocommit)


class MysqlclientDriver(MySQLdbDriver):
    """mysqlclient's words."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._open = connector.connect
        self.connect = self._connect

    def _connect(self, timeout: float) -> Any:
        connection = self._open(timeout)
        connection.djpool_began = False
        # In the instance, where MySQLdb's cursors look first.
        connection.query = _watched(connection, connection.query)
        return connection

    def peek(self, connection: Any) -> bool:
        try:
            return is_quiet(connection.fileno())
        except Exception:  # noqa: BLE001 (closed: it has no socket)
            return False

    def ping(self, connection: Any, timeout: float) -> None:
        # Not ping(), which waits for ever: the halves of a query, and a wait
        # of our own between them. DO has no result.
        connection.send_query(b"DO 0")
        if not wait_readable(connection.fileno(), timeout):
            raise TimeoutError(f"no answer to a ping in {timeout:g} s")
        connection.read_query_result()

    def at_rest(self, connection: Any) -> bool:
        return (
            not connection.djpool_began
            and connection.get_autocommit() == self._autocommit
        )

    def tidy(self, connection: Any) -> None:
        super().tidy(connection)
        connection.djpool_began = False


def _watched(connection: Any, query: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def watch(statement: Any) -> Any:
        text = statement.encode() if isinstance(statement, str) else statement
        if BEGINS.match(text):
            connection.djpool_began = True
        return query(statement)

    return watch


class WhileConnecting(float):
    """A `read_timeout` until the connection is open, when `then` takes its place."""

    then: float | None = None


class PyMySQLDriver(MySQLdbDriver):
    """PyMySQL's words. It has no public name for its socket and its timeouts."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._open = connector.connect
        self.connect = self._connect

    def _connect(self, timeout: float) -> Any:
        connection = self._open(timeout)
        patience = connection._read_timeout  # noqa: SLF001
        if isinstance(patience, WhileConnecting):
            connection._read_timeout = patience.then  # noqa: SLF001
        return connection

    def peek(self, connection: Any) -> bool:
        sock = connection._sock  # noqa: SLF001
        return sock is not None and is_quiet(sock.fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        patience = connection._read_timeout  # noqa: SLF001
        connection._read_timeout = max(timeout, 0.001)  # noqa: SLF001
        try:
            connection.ping(reconnect=False)
        finally:
            connection._read_timeout = patience  # noqa: SLF001

    def at_rest(self, connection: Any) -> bool:
        return (
            connection.open
            and not connection.server_status & IN_TRANSACTION
            and connection.get_autocommit() == self._autocommit
        )


def is_pymysql() -> bool:
    """Whether MySQLdb is PyMySQL."""
    # Imported here because that may be decided late, in manage.py.
    import MySQLdb

    return bool(MySQLdb.__name__ == "pymysql")


def _driver(connector: Connector) -> Driver:
    return (PyMySQLDriver if is_pymysql() else MysqlclientDriver)(connector)


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have the driver give up by then; it counts whole seconds, one or more."""
    seconds = whole_seconds(params.get("connect_timeout"), timeout)
    limited = {**params, "connect_timeout": seconds}
    if is_pymysql():
        # Its connect_timeout ends with the network's part: a server that accepts
        # and says nothing would have all the time in the world.
        limited["read_timeout"] = WhileConnecting(seconds)
        limited["read_timeout"].then = params.get("read_timeout")
    return limited


adapter = Adapter(offer=Offer(), driver=_driver, limit=limit_connect)
