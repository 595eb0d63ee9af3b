"""MySQL with a pool, through MySQL Connector/Python and its own Django backend."""

from mysql.connector.django import base

from djpool.adapters.mysql_connector import adapter
from djpool.wrapper import PooledWrapper


class MySQLConnectorPooling(PooledWrapper):
    """What this backend and those that build on the driver's have in common."""

    djpool_adapter = adapter
    # The server's data, or else each new Django connection would ask for it.
    djpool_carried = ("isolation_level", "mysql_server_data")
    # Whether a warning of the server's is an error.
    djpool_settings = (*PooledWrapper.djpool_settings, "DEBUG")


class DatabaseWrapper(MySQLConnectorPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.mysql_connector"`."""
