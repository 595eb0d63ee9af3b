"""psycopg 3, over psycopg_pool ("native") or over djpool's own stack."""

from __future__ import annotations

import importlib.util
import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import AdaptersMap
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import tuple_row

from djpool.adapters.libpq import Origin, limit_connect, statements
from djpool.adapters.libpq_errors import LibpqErrors
from djpool.adapters.sockets import cut_off, is_quiet, wait_readable
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import NativePool
from djpool.core.options import NativeKey, Offer, PoolOptions
from djpool.core.session import Change

# Plain ints: these comparisons are on the hot path.
IDLE = int(TransactionStatus.IDLE)
PIPELINE_OFF = int(PipelineStatus.OFF)
UNUSABLE = (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)


# What a connection keeps in Python, apart from `autocommit`.
KEPT = (
    *("isolation_level", "read_only", "deferrable", "row_factory", "cursor_factory"),
    *("server_cursor_factory", "prepare_threshold", "prepared_max"),
)
_kept = operator.attrgetter(*KEPT)


class PsycopgDriver(LibpqErrors):
    """psycopg's words."""

    vendor = "postgresql"
    changes = staticmethod(statements)
    looks = frozenset(
        (
            *("info", "closed", "broken", "autocommit", "isolation_level", "read_only"),
            *("deferrable", "row_factory", "cursor_factory", "server_cursor_factory"),
            *("prepare_threshold", "prepared_max", "fileno"),
        )
    )

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.connect)
        self._autocommit = connector.autocommit
        self._setup = connector.setup

    def peek(self, connection: Any) -> bool:
        try:
            return is_quiet(connection.pgconn.socket)
        except psycopg.Error:
            return False  # closed: it has no socket

    def ping(self, connection: Any, timeout: float) -> None:
        # An empty query: one round trip, and no transaction.
        _say(connection.pgconn, "", timeout)

    def at_rest(self, connection: Any) -> bool:
        return (
            connection.pgconn.transaction_status == IDLE
            and connection.pgconn.pipeline_status == PIPELINE_OFF
            and connection.autocommit is self._autocommit
        )

    def tidy(self, connection: Any, timeout: float) -> None:
        status = connection.pgconn.transaction_status
        if status in UNUSABLE:
            name = TransactionStatus(status).name
            raise psycopg.OperationalError(f"the connection came back {name}")
        if connection.pgconn.pipeline_status != PIPELINE_OFF:
            raise psycopg.OperationalError("the connection came back in pipeline mode")
        with cut_off(connection.pgconn.socket, timeout):
            connection.rollback()
        connection.autocommit = self._autocommit

    def remember(self, connection: Any) -> None:
        connection.djpool_origin = Origin(
            lambda query: _rows(connection, query),
            lambda text: sql.quote(text, connection),
            self._setup(),
        )
        if connection.pgconn.transaction_status != IDLE:  # with autocommit off
            connection.rollback()
        connection.djpool_kept = _kept(connection), *_lists(connection)

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        if change & Change.UNKNOWN:
            self._restore_python(connection)
        _say(connection.pgconn, connection.djpool_origin.way_back(), timeout)

    def _restore_python(self, connection: Any) -> None:
        values, adapters, notices, notifies = connection.djpool_kept
        for name, value in zip(KEPT, values, strict=True):
            if getattr(connection, name) != value:
                setattr(connection, name, value)
        connection._adapters = AdaptersMap(adapters)  # noqa: SLF001
        connection._notice_handlers[:] = notices  # noqa: SLF001
        connection._notify_handlers[:] = notifies  # noqa: SLF001


def _lists(connection: Any) -> tuple[AdaptersMap, list[Any], list[Any]]:
    """Copies of what one cannot assign, but add to. No public names remove it."""
    return (
        AdaptersMap(connection.adapters),
        list(connection._notice_handlers),  # noqa: SLF001
        list(connection._notify_handlers),  # noqa: SLF001
    )


