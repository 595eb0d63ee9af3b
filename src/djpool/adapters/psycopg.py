"""psycopg 3, over psycopg_pool ("native") or over djpool's own stack."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from djpool.adapters.libpq import limit_connect
from djpool.adapters.sockets import is_quiet, wait_readable
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver, NativePool
from djpool.core.options import NativeKey, Offer, PoolOptions

# A plain int: this comparison is on the hot path.
IDLE = int(TransactionStatus.IDLE)
UNUSABLE = (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)


class PsycopgDriver(Driver):
    """psycopg's words."""

    vendor = "postgresql"

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.connect)
        self._autocommit = connector.autocommit

    def peek(self, connection: Any) -> bool:
        try:
            return is_quiet(connection.pgconn.socket)
        except psycopg.Error:
            return False  # closed: it has no socket

    def ping(self, connection: Any, timeout: float) -> None:
        # An empty query straight through libpq: one round trip, no transaction,
        # and a deadline, which Connection.execute() does not have.
        pgconn = connection.pgconn
        deadline = time.monotonic() + timeout
        pgconn.send_query(b"")
        while True:
            # Before each result, also the one that says that there is no more: it may
            # come later, and get_result() would wait for it, for ever, and with
            # Python's lock held, so that no other thread of the process runs.
            while pgconn.is_busy():
                left = max(deadline - time.monotonic(), 0.0)
                if not wait_readable(pgconn.socket, left):
                    raise TimeoutError(f"no answer to a ping in {timeout:g} s")
                pgconn.consume_input()
            if (result := pgconn.get_result()) is None:
                break
            result.clear()
        if pgconn.transaction_status != IDLE:
            raise psycopg.OperationalError(
                f"the connection is {pgconn.error_message.decode(errors='replace')}"
            )

    def at_rest(self, connection: Any) -> bool:
        return (
            connection.pgconn.transaction_status == IDLE
            and connection.autocommit is self._autocommit
        )

    def tidy(self, connection: Any) -> None:
        status = connection.pgconn.transaction_status
        if status in UNUSABLE:
            name = TransactionStatus(status).name
            raise psycopg.OperationalError(f"the connection came back {name}")
        connection.rollback()
        connection.autocommit = self._autocommit


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


def _into_native(key: str) -> NativeKey:
    return NativeKey(translate=lambda value: {"native": {key: value}})


# psycopg_pool's own keys, as Django's `OPTIONS["pool"]` takes them. Those that
# mean the same in djpool need no word here.
PSYCOPG_POOL_KEYS: Mapping[str, NativeKey] = {
    "check": NativeKey(translate=_check),
    "reset": NativeKey(translate=_reset),
    "num_workers": _into_native("num_workers"),
    "reconnect_timeout": NativeKey(
        'Callers connect themselves, as long as "timeout" lets them: set that.'
    ),
    "configure": NativeKey("Use Django's connection_created signal."),
    "kwargs": NativeKey('Put connection parameters into "OPTIONS" itself.'),
    "open": NativeKey('Leave it out; "min_size" says how many are kept open.'),
    "connection_class": NativeKey('Put "cursor_factory" into "OPTIONS" itself.'),
    "close_returns": NativeKey("Leave it out; Django closes connections."),
    "reconnect_failed": NativeKey("Leave it out; callers get the error itself."),
}

adapter = Adapter(
    offer=Offer(implementations=("native", "fallback"), keys=PSYCOPG_POOL_KEYS),
    driver=PsycopgDriver,
    native=_native,
    limit=limit_connect,
    missing=_missing,
)
