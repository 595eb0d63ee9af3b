"""Which statements change a PostgreSQL session, told from their text."""

from __future__ import annotations

import pytest
from psycopg import sql

from djpool.adapters.libpq import statements
from djpool.core.session import (
    CHANGES,
    IN_DOUBT,
    LONGEST,
    MEMORY,
    Change,
    Statements,
    Trace,
)

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
    # Comments are white space, and literals are data.
    "SELECT 'SET x; LOCK TABLES'",
    "SELECT 'it''s; SET x = 1'",
    "SELECT E'it\\'s; SET x = 1; \\\\'",
    "SELECT $$; SET x = 1; $$, $a$; SET x = 1; $$ $a$",
    "SELECT 1 /* /* SET x = 1 */ ; SET x = 1 */",
    "SELECT 1 -- it's; SET x = 1",
    'SELECT 1 FROM "; SET x", "it\'s"',
    "SELECT a$$b, c$$d FROM shop",
    "SELECT 1 WHERE a LIKE %s ESCAPE '\\'",
    "SELECT set_config('shop.tenant', ') , false)', true)",
    "SELECT set_config/**/('a', lower(concat('b', ',')), /* not false */ TRUE)",
    "SELECT set_config('a', set_config('b', 'c', true), true), (SELECT 1), 'false'",
    "INSERT INTO temp (a) VALUES (1)",
    "INSERT INTO page VALUES ('create temp table pg_temp.a')",
    "CREATE TABLE temp (a int)",
    "SELECT temp, into_temp FROM created",
    "CREATE VIEW a AS SELECT temp FROM b",
    "CREATE FUNCTION a() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET x = 1; END $$",
    "SELECT 'pg_advisory_lock(1), set_config(a, b, false)'",
    "COMMIT AND CHAIN",
    "; ; -- nothing",
]
CHANGING = [
    "UPDATE pg_settings SET setting = 'a' WHERE name = 'search_path'",
    'update "pg_catalog"."pg_settings" set setting = %s where name = %s',
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
    "SET/**/statement_timeout = 1",
    "SELECT 1/* ; */;/* ; */SET/* /* */ */statement_timeout = 1",
    # What is comment or literal, and what is not.
    "SELECT 1 -- a\rSELECT 2; SET x = 1",
    "SELECT 1 -- '\n; SET x = 1 --'",
    "SELECT '\\'; SET x = 1; --'",
    "SELECT a$$; SET x = 1; SELECT b$$ FROM c",
    "SELECT $a$ $$ $a$; SET x = 1 -- $$",
    "CREATE/**/TEMP/**/TABLE a (b int)",
    "CREATE OR REPLACE/**/LOCAL TEMPORARY VIEW a AS SELECT 1",
    "SELECT 1 INTO/**/LOCAL TEMP a",
    "WITH a AS (INSERT INTO b VALUES (1) RETURNING 1) SELECT 1 INTO TEMP c FROM a",
    "EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1",
    'CREATE TABLE "pg_temp"."a" (b int)',
    "SELECT pg_catalog.\"set_config\"('a', 'b', false)",
    "SELECT set_config('a', set_config('b', 'c', false), true)",
    "SELECT set_config('a', 'b', 'true')",
    "SELECT set_config('a', 'b', false, true)",
    "SELECT set_config('a', 'b', true, true)",
    "SELECT set_config('a', 'b', true",
    "SELECT U&\"\\0073et_config\"('a', 'b', false)",
    "DECLARE a CURSOR WITH/**/HOLD FOR SELECT 1",
    "CREATE FUNCTION a() RETURNS int AS $$ BEGIN END $$; DO $$ BEGIN END $$",
]
# What the server refuses, or reads in a way that no text tells.
UNREADABLE = [
    "SELECT 'it",
    'SELECT "it',
    "SELECT 1 /* /* */",
    "SELECT $a$ $$",
    "SELECT E'it\\'",
    "SELECT 1$$; SET x = 1; $$",
    "SELECT \0",
]
LOCKING = [
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "select PG_ADVISORY_LOCK_SHARED(1, 2)",
    "WITH x AS (SELECT pg_advisory_lock(1)) SELECT * FROM x",
    "SELECT pg_advisory_unlock(1)",
    'SELECT "pg_advisory_lock"/**/(1)',
    "DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$",
]
ASKING = [
    "SELECT lastval()",
    "SELECT LASTVAL ( /* */ )",
    "SELECT currval('numbers')",
    "SELECT pg_catalog.\"currval\"/**/('numbers')",
    "INSERT INTO item (a) VALUES (currval('shop_id_seq'))",
    "SELECT lastval(); INSERT INTO shop VALUES (1)",
    "SELECT lower('a'); SELECT currval('numbers')",
    # They run from left to right.
    "SELECT nextval('a'), currval('b')",
    "SELECT currval('a'), nextval('a')",
    "SELECT lastval(), nextval('a')",
    "SELECT nextval('a'), currval(%s)",
    "INSERT INTO shop VALUES (currval('b'), nextval('n'))",
    "PREPARE a AS SELECT lastval()",
    "DO $$ BEGIN PERFORM lastval(); END $$",
    "DO $$ BEGIN PERFORM nextval('a'); PERFORM currval('b'); END $$",
    "CREATE TABLE a AS SELECT lastval()",
    'SELECT U&"\\006castval"()',
    "SELECT query_to_xml('select lastval()', true, true, '')",
    # It cannot be read.
    "SELECT lastval() -- \0",
    # A name for a dollar quote may have any character beyond ASCII.
    "SELECT $€$'$€$, lastval(), $€$'$€$",
    "SELECT a\N{NO-BREAK SPACE}$$, lastval() AS b$$",
]
ASKING_NOTHING = [
    "SELECT 'lastval()', \"lastval\" FROM shop -- lastval()",
    "SELECT currval FROM lastval",
    "INSERT INTO shop VALUES (1); SELECT lastval()",
    "SELECT nextval('numbers'); SELECT currval('numbers')",
    "INSERT INTO shop (id, code) VALUES (nextval('n'), currval('n'))",
    "SELECT nextval('a'), currval('a'), lastval()",
    "SELECT pg_catalog.nextval ( 'a' ), pg_catalog . \"currval\"('a')",
    "DO $$ BEGIN INSERT INTO shop VALUES (1); PERFORM lastval(); END $$",
    "DO $$ BEGIN PERFORM nextval('a'); PERFORM currval('a'); END $$",
    "CREATE VIEW a AS SELECT lastval()",
    "CREATE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT 1; SELECT lastval(); END",
]
LEAVING = [
    "INSERT INTO shop VALUES (1)",
    "WITH a AS (INSERT INTO b VALUES (1) RETURNING c) SELECT * FROM a",
    "WITH a AS (SELECT my_function(1)) SELECT * FROM a",
    "UPDATE shop SET a = nextval('numbers')",
    "UPDATE shop SET a = my_function(1)",
    "DELETE FROM shop WHERE a = my_function(1)",
    "COPY shop FROM STDIN",
    "CALL a()",
    "DO $$ BEGIN END $$",
    "SELECT nextval('numbers')",
    "SELECT setval('numbers', 1)",
    "SELECT my_function(1)",
    "SELECT my_function/**/(1)",
    'SELECT "my function"(1)',
    "SELECT * FROM lower('a'), shop.a ( )",
    "EXPLAIN ANALYZE INSERT INTO shop VALUES (1)",
    "CREATE TABLE a AS SELECT my_function(1)",
    "SELECT 'it",
]
LEAVING_NOTHING = [
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "SELECT 1",
    "SELECT COUNT(*), MAX(a), COALESCE(b, 'my_function(1)') FROM shop",
    "SELECT a FROM shop WHERE b IN (%s, %s) AND c = ANY(%s) -- my_function(1)",
    "SELECT a FROM (VALUES (1), (2)) AS b (a)",
    "SELECT CAST(a AS numeric(10, 2)), b::varchar(3), EXTRACT(year FROM c)",
    'SELECT "count"(1), pg_catalog.lower(a)',
    "SELECT lastval()",
    "VALUES (1)",
    "TABLE shop",
    "SHOW ALL",
    "EXPLAIN SELECT 1",
    "SET LOCAL a = 1",
    "SET a = 1",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT a",
    'CREATE TABLE "shop" ("id" serial, "a" numeric(3, 1) CHECK ("a" > 0), b text)',
    'CREATE TABLE IF NOT EXISTS "a b"."c d" (e int REFERENCES f (g))',
    'CREATE UNIQUE INDEX "a" ON "shop" ("b" varchar_pattern_ops, lower("c"))',
    'ALTER TABLE "shop" ADD CONSTRAINT "a" UNIQUE ("b")',
    'DROP FUNCTION a("int")',
    "GRANT EXECUTE ON FUNCTION a(int) TO b",
]
# What a trigger draws then, no text shows.
LEAVING_NO_NUMBER = [
    "UPDATE shop SET a = 1",
    "UPDATE shop SET a = 'x' WHERE b = lower('c')",
    "DELETE FROM shop WHERE a = 1",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert statements(statement) == statements(statement)
    assert not statements(statement) & CHANGES


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) & CHANGES == Change.SETTINGS


