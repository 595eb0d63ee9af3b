"""psycopg2 under djpool's own stack."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE as IDLE

from djpool.adapters.libpq import LibpqErrors, limit_connect
from djpool.adapters.sockets import cut_off, is_quiet
from djpool.core.adapter import Adapter, Connector
from djpool.core.options import Offer


class Psycopg2Driver(LibpqErrors):
    """psycopg2's words."""

    vendor = "postgresql"

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.connect)
        self._autocommit = connector.autocommit

    def peek(self, connection: Any) -> bool:
        return not connection.closed and is_quiet(connection.fileno())

    def ping(self, connection: Any, timeout: float) -> None:
        with cut_off(connection.fileno(), timeout), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not self._autocommit:
            connection.rollback()

    def at_rest(self, connection: Any) -> bool:
        return (
            not connection.closed
            and connection.get_transaction_status() == IDLE
            and connection.autocommit is self._autocommit
        )

    def tidy(self, connection: Any) -> None:
        connection.rollback()
        if connection.get_transaction_status() != IDLE:
            # With autocommit on, rollback() overlooks a BEGIN sent as a statement.
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        connection.autocommit = self._autocommit


adapter = Adapter(offer=Offer(), driver=Psycopg2Driver, limit=limit_connect)
