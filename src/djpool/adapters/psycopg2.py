"""psycopg2 under djpool's own stack."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from psycopg2.extensions import TRANSACTION_STATUS_IDLE as IDLE
from psycopg2.extensions import QuotedString, cursor

from djpool.adapters.libpq import Origin, limit_connect, statements
from djpool.adapters.libpq_errors import LibpqErrors
from djpool.adapters.proxies import driver_s_own
from djpool.adapters.sockets import cut_off, is_quiet
from djpool.core.adapter import Adapter, Connector
from djpool.core.options import Offer
from djpool.core.session import Change

# What a connection keeps in Python, apart from `autocommit`. Assigning the first ones
# sets defaults in the session.
KEPT = ("isolation_level", "readonly", "deferrable", "cursor_factory")
_kept = operator.attrgetter(*KEPT)


class Psycopg2Driver(LibpqErrors):
    """psycopg2's words."""

    vendor = "postgresql"
    changes = staticmethod(statements)
    looks = frozenset(
        (
            *("info", "closed", "status", "encoding", "dsn", "server_version"),
            *("protocol_version", "get_dsn_parameters", "get_parameter_status"),
            *("get_transaction_status", "get_backend_pid", "autocommit", "readonly"),
            *("isolation_level", "deferrable", "fileno", "isexecuting", "async"),
        )
    )
    takes_stand_ins = False  # its register_… functions want the exact type

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.connect)
        self._autocommit = connector.autocommit
        self._setup = connector.setup
        # By the id of an open connection, which takes no attributes.
        self._origins: dict[int, tuple[Origin, Kept]] = {}

    def peek(self, connection: Any) -> bool:
        return not connection.closed and is_quiet(connection.fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        with cut_off(connection.fileno(), timeout), cursor_of(connection) as asking:
            asking.execute("SELECT 1")
        if not self._autocommit:
            connection.rollback()

    def at_rest(self, connection: Any) -> bool:
        return (
            not connection.closed
            and connection.get_transaction_status() == IDLE
            and connection.autocommit is self._autocommit
        )

    def tidy(self, connection: Any, timeout: float) -> None:
        with cut_off(connection.fileno(), timeout):
            connection.rollback()
            if connection.get_transaction_status() != IDLE:
                # With autocommit on, rollback() overlooks a BEGIN sent as a statement.
                with cursor_of(connection) as saying:
                    saying.execute("ROLLBACK")
        connection.autocommit = self._autocommit

    def remember(self, connection: Any) -> None:
        origin = Origin(
            lambda query: _rows(connection, query),
            lambda text: _literal(connection, text),
            self._setup(),
        )
        if not self._autocommit:
            connection.rollback()
        kept = Kept(
            _kept(connection),
            connection.encoding,
            dict(connection.string_types),
            dict(connection.binary_types),
        )
        self._origins[id(connection)] = origin, kept

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        origin, kept = self._origins[id(connection)]
        way_back = origin.way_back()
        with cut_off(connection.fileno(), timeout):
            if change & Change.UNKNOWN:
                kept.give_back(connection)
            with cursor_of(connection) as asking:
                asking.execute(way_back)
        if not self._autocommit:
            connection.commit()

    def close(self, connection: Any) -> None:
        self._origins.pop(id(connection), None)
        connection.close()


class Kept(NamedTuple):
    """What a connection kept in Python when it was new."""

    values: tuple[Any, ...]
    encoding: str
    string_types: dict[int, Any]
    binary_types: dict[int, Any]

    def give_back(self, connection: Any) -> None:
        """Let the connection have it again."""
        for name, value in zip(KEPT, self.values, strict=True):
            if getattr(connection, name) != value:
                setattr(connection, name, value)
        if connection.encoding != self.encoding:
            connection.set_client_encoding(self.encoding)
        for kept, now in (
            (self.string_types, connection.string_types),
            (self.binary_types, connection.binary_types),
        ):
            now.clear()
            now.update(kept)
        connection.notices.clear()


def cursor_of(connection: Any) -> Any:
    """A cursor of the driver's own, whatever `cursor_factory` is."""
    return driver_s_own(connection).cursor(cursor_factory=cursor)


def _rows(connection: Any, query: str) -> list[Any]:
    with cursor_of(connection) as asking:
        asking.execute(query)
        return list(asking.fetchall())


def _literal(connection: Any, text: str) -> str:
    adapted = QuotedString(text)
    adapted.prepare(driver_s_own(connection))
    return str(adapted)


adapter = Adapter(offer=Offer(), driver=Psycopg2Driver, limit=limit_connect)
