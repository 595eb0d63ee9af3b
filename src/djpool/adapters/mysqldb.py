"""MySQLdb under djpool's own stack: mysqlclient, or PyMySQL installed in its place.

Both speak to MySQL and to MariaDB. What the server says of the session with each
answer (autocommit, in a transaction) PyMySQL passes on; mysqlclient passes on
the former only. So with it a transaction counts as open unless the text of each
statement is known to leave none, and costs a ROLLBACK on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from djpool.adapters.mysql_session import SessionDriver
from djpool.adapters.proxies import driver_s_own
from djpool.adapters.sockets import is_quiet, wait_readable
from djpool.adapters.timeouts import whole_seconds
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver
from djpool.core.options import Offer
from djpool.core.session import Change

# Bits of the protocol's status flags.
IN_TRANSACTION, MORE_RESULTS = 1, 8
# A command of the protocol.
RESET_CONNECTION = 0x1F


class MySQLdbDriver(SessionDriver):
    """What mysqlclient and PyMySQL have in common."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(self._connect, connector)
        self._open = connector.connect

    def _connect(self, timeout: float) -> Any:
        connection = self._open(timeout)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Any) -> None:
        """See to it that what djpool has to know of the connection is kept with it."""
        raise NotImplementedError

    def come_to_rest(self, connection: Any) -> None:
        self.roll_back(connection)
        connection.autocommit(self._autocommit)


class MysqlclientDriver(MySQLdbDriver):
    """mysqlclient's words."""

    kept = (
        *("cursorclass", "default_cursor", "encoders", "converter", "encoding"),
        *("executemany_fallback", "_binary_prefix", "query", "commit", "rollback"),
    )

    def _prepare(self, connection: Any) -> None:
        connection.djpool_began = connection.djpool_known = False
        connection.djpool_doubted = connection.djpool_chains = self._chains(connection)
        connection.djpool_charset = connection.character_set_name()
        # In the instance, where MySQLdb's cursors look first, and Django does.
        connection.query = self._beginning(connection, connection.query)
        connection.commit = _ending(connection, connection.commit)
        connection.rollback = _ending(connection, connection.rollback)

    def _beginning(
        self, connection: Any, query: Callable[[Any], Any]
    ) -> Callable[[Any], Any]:
        always = not self._autocommit  # then each statement is in a transaction

        def watch(statement: Any) -> Any:
            # By now it has the parameters in it, and these decide nothing.
            if not connection.djpool_known:
                connection.djpool_doubted = True
            if always:
                connection.djpool_began = True
            return query(statement)

        return watch

    def tell(self, connection: Any, *, known: bool) -> None:
        connection.djpool_known = known

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
            and not connection.djpool_doubted
            and connection.get_autocommit() == self._autocommit
        )

    def come_to_rest(self, connection: Any) -> None:
        super().come_to_rest(connection)
        connection.djpool_began = False
        if connection.djpool_doubted:
            connection.djpool_doubted = self._chains(connection)

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        super().restore(connection, change, timeout)
        connection.djpool_doubted = connection.djpool_chains

    def _chains(self, connection: Any) -> bool:
        """Ask whether each COMMIT, which looks like any other, begins a transaction."""
        mode = next(iter(self.rows(connection, "SELECT @@completion_type")))[0]
        return mode not in {"NO_CHAIN", b"NO_CHAIN"}

    def fileno(self, connection: Any) -> int | None:
        fd: int = connection.fileno()
        return fd

    def reset(self, connection: Any) -> None:
        # Imported here because PyMySQL may stand in for mysqlclient.
        from djpool.adapters import mysqlclient_inside

        mysqlclient_inside.reset(connection)

    def rows(self, connection: Any, statement: str) -> Iterable[Sequence[Any]]:
        # Its class's, which nobody has replaced, or watches.
        own = driver_s_own(connection)
        type(own).query(own, statement.encode())
        result = own.store_result()
        return () if result is None else result.fetch_row(0)

    def restore_charset(self, connection: Any) -> None:
        if connection.character_set_name() != connection.djpool_charset:
            connection.set_character_set(connection.djpool_charset)


def _ending(connection: Any, end: Callable[[], None]) -> Callable[[], None]:
    # It ends a transaction that is known of. What leaves doubt may have set
    # `completion_type`, and so the end would be a beginning.
    def watch() -> None:
        end()
        connection.djpool_began = False

    return watch


class WhileConnecting(float):
    """A `read_timeout` until the connection is open, when `then` takes its place."""

    then: float | None = None


class PyMySQLDriver(MySQLdbDriver):
    """PyMySQL's words. It has no public name for its socket and its timeouts."""

    kept = (
        *("cursorclass", "encoders", "decoders", "use_unicode", "encoding"),
        *("charset", "collation", "sql_mode", "init_command", "autocommit_mode"),
        *("max_allowed_packet", "_read_timeout", "_write_timeout", "_local_infile"),
    )

    def _prepare(self, connection: Any) -> None:
        patience = connection._read_timeout  # noqa: SLF001 (it has no public name)
        if isinstance(patience, WhileConnecting):
            connection._read_timeout = patience.then  # noqa: SLF001
        # It sends a statement, and reads the answer to its end.
        self.count_calls(connection, "query")

    def close(self, connection: Any) -> None:
        # The rest of an answer, which its cursor reads when it is closed or finalised:
        # for ever, if an exception struck when the driver had just read the end.
        result, connection._result = connection._result, None  # noqa: SLF001 (see the class)
        if result is not None:
            result.unbuffered_active = False
        super().close(connection)

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
            and not connection.server_status & (IN_TRANSACTION | MORE_RESULTS)
            and not _is_unread(connection)
            and not connection.djpool_calls
            and connection.get_autocommit() == self._autocommit
        )

    def come_to_rest(self, connection: Any) -> None:
        if connection.server_status & MORE_RESULTS or _is_unread(connection):
            raise ConnectionError("there are results that nobody has read")
        if connection.djpool_calls:
            raise ConnectionError("a statement was interrupted")
        super().come_to_rest(connection)
        self.challenge(connection)

    def fileno(self, connection: Any) -> int | None:
        fd: int = connection._sock.fileno()  # noqa: SLF001
        return fd

    def reset(self, connection: Any) -> None:
        connection._execute_command(RESET_CONNECTION, b"")  # noqa: SLF001
        connection._read_ok_packet()  # noqa: SLF001

    def rows(self, connection: Any, statement: str) -> Iterable[Sequence[Any]]:
        connection.query(statement)
        rows: Sequence[Sequence[Any]] = connection._result.rows or ()  # noqa: SLF001
        return rows


def _is_unread(connection: Any) -> bool:
    result = connection._result  # noqa: SLF001
    return result is not None and bool(result.unbuffered_active)


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