def _rows(connection: Any, query: str) -> list[Any]:
    # Not by its `cursor_factory` and `row_factory`, which may be the project's own. Nor
    # prepared, whatever it says: it is asked once, and an old PgBouncer knows no such.
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), prepare=False).fetchall()


def _say(pgconn: PGconn, message: str, timeout: float) -> None:
    """Run statements, whose results are no matter, straight through libpq.

    So there is a deadline, which Connection.execute() does not have.
    """
    deadline = time.monotonic() + timeout
    pgconn.send_query(message.encode())
    failed = None
    while True:
        # Before each result, also the one that says that there is no more: it may come
        # later, and get_result() would wait for it, for ever, and with Python's lock
        # held, so that no other thread of the process runs.
        while pgconn.is_busy():
            if not wait_readable(pgconn.socket, max(deadline - time.monotonic(), 0.0)):
                raise TimeoutError(f"no answer in {timeout:g} s")
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        if result.status == ExecStatus.FATAL_ERROR:
            failed = result.error_message
        result.clear()
    if failed is None and pgconn.transaction_status != IDLE:
        failed = pgconn.error_message
    if failed is not None:
        raise psycopg.OperationalError(failed.decode(errors="replace").strip())


def _native(options: PoolOptions) -> NativePool:
    # Imported here because the fallback does without psycopg_pool.
    from djpool.adapters.psycopg_pool import PsycopgNativePool

    return PsycopgNativePool(options)


def _missing(options: PoolOptions) -> str | None:
    if options.implementation == "fallback" or importlib.util.find_spec("psycopg_pool"):
        return None
    return (
        'implementation "native" needs psycopg_pool, which is not installed: '
        "install psycopg[pool], or set implementation to fallback"
    )


def _check(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {"check": False}
    if callable(value):
        # What Django's documentation of its own pool suggests.
        if getattr(value, "__qualname__", "") == "ConnectionPool.check_connection":
            return {"check": True}
        raise ValueError('"auto", True or False; djpool knows how to check')
    return {"check": value}


def _reset(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if callable(value):
        raise ValueError('"auto", "always" or "never"; djpool knows how to reset')
    return {"reset": value}


def _as_it_is(key: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda value: {key: value}


def _into_native(key: str) -> NativeKey:
    return NativeKey(translate=lambda value: {"native": {key: value}})


# psycopg_pool's own keys, as Django's `OPTIONS["pool"]` takes them. Those that
# mean the same in djpool need no word here.
PSYCOPG_POOL_KEYS: Mapping[str, NativeKey] = {
    "check": NativeKey(translate=_check),
    "reset": NativeKey(translate=_reset),
    # None is what both say in place of leaving them out.
    "max_size": NativeKey(translate=_as_it_is("max_size"), silent=(None,)),
    "name": NativeKey(translate=_as_it_is("name"), silent=(None,)),
    "num_workers": _into_native("num_workers"),
    "conninfo": NativeKey(
        'Put connection parameters into "OPTIONS" itself.', silent=("",)
    ),
    "reconnect_timeout": NativeKey(
        'Callers connect themselves, as long as "timeout" lets them: set that.',
        silent=(300.0,),
    ),
    "configure": NativeKey("Use Django's connection_created signal."),
    "kwargs": NativeKey('Put connection parameters into "OPTIONS" itself.'),
    "open": NativeKey('Leave it out; "min_size" says how many are kept open.'),
    "connection_class": NativeKey(
        'Put "cursor_factory" into "OPTIONS" itself.', silent=(psycopg.Connection,)
    ),
    "close_returns": NativeKey(
        "Leave it out; Django closes connections.", silent=(False,)
    ),
    "reconnect_failed": NativeKey(
        "Leave it out; callers get the error itself.", silent=(None,)
    ),
}

adapter = Adapter(
    offer=Offer(implementations=("native", "fallback"), keys=PSYCOPG_POOL_KEYS),
    driver=PsycopgDriver,
    native=_native,
    limit=limit_connect,
    missing=_missing,
)
