"""MySQL's and MariaDB's geography with a pool."""

from django.contrib.gis.db.backends.mysql import base

from djpool.backends.mysql.base import MySQLPooling


class DatabaseWrapper(MySQLPooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.gis_mysql"`."""
