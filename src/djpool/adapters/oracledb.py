"""python-oracledb, over its own session pool ("native") or over djpool's stack.

In thin mode, that is. Thick mode, which is Oracle's own client library, has the
fallback only, and keeps no deadline while it connects.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import oracledb

from djpool.adapters.oracledb_inside import (
    Deadline,
    Haste,
    find_socket,
    keep_from_children,
)
from djpool.adapters.oracledb_pool import KNOWN, OracleNativePool
from djpool.adapters.oracledb_session import Origin, statements
from djpool.adapters.sockets import is_quiet
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver, NativePool
from djpool.core.options import (
    NativeKey,
    Offer,
    PoolOptions,
    Problem,
    ProblemKind,
)
from djpool.core.session import Change, Irreparable

#: How the Django connection that opens a session is to get it; None is "as ever".
connecting: ContextVar[Callable[..., Any] | None] = ContextVar(
    "connecting", default=None
)

# Milliseconds for the server's answer to a farewell. It need not answer.
FAREWELL = 500
# Kept by the driver in Python, and so at no cost the same on each lease.
KEPT = (
    "autocommit",
    "call_timeout",
    "inputtypehandler",
    "outputtypehandler",
    "stmtcachesize",
)
_kept = operator.attrgetter(*KEPT)
# ORA numbers. No password was given, it is wrong, it has expired.
LOGIN = frozenset({1005, 1017, 28001})
# Too many sessions, or processes; no handler free, in three ways; about to start.
FULL = frozenset({18, 20, 12516, 12519, 12520, 1033})
# Open for reading only; shut, shutting down, or ended.
STEPPED_DOWN = frozenset({16000, 1034, 1089, 1090, 1092})
# How the codes begin of what the server says, and of what the driver says of its wrong
# use, before it sends anything. Timeouts, and the like, are DPY-4.
ANSWERS = ("ORA-", "DPY-1", "DPY-2")
# Also kept there, but seldom set.
ALSO_KEPT = ("operation_callback", "round_trip_callback")
_also_kept = operator.attrgetter(*ALSO_KEPT)
# Rows at a time: more than there are settings, roles and contexts.
MANY = 1000


class OracleDriver(Driver):
    """python-oracledb's words."""

    vendor = "oracle"
    changes = staticmethod(statements)
    looks = frozenset(
        (
            *("dsn", "username", "version", "thin", "autocommit", "is_healthy"),
            *("call_timeout", "stmtcachesize", "transaction_in_progress", "db_name"),
            *("service_name", "instance_name", "session_id", "serial_num"),
        )
    )

    def __init__(self, connector: Connector) -> None:
        super().__init__(self._connect)
        self._open = connector.connect
        self._setup = connector.setup
        #: Opens a session: with a deadline, and what `oracledb.connect()` takes.
        self.opens: Callable[..., Any] = open_session

    def _connect(self, timeout: float) -> Any:
        deadline, connection = Deadline(timeout), None
        try:
            with deadline:
                token = connecting.set(partial(self.opens, deadline))
                try:
                    connection = self._open(timeout)
                except oracledb.Error as error:
                    if deadline.passed:
                        raise _too_late(timeout, f": {error}") from error
                    raise
                finally:
                    connecting.reset(token)
            if deadline.passed:  # in the last moment; it was cut off
                raise _too_late(timeout)
            keep_from_children(connection)
            connection.djpool_socket = find_socket(connection._impl)  # noqa: SLF001
            connection.djpool_kept = _kept(connection)
            connection.djpool_by_hand = False
            # In the instance, where whoever has the connection looks first.
            connection.cursor = _noted(connection, connection.cursor)
        except BaseException:
            if connection is not None:
                with contextlib.suppress(oracledb.Error):
                    connection.close()
            deadline.give_up()  # the block may not have begun, or not have ended
            raise
        return connection

    def peek(self, connection: Any) -> bool:
        if not connection.is_healthy():
            return False  # it saw the end itself, or was told of one to come
        handle = connection.djpool_socket
        return handle is None or is_quiet(handle.fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        _assert_healthy(connection)
        patience = connection.call_timeout
        _wait_at_most(connection, timeout)
        connection.ping()
        _assert_healthy(connection)
        connection.call_timeout = patience

    def at_rest(self, connection: Any) -> bool:
        return (
            connection.is_healthy()
            and not connection.transaction_in_progress
            and _kept(connection) == connection.djpool_kept
        )

    def tidy(self, connection: Any, timeout: float) -> None:
        _assert_healthy(connection)
        if connection.transaction_in_progress:
            _wait_at_most(connection, timeout)  # the old one is among what is kept
            connection.rollback()
        for name, value in zip(KEPT, connection.djpool_kept, strict=True):
            setattr(connection, name, value)

    def prove(self, connection: Any, timeout: float) -> None:
        if connection.djpool_by_hand:
            raise Irreparable("somebody made cursors by hand, which djpool cannot see")
        super().prove(connection, timeout)

    def remember(self, connection: Any) -> None:
        # Each session is asked: triggers that run at a logon may tell them apart.
        origin = Origin(self._setup(), partial(_rows, connection))
        connection.djpool_origin = origin
        connection.djpool_also_kept = _also_kept(connection)
        connection.djpool_schema = connection.current_schema

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        if connection.djpool_by_hand:
            raise Irreparable("somebody made cursors by hand, which djpool cannot see")
        if change & Change.UNKNOWN:
            self._restore_python(connection)
        deadline = time.monotonic() + timeout
        patience = connection.call_timeout

        def say(
            statement: str, parameters: Mapping[str, Any]
        ) -> Iterable[Sequence[Any]]:
            _assert_healthy(connection)
            _wait_at_most(connection, deadline - time.monotonic())
            return _rows(connection, statement, parameters)

        connection.djpool_origin.go_back(say)
        _assert_healthy(connection)
        connection.call_timeout = patience

    def _restore_python(self, connection: Any) -> None:
        for name, value in zip(ALSO_KEPT, connection.djpool_also_kept, strict=True):
            setattr(connection, name, value)
        if connection.current_schema != connection.djpool_schema:
            # It was set here, and the server is told with the next statement.
            connection.current_schema = connection.djpool_origin.schema
            connection.djpool_schema = connection.djpool_origin.schema

    def answered(self, error: BaseException) -> bool:
        if not isinstance(error, oracledb.Error):
            return False
        code = getattr(error.args[0] if error.args else None, "full_code", "")
        return str(code).startswith(ANSWERS)

    def refuses_login(self, error: BaseException) -> bool:
        return _number(error) in LOGIN

    def is_full(self, error: BaseException) -> bool:
        return _number(error) in FULL

    def stepped_down(self, error: BaseException) -> bool:
        return _number(error) in STEPPED_DOWN

    def close(self, connection: Any) -> None:
        try:
            if connection.is_healthy():
                connection.call_timeout = FAREWELL
            connection.close()
        finally:
            # After a reset by the server, the driver forgets to.
            if (handle := connection.djpool_socket) is not None:
                handle.close()


def _number(error: BaseException) -> int | None:
    """Its ORA number, also where the driver has put it into one of its own."""
    found = re.search(r"ORA-(\d{5})", str(error))
    return None if found is None else int(found[1])


def _noted(connection: Any, cursor: Callable[..., Any]) -> Callable[..., Any]:
    """A connection's `cursor()` that says so: what such a cursor runs is not seen."""

    def note(*args: Any, **kwargs: Any) -> Any:
        connection.djpool_by_hand = True
        return cursor(*args, **kwargs)

    return note


def _rows(
    connection: Any, statement: str, parameters: Mapping[str, Any]
) -> Iterable[Sequence[Any]]:
    with oracledb.Cursor(connection) as cursor:
        cursor.arraysize = cursor.prefetchrows = MANY
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def _too_late(timeout: float, why: str = "") -> oracledb.OperationalError:
    return oracledb.OperationalError(
        f"no session could be opened in {timeout:g} s (timeout){why}"
    )


def _wait_at_most(connection: Any, seconds: float) -> None:
    """Limit what is said next: an answer comes in so many seconds, or an error does.

    The driver waits for the answer, then as long again for that to its "never mind".
    """
    connection.call_timeout = max(int(seconds * 1000 / 2), 1)


def _assert_healthy(connection: Any) -> None:
    # Before each word about timeouts, too: without a socket, thin mode takes the
    # process down with it.
    if not connection.is_healthy():
        raise oracledb.OperationalError("the connection is closed, or about to be")


def open_session(deadline: Deadline, dsn: str, **settings: Any) -> Any:
    """`oracledb.connect()` with a deadline."""
    wanted = settings.pop("operation_callback", None)

    def hear(name: str, arguments: Mapping[str, Any]) -> Any:
        inside = arguments.get("impl")
        if inside is not None and inside.thin:
            Haste(inside.connect_params).apply(deadline.seconds)
            deadline.watch(inside)
        return None if wanted is None else wanted(name, arguments)

    connection = oracledb.connect(dsn, operation_callback=hear, **settings)
    connection.operation_callback = wanted
    return connection


@dataclass(frozen=True, slots=True)
class OracleAdapter(Adapter):
    """Its native pool opens the sessions itself."""

    def build(
        self, options: PoolOptions, connector: Connector
    ) -> tuple[Driver, NativePool | None]:
        driver, native = Adapter.build(self, options, connector)
        if isinstance(driver, OracleDriver) and isinstance(native, OracleNativePool):
            native.beside = open_session
            driver.opens = native.open_session
        return driver, native


def _missing(options: PoolOptions) -> str | None:
    if "operation_callback" not in inspect.signature(oracledb.connect).parameters:
        return (
            f"it needs python-oracledb 26.1 or later, not {oracledb.__version__}, "
            "which waits without a limit while it logs on"
        )
    if options.implementation == "fallback":
        return None
    if not oracledb.is_thin_mode():
        return (
            'implementation "native" is for python-oracledb\'s thin mode: after '
            "init_oracle_client(), set implementation to fallback"
        )
    if not KNOWN:
        return (
            f"the pool of python-oracledb {oracledb.__version__} is not one that "
            "djpool knows from inside: set implementation to fallback"
        )
    return None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number") from None


def _renamed(option: str) -> NativeKey:
    return NativeKey(translate=lambda value: {option: value})


def _milliseconds(option: str) -> NativeKey:
    return NativeKey(translate=lambda value: {option: _whole(value) / 1000})


def _increment(value: Any) -> Mapping[str, Any]:
    if _whole(value) < 0:
        raise ValueError("0 or more")
    return {}  # one session is opened at a time, and not before it is wanted


def _getmode(value: Any) -> Mapping[str, Any]:
    if value in (oracledb.POOL_GETMODE_WAIT, oracledb.POOL_GETMODE_TIMEDWAIT):
        return {}  # who waits, waits up to the deadline
    raise ValueError(
        'POOL_GETMODE_WAIT or POOL_GETMODE_TIMEDWAIT; callers wait up to "timeout", '
        "and never get more than max_size"
    )


def _homogeneous(value: Any) -> Mapping[str, Any]:
    if value is not True:
        raise ValueError("True: all sessions of an alias are the same user's")
    return {}


def _max_lifetime_session(value: Any) -> Mapping[str, Any]:
    return {"max_lifetime": _whole(value) or None}


def _ping_interval(value: Any) -> Mapping[str, Any]:
    seconds = _whole(value)
    if seconds > 0:
        return {"check_after": seconds}
    return {"check": seconds == 0}


def _wait_timeout(value: Any) -> Mapping[str, Any]:
    milliseconds = _whole(value)
    if milliseconds < 1:
        raise ValueError(
            '1 or more milliseconds; leave it out for the default of "timeout"'
        )
    return {"timeout": milliseconds / 1000}


def _elsewhere(setting: str) -> NativeKey:
    return NativeKey(f"Say it in DATABASES, with {setting}.")


# The names of `oracledb.create_pool()`, as Django's `OPTIONS["pool"]` takes them.
# Among them is "timeout", for idle seconds; here that is djpool's deadline.
CREATE_POOL_KEYS: Mapping[str, NativeKey] = {
    **dict.fromkeys(
        inspect.signature(oracledb.ConnectParams).parameters,
        NativeKey('Put connection parameters into "OPTIONS" itself.'),
    ),
    # Django passes these on from settings of its own.
    "user": _elsewhere("USER"),
    "password": _elsewhere("PASSWORD"),
    **dict.fromkeys(
        ("dsn", "host", "port", "service_name", "sid"),
        _elsewhere("NAME, or with NAME, HOST and PORT"),
    ),
    "min": _renamed("min_size"),
    "max": _renamed("max_size"),
    "increment": NativeKey(translate=_increment),
    "getmode": NativeKey(translate=_getmode),
    "wait_timeout": NativeKey(translate=_wait_timeout),
    "max_lifetime_session": NativeKey(translate=_max_lifetime_session),
    "ping_interval": NativeKey(translate=_ping_interval),
    "ping_timeout": _milliseconds("check_timeout"),
    "homogeneous": NativeKey(translate=_homogeneous),
    "pool_alias": NativeKey(translate=lambda value: {"name": value}, silent=(None,)),
    "session_callback": NativeKey(
        "Use Django's connection_created signal.", silent=(None,)
    ),
    "connectiontype": NativeKey(
        'Put "conn_class" into "OPTIONS" itself.', silent=(None,)
    ),
    "pool_class": NativeKey(
        "Leave it out; djpool has its own.", silent=(oracledb.ConnectionPool,)
    ),
    "params": NativeKey(
        'Put connection parameters into "OPTIONS" itself.', silent=(None,)
    ),
    "max_sessions_per_shard": NativeKey(
        "Leave it out; shards have no pool here.", silent=(0,)
    ),
    "soda_metadata_cache": NativeKey(
        "Leave it out; it is for thick mode's pool.", silent=(False,)
    ),
}
# What only a pool takes. Django passes these to create_pool() from OPTIONS itself,
# too; djpool's native pool would take no notice of some of them.
OF_POOLS = frozenset(
    {
        *inspect.signature(oracledb.PoolParams).parameters,
        *("pool_class", "params"),
    }
) - frozenset(inspect.signature(oracledb.ConnectParams).parameters)


def _doubtful(given: Mapping[Any, Any]) -> Sequence[Problem]:
    """`timeout` beside a key that says that the dict is one for create_pool()."""
    theirs = [key for key in given if key in OF_POOLS - {"timeout"}]
    if "timeout" not in given or not theirs:
        return ()
    return [
        Problem(
            ProblemKind.REFUSED,
            "timeout",
            f"timeout ({given['timeout']!r}) beside {theirs[0]} can be oracledb's, "
            "which closes idle sessions, or djpool's, which is a caller's deadline",
            'Say "max_idle" for idle seconds, "wait_timeout" for a deadline in '
            "milliseconds.",
        )
    ]


adapter = OracleAdapter(
    offer=Offer(
        implementations=("native", "fallback"),
        keys=CREATE_POOL_KEYS,
        doubtful=_doubtful,
    ),
    driver=OracleDriver,
    native=OracleNativePool,
    missing=_missing,
    pooling=("pool_alias",),
    of_pools=OF_POOLS,
)
