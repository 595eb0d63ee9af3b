"""PostGIS with a pool, through psycopg 3."""

from django.contrib.gis.db.backends.postgis import base

from djpool.backends.postgresql.base import PostgreSQLPooling


class DatabaseWrapper(PostgreSQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.postgis"`."""
