"""Runs pytest with the drivers that are second choice, which are chosen by process.

psycopg2 in place of psycopg 3, PyMySQL in place of mysqlclient, and the part of MySQL
Connector/Python that is written in C, which loads only where it comes before Python's
own OpenSSL:

    python -m tests.backends.other_drivers tests/backends/test_leases.py
"""

# Before anything that may import ssl.
import _mysql_connector  # isort: skip

import os
import sys

import pymysql
import pytest


def choose() -> None:
    """Have Django find these drivers, and no others."""
    pymysql.install_as_MySQLdb()
    # Django looks for psycopg 3 first; the tests themselves still use it.
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    try:
        import django.db.backends.postgresql.base as _  # noqa: F401
    finally:
        del sys.modules["psycopg"]


if __name__ == "__main__":
    assert _mysql_connector.MySQL
    os.environ["DJPOOL_TESTS_OTHER_DRIVERS"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    choose()
    sys.exit(pytest.main(sys.argv[1:]))
