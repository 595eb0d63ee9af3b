"""SpatiaLite with a pool. In-memory databases are not pooled."""

from django.contrib.gis.db.backends.spatialite import base

from djpool.backends.sqlite3.base import SQLitePooling


class DatabaseWrapper(SQLitePooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.spatialite"`."""
