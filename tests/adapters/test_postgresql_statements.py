"""Which statements change a PostgreSQL session, told from their text."""

from __future__ import annotations

import pytest
from psycopg import sql

from djpool.adapters.libpq import statements
from djpool.core.session import LONGEST, MEMORY, Change, Statements

HARMLESS = [
    "SELECT 1",
    "  select 1 ; ",
    "(SELECT 1) UNION (SELECT 2)",
    "-- SET x = 1\nSELECT 1",
    "/* SET x = 1 */ SELECT 1 -- and more",
    "INSERT INTO shop (a) VALUES (%s) RETURNING id",
    "WITH x AS (SELECT 1) UPDATE shop SET a = 1",
    "DELETE FROM shop",
    "EXPLAIN (ANALYZE) SELECT 1",
    "CREATE TABLE shop (template text)",
    "CREATE INDEX CONCURRENTLY a ON shop (b)",
    "ALTER TABLE shop ADD COLUMN a int",
    'DROP TABLE "shop" CASCADE',
    "TRUNCATE shop",
    "SET LOCAL statement_timeout = 1",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "BEGIN",
    "COMMIT",
    "LOCK TABLE shop",
    "COPY shop FROM STDIN",
    "NOTIFY news",
    "SHOW server_version",
    "DECLARE a NO SCROLL CURSOR FOR SELECT 1",
    "SELECT set_config('shop.tenant', %s, true)",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT nextval('numbers')",
]
CHANGING = [
    "SET statement_timeout = 1",
    "SET SESSION statement_timeout = 1",
    "set search_path to a",
    "SET ROLE a",
    "SET SESSION AUTHORIZATION a",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "RESET ALL",
    "RESET ROLE",
    "DISCARD ALL",
    "LISTEN news",
    "UNLISTEN *",
    "PREPARE a AS SELECT 1",
    "DEALLOCATE a",
    "EXECUTE a",
    "LOAD 'a'",
    "CALL a()",
    "DO $$ BEGIN END $$",
    "CREATE TEMP TABLE a (b int)",
    "CREATE LOCAL TEMPORARY TABLE a (b int)",
    "CREATE OR REPLACE TEMP VIEW a AS SELECT 1",
    "CREATE TABLE pg_temp.a (b int)",
    "SELECT 1 INTO TEMP a",
    "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
    "SELECT set_config('shop.tenant', %s, false)",
    "SELECT set_config('shop.tenant', %s, %s)",
    "SELECT 1; SET statement_timeout = 1",
    "/* x */ SET statement_timeout = 1",
    "SELECT setseed(0.5)",
    "SELECT dblink_connect('a', 'b')",
    "whatever comes",
]
LOCKING = [
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "select PG_ADVISORY_LOCK_SHARED(1, 2)",
    "WITH x AS (SELECT pg_advisory_lock(1)) SELECT * FROM x",
    "SELECT pg_advisory_unlock(1)",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert statements(statement) == statements(statement) == 0


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) == Change.SETTINGS


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.LOCKS


def test_types_are_learnt_anew() -> None:
    assert statements("CREATE EXTENSION IF NOT EXISTS hstore") & Change.TYPES
    assert statements("ALTER TYPE mood ADD VALUE 'so so'") & Change.TYPES


def test_what_is_not_text() -> None:
    assert statements(b"SELECT 1") == 0
    assert statements(b"SET a = 1") == Change.SETTINGS
    composed = sql.SQL("SELECT {}").format(sql.Identifier("a"))
    assert statements(composed) == 0
    assert statements(sql.SQL("SET ROLE {}").format(sql.Identifier("a")))
    assert statements(b"\xff") == Change.SETTINGS
    assert statements(object()) == Change.SETTINGS
    assert statements(["unhashable"]) == Change.SETTINGS


def test_it_remembers_few_and_short_ones() -> None:
    told = Statements(["SELECT"])
    for number in range(3 * MEMORY):
        assert told(f"SELECT {number}") == 0
    assert told("SELECT " + "1" * LONGEST) == 0
    assert len(told._known) <= MEMORY
    assert all(len(text) <= LONGEST for text in told._known)
