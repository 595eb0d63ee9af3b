"""PostgreSQL with a pool, through psycopg 3."""

from django.db.backends.postgresql import base

from djpool.adapters.psycopg import adapter
from djpool.wrapper import PooledWrapper


class PostgreSQLPooling(PooledWrapper):
    """What PostgreSQL and PostGIS have in common."""

    djpool_adapter = adapter
    djpool_carried = ("isolation_level", "pg_version")


class DatabaseWrapper(PostgreSQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.postgresql"`."""
