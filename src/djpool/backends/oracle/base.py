"""Oracle Database with a pool, through python-oracledb."""

from typing import Any

from django.db.backends.oracle import base
from django.db.backends.oracle.utils import dsn
from oracledb import OperationalError

from djpool.adapters.oracledb import adapter, connecting
from djpool.wrapper import PooledWrapper


class OraclePooling(PooledWrapper):
    """What the plain and the geographic backend have in common."""

    djpool_adapter = adapter
    # The first two say which LIKE the server understands.
    djpool_carried = ("operators", "pattern_ops", "oracle_version")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connect = connecting.get()
        # Not for another alias, which a receiver of connection_created may use.
        if connect is None or not self.djpool_opens:
            return super().get_new_connection(conn_params)
        described = self.settings_dict
        settings = {
            "dsn": dsn(described),
            "user": described["USER"],
            "password": described["PASSWORD"],
        }
        # These may have a dsn of their own.
        self.djpool_opened = connect(**settings | conn_params)
        return self.djpool_opened

    def create_cursor(self, name: Any = None) -> Any:
        if self.djpool_lease is None:
            return super().create_cursor(name)
        # What this cursor runs, djpool sees: it was not made by hand.
        raw = self.connection
        by_hand = raw.djpool_by_hand
        cursor = super().create_cursor(name)
        raw.djpool_by_hand = by_hand
        return cursor

    def init_connection_state(self) -> None:
        super().init_connection_state()
        # Whatever happens to it while Django asks which LIKE the server knows,
        # Django takes for an answer.
        if self.djpool_opens and not self.connection.is_healthy():
            raise OperationalError("the session ended while it was prepared")


class DatabaseWrapper(OraclePooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.oracle"`."""
