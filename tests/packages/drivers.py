"""Choose the drivers of a process: each engine's first choice, or its second."""

from __future__ import annotations

import sys

#: What Django finds first.
FIRST = {
    "sqlite3": "sqlite3",
    "postgresql-native": "psycopg",
    "postgresql-fallback": "psycopg",
    "mysql@mariadb": "mysqlclient",
    "mysql_connector-native": "mysql",
    "oracle-native": "oracledb",
}
#: What Django finds if the first choice is not there.
SECOND = {
    "postgresql": "psycopg2",
    "mysql@mariadb": "pymysql",
    "mysql@mysql": "pymysql",
    "mysql_connector-fallback": "mysql",
}
DRIVERS = {"first": FIRST, "second": SECOND}


def choose(which: str) -> None:
    """Have Django find these drivers. Tracers have patched them by then."""
    if which == "first":
        return
    import pymysql

    pymysql.install_as_MySQLdb()
    # Django looks for psycopg 3 first.
    sys.modules["psycopg"] = None  # type: ignore[assignment]
