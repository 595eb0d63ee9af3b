"""MySQL Connector/Python, over its own pool ("native") or over djpool's stack.

The driver comes in two parts: one in C, and one in Python that it falls back on,
silently, where the first cannot be loaded. Which one a connection is of shows
only in the connection.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import mysql.connector
from mysql.connector.constants import ServerCmd

from djpool.adapters.mysql_connector_pool import ConnectorNativePool
from djpool.adapters.mysql_session import SessionDriver
from djpool.adapters.sockets import cut_off, is_quiet, wait_readable
from djpool.adapters.timeouts import whole_seconds
from djpool.core.adapter import Adapter, Connector
from djpool.core.options import NativeKey, Offer

# Bits of the protocol's status flags.
IN_TRANSACTION, AUTOCOMMIT, MORE_RESULTS = 1, 2, 8
# This process's open files, where the system shows them.
OPEN_FILES = "/dev/fd"


class Part(Protocol):
    """What the two parts of the driver say in different words."""

    def prepare(
        self, connection: Any, before: Mapping[int, int], *, autocommit: bool
    ) -> None:
        """Make a new connection ready for the questions below.

        `before` are the sockets that there were before it.
        """

    def status(self, connection: Any) -> int:
        """The server's flags, as of its last answer."""

    def is_open(self, connection: Any) -> bool:
        """Whether nobody closed it on this side."""

    def is_quiet(self, connection: Any) -> bool:
        """Whether the server said nothing of its own accord; False if unknown."""

    def ping(self, connection: Any, timeout: float) -> None:
        """Raise unless the server answers in time."""

    def fileno(self, connection: Any) -> int | None:
        """The connection's socket, if it is known."""

    def reset(self, connection: Any) -> None:
        """Send COM_RESET_CONNECTION.

        Not by cmd_reset_connection(), which then sets what the connection was told
        first, and hides the error if that cannot be.
        """


