"""MySQL with a pool, through MySQL Connector/Python and its own Django backend."""

from typing import Any

from mysql.connector.django import base

from djpool.adapters.mysql_connector import adapter
from djpool.adapters.mysql_session import tell_init_command
from djpool.wrapper import PooledWrapper


class MySQLConnectorPooling(PooledWrapper):
    """What this backend and those that build on the driver's have in common."""

    djpool_adapter = adapter
    # The server's data, or else each new Django connection would ask for it.
    djpool_carried = ("isolation_level", "mysql_server_data")
    # Whether a warning of the server's is an error.
    djpool_settings = (*PooledWrapper.djpool_settings, "DEBUG")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        tell_init_command(self, conn_params)
        return super().get_new_connection(conn_params)


class DatabaseWrapper(MySQLConnectorPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.mysql_connector"`."""
