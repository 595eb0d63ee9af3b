"""What each driver's errors mean to a pool: a login refused, full, stepped down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mysql.connector
import MySQLdb
import oracledb as oracledb_itself
import psycopg as psycopg_itself
import psycopg2 as psycopg2_itself
import pymysql
import pytest

from djpool.adapters import mysql_connector, mysqldb, oracledb, psycopg, psycopg2
from djpool.core import Driver
from djpool.core.adapter import Connector

NOTHING = Connector(lambda timeout: None)
PSYCOPG = psycopg.PsycopgDriver(NOTHING)
PSYCOPG2 = psycopg2.Psycopg2Driver(NOTHING)
MYSQL = mysqldb.MysqlclientDriver(NOTHING)
CONNECTOR = mysql_connector.ConnectorDriver(NOTHING)
ORACLE = oracledb.OracleDriver(NOTHING)


def postgresql(state: str) -> list[tuple[Driver, Exception]]:
    """The error of a statement that has this SQLSTATE."""
    with_state: Any = psycopg_itself.errors.lookup(state)
    with_code: Any = type(
        "Coded", (psycopg2_itself.OperationalError,), {"pgcode": state}
    )
    return [(PSYCOPG, with_state("some words")), (PSYCOPG2, with_code("some words"))]


def unconnected(words: str) -> list[tuple[Driver, Exception]]:
    """The error of a connect, which has no SQLSTATE."""
    return [
        (PSYCOPG, psycopg_itself.OperationalError(f"connection failed: {words}")),
        (PSYCOPG2, psycopg2_itself.OperationalError(words)),
    ]


def mysql_(number: int, words: str = "some words") -> list[tuple[Driver, Exception]]:
    return [
        (MYSQL, MySQLdb.OperationalError(number, words)),
        (MYSQL, pymysql.err.OperationalError(number, words)),
        (CONNECTOR, mysql.connector.DatabaseError(words, number)),
    ]


def oracle(number: int) -> list[tuple[Driver, Exception]]:
    return [(ORACLE, oracledb_itself.DatabaseError(f"ORA-{number:05}: some words"))]


def nobody() -> list[tuple[Driver, Exception]]:
    """Errors that have no number at all."""
    drivers = (PSYCOPG, PSYCOPG2, MYSQL, CONNECTOR, ORACLE)
    return [(driver, error) for driver in drivers for error in (OSError(), KeyError(1))]


MEANINGS: dict[str, Callable[[Driver, Exception], bool]] = {
    "login": lambda driver, error: driver.refuses_login(error),
    "full": lambda driver, error: driver.is_full(error),
    "stepped down": lambda driver, error: driver.stepped_down(error),
}


@pytest.mark.parametrize(
    ("errors", "meaning"),
    [
        (postgresql("28P01"), {"login"}),
        (postgresql("28000"), {"login"}),
        (postgresql("53300"), {"full"}),
        (postgresql("25006"), {"stepped down"}),
        (postgresql("57P01"), {"stepped down"}),
        (postgresql("57P02"), {"stepped down"}),
        (postgresql("57P03"), {"full", "stepped down"}),
        (postgresql("57014"), set()),
        (postgresql("40001"), set()),
        (unconnected('FATAL:  password authentication failed for user "x"'), {"login"}),
        (unconnected("fe_sendauth: no password supplied"), {"login"}),
        (unconnected('FATAL:  role "shop" does not exist'), {"login"}),
        (unconnected('FATAL:  no pg_hba.conf entry for host "::1"'), {"login"}),
        (unconnected("FATAL:  sorry, too many clients already"), {"full"}),
        (unconnected('FATAL:  too many connections for role "shop"'), {"full"}),
        (unconnected("FATAL:  remaining connection slots are reserved for"), {"full"}),
        (unconnected("FATAL:  the database system is starting up"), {"full"}),
        (unconnected("FATAL:  the database system is shutting down"), {"full"}),
        (unconnected('FATAL:  database "shop" does not exist'), set()),
        (unconnected("Connection refused"), set()),
        (mysql_(1045), {"login"}),
        (mysql_(1698), {"login"}),
        (mysql_(1044), set()),
        (mysql_(1049), set()),
        (mysql_(1040), {"full"}),
        (mysql_(1203), {"full"}),
        (mysql_(1226), {"full"}),
        (mysql_(1290, "running with the --read-only option"), {"stepped down"}),
        (mysql_(1290, "running with the --super-read-only option"), {"stepped down"}),
        (mysql_(1290, "running with the --secure-file-priv option"), set()),
        (mysql_(1792), {"stepped down"}),
        (mysql_(1836), {"stepped down"}),
        (mysql_(1053), {"stepped down"}),
        (mysql_(1062), set()),
        (mysql_(2006), set()),
        (mysql_(2013), set()),
        (oracle(1017), {"login"}),
        (oracle(18), {"full"}),
        (oracle(20), {"full"}),
        (oracle(12516), {"full"}),
        (oracle(1033), {"full"}),
        (oracle(16000), {"stepped down"}),
        (oracle(1089), {"stepped down"}),
        (oracle(1092), {"stepped down"}),
        (oracle(942), set()),
        (nobody(), set()),
    ],
)  # fmt: skip
def test_what_it_means(
    errors: list[tuple[Driver, Exception]], meaning: set[str]
) -> None:
    for driver, error in errors:
        found = {name for name, asks in MEANINGS.items() if asks(driver, error)}
        assert found == meaning, (driver, error)


def test_a_driver_of_which_nothing_is_known_says_no() -> None:
    driver = Driver(lambda timeout: None)
    assert not any(asks(driver, OSError()) for asks in MEANINGS.values())