class PythonPart:
    """The part in Python."""

    def prepare(
        self, connection: Any, before: Mapping[int, int], *, autocommit: bool
    ) -> None:
        # Of the flags it keeps only one, and has no public name for either.
        keep = connection._handle_server_status  # noqa: SLF001
        connection.djpool_status = AUTOCOMMIT if autocommit else 0

        def watch(flags: int) -> None:
            connection.djpool_status = flags
            keep(flags)

        connection._handle_server_status = watch  # noqa: SLF001

    def status(self, connection: Any) -> int:
        flags: int = connection.djpool_status
        return flags

    def is_open(self, connection: Any) -> bool:
        return bool(_socket(connection).fileno() >= 0)

    def is_quiet(self, connection: Any) -> bool:
        return is_quiet(_socket(connection).fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        # Not cmd_ping(), which waits for ever, but its two halves, and a wait of
        # our own between them.
        connection._send_cmd(ServerCmd.PING, expect_response=False)  # noqa: SLF001
        if not wait_readable(_socket(connection).fileno(), timeout):
            raise TimeoutError(f"no answer to a ping in {timeout:g} s")
        connection._handle_ok(connection._socket.recv())  # noqa: SLF001

    def fileno(self, connection: Any) -> int | None:
        return _socket(connection).fileno()

    def reset(self, connection: Any) -> None:
        answer = connection._send_cmd(ServerCmd.RESET_CONNECTION)  # noqa: SLF001
        connection._handle_ok(answer)  # noqa: SLF001


class CPart:
    """The part in C. It keeps its socket to itself; djpool holds a second handle.

    Where it could not be found, the connection is pinged instead of looked at.
    """

    def prepare(
        self, connection: Any, before: Mapping[int, int], *, autocommit: bool
    ) -> None:
        connection.djpool_socket = find_socket(connection, before)

    def status(self, connection: Any) -> int:
        flags: int = connection._server_status  # noqa: SLF001
        return flags

    def is_open(self, connection: Any) -> bool:
        return not connection.is_closed()

    def is_quiet(self, connection: Any) -> bool:
        handle = connection.djpool_socket
        return handle is not None and is_quiet(handle.fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        with cut_off(self.fileno(connection), timeout):
            connection.ping()

    def fileno(self, connection: Any) -> int | None:
        handle = connection.djpool_socket
        return None if handle is None else handle.fileno()

    def reset(self, connection: Any) -> None:
        if not connection._cmysql.reset_connection():  # noqa: SLF001
            raise mysql.connector.OperationalError("the server refuses to reset")


def _socket(connection: Any) -> socket.socket:
    # Closing leaves it there, closed.
    found: socket.socket = connection._socket.sock  # noqa: SLF001
    return found


def open_sockets() -> dict[int, int]:
    """This process's sockets: the number of each open file, by the system's own."""
    found: dict[int, int] = {}
    if os.path.isdir(OPEN_FILES):  # noqa: PTH112
        for name in os.listdir(OPEN_FILES):  # noqa: PTH208
            with contextlib.suppress(OSError):  # closed meanwhile
                state = os.fstat(int(name))
                if stat.S_ISSOCK(state.st_mode):
                    found[state.st_ino] = int(name)
    return found


def find_socket(connection: Any, before: Mapping[int, int]) -> socket.socket | None:
    """A second handle on the socket of a connection that does not show it.

    It is the socket that talks to where the connection was made to, and was not
    there `before`. If another thread made one just like it meanwhile, nobody knows
    which is which, and the answer is None.
    """
    handles: list[socket.socket] = []
    for inode, fd in open_sockets().items():
        if inode in before:
            continue
        with contextlib.suppress(OSError):  # closed meanwhile
            # os.dup() would return a number that is nobody's if an exception strikes.
            handle = socket.socket()
            os.dup2(fd, handle.fileno(), inheritable=False)
            same = os.fstat(handle.fileno()).st_ino == inode
            if same and _talks_to(handle, connection):
                handles.append(handle)
            else:
                handle.close()
    if len(handles) == 1:
        return handles[0]
    for handle in handles:
        handle.close()
    return None


def _talks_to(handle: socket.socket, connection: Any) -> bool:
    try:
        peer = handle.getpeername()
    except OSError:  # not connected
        return False
    if isinstance(peer, tuple):  # the internet's; Unix sockets have a path
        return bool(peer[1] == connection.server_port)
    return bool(peer == connection.unix_socket)


def _is_usable(connection: Any, part: Part) -> bool:
    # A signal's handler may ask amid a statement. The driver would then tell each of
    # the two the other's answer.
    amid = connection.djpool_calls or part.status(connection) & MORE_RESULTS
    return not amid and part.is_open(connection)


PYTHON_PART, C_PART = PythonPart(), CPart()


def part_of(connection: Any) -> Part:
    """The part of the driver that the connection belongs to."""
    return C_PART if hasattr(connection, "_cmysql") else PYTHON_PART


class ConnectorDriver(SessionDriver):
    """MySQL Connector/Python's words."""

    kept = (
        *("use_unicode", "converter", "_converter_class", "_converter_str_fallback"),
        *("_get_warnings", "_raise_on_warnings", "_buffered", "_raw", "_autocommit"),
        *("_sql_mode", "_time_zone", "_init_command", "_query_attrs"),
        *("_consume_results", "_read_timeout", "_write_timeout", "_charset_id"),
        *("_user", "_database"),
    )

    def __init__(self, connector: Connector) -> None:
        super().__init__(self._connect, connector)
        self._open = connector.connect
        self._rest = AUTOCOMMIT if connector.autocommit else 0

    def _connect(self, timeout: float) -> Any:
        before = open_sockets() if mysql.connector.HAVE_CEXT else {}
        connection = self._open(timeout)
        try:
            part = part_of(connection)
            part.prepare(connection, before, autocommit=self._autocommit)
            # It asks the server, and the driver asks it before each cursor. djpool
            # looked when it lent the connection; the statement itself finds the rest.
            # But it would also stumble over results that nobody has read.
            connection.is_connected = functools.partial(_is_usable, connection, part)
            connection.djpool_charset = connection.charset_id
            # It sends a statement, and reads the answer as far as its rows; whether
            # these were read the driver knows.
            self.count_calls(connection, "cmd_query")
        except BaseException:
            connection.close()
            raise
        return connection

    def doubt(self, connection: Any) -> None:
        # The driver's own, which asks the server before each cursor.
        vars(connection).pop("is_connected", None)

    def peek(self, connection: Any) -> bool:
        return part_of(connection).is_quiet(connection)

    def ping(self, connection: Any, timeout: float) -> None:
        part_of(connection).ping(connection, timeout)

    def at_rest(self, connection: Any) -> bool:
        # Not is_connected(), which may be the driver's own by now, and ask.
        part = part_of(connection)
        if not _is_usable(connection, part) or connection.unread_result:
            return False
        status = part.status(connection)
        return status & (IN_TRANSACTION | AUTOCOMMIT) == self._rest

    def come_to_rest(self, connection: Any) -> None:
        if connection.djpool_calls:
            raise ConnectionError("a statement was interrupted")
        usable = _is_usable(connection, part_of(connection))
        if not usable or connection.unread_result:
            raise ConnectionError("it is closed, or has results that nobody has read")
        self.roll_back(connection)
        connection.autocommit = self._autocommit
        self.challenge(connection)

    def fileno(self, connection: Any) -> int | None:
        return part_of(connection).fileno(connection)

    def reset(self, connection: Any) -> None:
        part_of(connection).reset(connection)

    def rows(self, connection: Any, statement: str) -> Iterable[Sequence[Any]]:
        connection.cmd_query(statement, raw=True)
        if not connection.unread_result:
            return ()
        rows: Sequence[Sequence[Any]] = connection.get_rows(raw=True)[0]
        return rows

    def restore_charset(self, connection: Any) -> None:
        now = connection.charset_id
        if now != connection.djpool_charset:
            connection.set_charset_collation(connection.djpool_charset)

    def close(self, connection: Any) -> None:
        try:
            # Or the driver would first read what nobody has read, for as long as that
            # takes: for ever, if it was interrupted amid an answer.
            with contextlib.suppress(AttributeError):  # the part in C just closes
                connection.unread_result = False
            connection.close()
        finally:
            if handle := getattr(connection, "djpool_socket", None):
                handle.close()


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have the driver give up by then; it counts whole seconds, one or more.

    Where there are several servers to fail over to, it does so for each of them.
    """
    servers = len(params.get("failover") or "?")
    others = {key: params[key] for key in params if key != "connect_timeout"}
    wanted = params.get("connection_timeout", params.get("connect_timeout"))
    return {**others, "connection_timeout": whole_seconds(wanted, timeout / servers)}


# The driver's own words for a pool.
POOLING_KEYS: Mapping[str, NativeKey] = {
    "pool_size": NativeKey(translate=lambda value: {"max_size": value}),
    "pool_name": NativeKey(translate=lambda value: {"name": value}),
    "pool_reset_session": NativeKey('Set "reset" to "auto", "always" or "never".'),
}

adapter = Adapter(
    offer=Offer(implementations=("native", "fallback"), keys=POOLING_KEYS),
    driver=ConnectorDriver,
    native=ConnectorNativePool,
    limit=limit_connect,
    pooling=tuple(POOLING_KEYS),
)