@pytest.mark.parametrize("statement", UNREADABLE)
def test_what_cannot_be_read(statement: str) -> None:
    assert statements(statement) == IN_DOUBT


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.LOCKS


@pytest.mark.parametrize("statement", ASKING)
def test_questions(statement: str) -> None:
    assert statements(statement) & Trace.ASKS_ID


@pytest.mark.parametrize("statement", ASKING_NOTHING)
def test_what_is_no_question(statement: str) -> None:
    assert not statements(statement) & Trace.ASKS_ID


@pytest.mark.parametrize("statement", LEAVING)
def test_what_leaves_an_answer(statement: str) -> None:
    assert statements(statement) & Trace.LEAVES_ID


@pytest.mark.parametrize("statement", LEAVING_NO_NUMBER)
def test_what_leaves_no_number(statement: str) -> None:
    assert not statements(statement) & Trace.LEAVES_ID


@pytest.mark.parametrize("statement", LEAVING_NOTHING)
def test_what_leaves_none(statement: str) -> None:
    assert not statements(statement) & (Trace.LEAVES_ID | Trace.LEAVES_ROWS)


@pytest.mark.parametrize("statement", HARMLESS + CHANGING)
def test_the_server_tells_the_driver_of_transactions(statement: str) -> None:
    assert not statements(statement) & Trace.OPENS


