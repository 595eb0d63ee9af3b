"""Oracle's geography with a pool."""

from django.contrib.gis.db.backends.oracle import base

from djpool.backends.oracle.base import OraclePooling


class DatabaseWrapper(OraclePooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.gis_oracle"`."""
