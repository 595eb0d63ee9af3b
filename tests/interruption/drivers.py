"""Drivers, and the choice of one of them. Imports nothing that may import ssl."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple


class Driver(NamedTuple):
    """A driver, under the name that these tests give it.

    Attributes:
        packages: The packages that contain its modules.
        options: `OPTIONS` without which it refuses some statements of the tests.
        cursors: The module of its class `SSCursor`, which reads each row when the
            project fetches it; None if it has no such class, or needs none.
    """

    packages: tuple[str, ...]
    options: dict[str, Any] = {}  # noqa: RUF012 (a default that nothing changes)
    cursors: str | None = None


# CLIENT.FOUND_ROWS, which Django sets, and CLIENT.MULTI_STATEMENTS.
SEVERAL = 2 | 1 << 16
# The server then sends text as it is stored, in another encoding than the driver's.
AS_STORED = "SET character_set_results = NULL"

# A TLS handshake takes ten times as long as all the rest of a connect. Only tests that
# are about TLS turn it on.
PLAIN = {"ssl_disabled": True}

DRIVERS = {
    # Tests need not wait for the disk.
    "sqlite3": Driver(("sqlite3",), {"init_command": "PRAGMA synchronous = OFF"}),
    "psycopg": Driver(("psycopg", "psycopg_pool", "psycopg_binary", "psycopg_c")),
    "psycopg in Python": Driver(("psycopg", "psycopg_pool")),
    "psycopg2": Driver(("psycopg2",)),
    "mysqlclient": Driver(("MySQLdb",), {"local_infile": True}, "MySQLdb.cursors"),
    "PyMySQL": Driver(
        ("pymysql",),
        {"local_infile": True, "client_flag": SEVERAL, **PLAIN},
        "pymysql.cursors",
    ),
    "Connector in Python": Driver(
        ("mysql.connector",), {"allow_local_infile": True, "use_pure": True, **PLAIN}
    ),
    "Connector in C": Driver(
        ("mysql.connector", "_mysql_connector"), {"allow_local_infile": True, **PLAIN}
    ),
    "oracledb": Driver(("oracledb",)),
}


def choose(driver: str) -> None:
    """Make Django find this driver. Call it before anything imports Django or ssl."""
    if driver == "PyMySQL":
        import pymysql

        pymysql.install_as_MySQLdb()
    elif driver == "psycopg2":
        # Django looks for psycopg 3 first.
        sys.modules["psycopg"] = None  # type: ignore[assignment]
    elif driver == "psycopg in Python":
        os.environ["PSYCOPG_IMPL"] = "python"
    elif driver == "Connector in C":
        # It loads only before Python's own OpenSSL.
        import _mysql_connector

        assert _mysql_connector.MySQL
