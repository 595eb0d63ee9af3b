"""MySQL and MariaDB with a pool, through mysqlclient or PyMySQL."""

from typing import Any

from django.db.backends.mysql import base

from djpool.adapters.mysql_session import tell_init_command
from djpool.adapters.mysqldb import adapter
from djpool.wrapper import PooledWrapper


class MySQLPooling(PooledWrapper):
    """What the plain and the geographic backend have in common."""

    djpool_adapter = adapter
    # The server's data, or else each new Django connection would ask for it.
    djpool_carried = ("isolation_level", "mysql_server_data")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        tell_init_command(self, conn_params)
        return super().get_new_connection(conn_params)


class DatabaseWrapper(MySQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.mysql"`."""
