"""djpool's MySQL backend with PyMySQL in the place of mysqlclient."""

import pymysql

pymysql.install_as_MySQLdb()

from djpool.backends.mysql.base import DatabaseWrapper  # noqa: E402

__all__ = ["DatabaseWrapper"]
