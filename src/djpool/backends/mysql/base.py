"""MySQL and MariaDB with a pool, through mysqlclient or PyMySQL."""

from django.db.backends.mysql import base

from djpool.adapters.mysqldb import adapter
from djpool.wrapper import PooledWrapper


class MySQLPooling(PooledWrapper):
    """What the plain and the geographic backend have in common."""

    djpool_adapter = adapter
    # The server's data, or else each new Django connection would ask for it.
    djpool_carried = ("isolation_level", "mysql_server_data")


class DatabaseWrapper(MySQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.mysql"`."""