def test_types_are_learnt_anew() -> None:
    assert statements("CREATE EXTENSION IF NOT EXISTS hstore") & Change.TYPES
    assert statements("ALTER TYPE mood ADD VALUE 'so so'") & Change.TYPES
    assert statements("SELECT 1; DROP/**/EXTENSION hstore") & Change.TYPES
    assert statements("DO $$ BEGIN CREATE EXTENSION hstore; END $$") & Change.TYPES
    assert not statements("SELECT 'create extension hstore'") & Change.TYPES
    assert not statements("ALTER TABLE create_type ADD type text") & Change.TYPES


def test_what_is_not_text() -> None:
    assert statements(b"SELECT 1") == 0
    assert statements(b"SET a = 1") & CHANGES == Change.SETTINGS
    composed = sql.SQL("SELECT {}").format(sql.Identifier("a"))
    assert statements(composed) == 0
    assert statements(sql.SQL("SET ROLE {}").format(sql.Identifier("a")))
    assert statements(b"\xff") == IN_DOUBT
    assert statements(object()) == IN_DOUBT
    assert statements(["unhashable"]) == IN_DOUBT


def test_it_remembers_few_and_short_ones() -> None:
    told = Statements(["SELECT"])
    for number in range(3 * MEMORY):
        assert told(f"SELECT {number}") == 0
    assert told("SELECT " + "1" * LONGEST) == 0
    assert len(told._known) <= MEMORY
    assert all(len(text) <= LONGEST for text in told._known)


def test_what_psycopg2_composes() -> None:
    """It has no text without a connection, and is read without its data."""
    sql = pytest.importorskip("psycopg2.sql")
    name, data = sql.Identifier("a", 'b"c'), sql.Literal("lastval()")
    asks = sql.SQL("SELECT lastval(), {} FROM {}").format(data, name)
    assert statements(asks) & Trace.ASKS_ID
    plain = sql.SQL("SELECT {} FROM {} WHERE a = {}")
    assert statements(plain.format(data, name, sql.Placeholder())) == 0
