"""PostgreSQL with a pool, through psycopg 3 or psycopg2, as Django chooses."""

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from djpool.wrapper import PooledWrapper

if is_psycopg3:
    from djpool.adapters.psycopg import adapter
else:
    from djpool.adapters.psycopg2 import adapter


class PostgreSQLPooling(PooledWrapper):
    """What PostgreSQL and PostGIS have in common."""

    djpool_adapter = adapter
    djpool_carried = ("isolation_level", "pg_version")


class DatabaseWrapper(PostgreSQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.postgresql"`."""
