"""Which statements change a SQLite connection, told from their text."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from djpool.adapters.sqlite3_session import statements
from djpool.core.session import ASKS, CHANGES, IN_DOUBT, Change, Trace

HARMLESS = [
    "SELECT 1",
    "VALUES (1)",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "INSERT INTO shop (a) VALUES (?) RETURNING id",
    "REPLACE INTO shop VALUES (1)",
    "UPDATE shop SET a = 1",
    "DELETE FROM shop",
    "CREATE TABLE shop (template text)",
    "CREATE TABLE temp (a)",
    "CREATE TRIGGER a AFTER INSERT ON b BEGIN UPDATE c SET d = 1; DELETE FROM e; END",
    "ALTER TABLE shop ADD a",
    "DROP TABLE shop",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END",
    "SAVEPOINT a",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "EXPLAIN QUERY PLAN SELECT 1",
    "PRAGMA foreign_keys",
    "PRAGMA main.cache_size ",
    "PRAGMA/**/foreign_keys -- = 1",
    "PRAGMA table_info(shop)",
    'PRAGMA "main".table_info("shop")',
    "PRAGMA user_version = 7",
    "PRAGMA defer_foreign_keys = 1",
    "SELECT * FROM pragma_table_info('shop')",
    "SELECT 'PRAGMA foreign_keys = 1; temp.a'",
    "SELECT 'it''s; PRAGMA foreign_keys = 1'",
    'SELECT "; PRAGMA a", `; PRAGMA a`, [; PRAGMA a], [it\'s]',
    "SELECT 1 -- it's; PRAGMA foreign_keys = 1",
    "SELECT 1 -- a\rPRAGMA foreign_keys = 1; ATTACH 'a' AS b",
    "SELECT 1 /* it's; PRAGMA foreign_keys = 1",
    "SELECT a FROM shop WHERE b LIKE ? ESCAPE '\\' AND c IN ('d')",
    "SELECT temp, template.a FROM template",
    "/* ; */ ; ;",
]
CHANGING = [
    "PRAGMA foreign_keys = 1",
    "PRAGMA foreign_keys(1)",
    "PRAGMA main.cache_size = 7",
    'PRAGMA "foreign_keys" = 1',
    "PRAGMA [main] . `cache_size` = 7",
    "PRAGMA/**/foreign_keys/**/=/**/1",
    # That takes effect.
    "EXPLAIN PRAGMA foreign_keys = 1",
    "EXPLAIN QUERY PLAN PRAGMA foreign_keys = 1",
    "ATTACH 'a' AS b",
    "DETACH b",
    "CREATE TEMP TABLE a (b)",
    "CREATE/**/TEMPORARY VIEW a AS SELECT 1",
    "CREATE TABLE temp.a (b)",
    'CREATE TABLE "temp"."a" (b)',
    "CREATE TABLE [temp] . a (b)",
    "CREATE TABLE `TEMP`/**/.a (b)",
    "CREATE TABLE 'temp'.a (b)",
    "SELECT 1; PRAGMA foreign_keys = 1",
    "SELECT '\\'; PRAGMA foreign_keys = 1; --'",
    "SELECT 1 /* /* */; PRAGMA foreign_keys = 1 -- */",
    "SELECT 1 --'\n; PRAGMA foreign_keys = 1 --'",
    "SELECT [']; PRAGMA foreign_keys = 1 --']",
    "whatever comes",
]
WITHOUT_RETURN = [
    "PRAGMA case_sensitive_like = 1",
    "PRAGMA main . case_sensitive_like = 1",
    "PRAGMA/**/case_sensitive_like(1)",
    "PRAGMA 'foreign_keys' = 1",
    "EXPLAIN PRAGMA case_sensitive_like = 1",
    "SELECT load_extension('a')",
    "SELECT \"load_extension\"('a')",
]
UNREADABLE = ["SELECT 'it", 'SELECT "it', "SELECT `it", "SELECT [it", "SELECT \0"]
ASKING = [
    ("SELECT last_insert_rowid()", Trace.ASKS_ID),
    ("SELECT LAST_INSERT_ROWID/**/( )", Trace.ASKS_ID),
    ("SELECT [last_insert_rowid]()", Trace.ASKS_ID),
    ("INSERT INTO item VALUES (last_insert_rowid())", Trace.ASKS_ID),
    ("SELECT changes()", Trace.ASKS_ROWS),
    ("SELECT changes(*)", Trace.ASKS_ROWS),
    ("SELECT last_insert_rowid( * )", Trace.ASKS_ID),
    ('SELECT "total_changes" ()', Trace.ASKS_ROWS),
    ("UPDATE shop SET a = changes()", Trace.ASKS_ROWS),
    ("SELECT changes(); UPDATE shop SET a = 1", Trace.ASKS_ROWS),
    ("UPDATE shop SET a = 1; SELECT last_insert_rowid()", Trace.ASKS_ID),
    ("CREATE TABLE a AS SELECT last_insert_rowid() AS b", Trace.ASKS_ID),
    ("CREATE TEMP TABLE a AS SELECT changes() AS b", Trace.ASKS_ROWS),
    # Too many quotes to be read.
    ("INSERT INTO a VALUES (last_insert_rowid(), '" + "''" * 2_000 + "')", ASKS),
]
ASKING_NOTHING = [
    "SELECT 'changes()', last_insert_rowid FROM changes -- total_changes()",
    "INSERT INTO changes (a) VALUES (1)",
    "INSERT INTO shop VALUES (1); SELECT last_insert_rowid(), changes()",
    "DELETE FROM shop; SELECT changes()",
    "CREATE VIEW a AS SELECT changes()",
    "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; SELECT changes(); END",
]
BOTH = Trace.LEAVES_ID | Trace.LEAVES_ROWS
LEAVING = [
    ("INSERT INTO shop VALUES (1)", BOTH),
    ("REPLACE INTO shop VALUES (1)", BOTH),
    ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", BOTH),
    ("whatever comes", BOTH),
    ("SELECT 'it", BOTH),
    ("UPDATE shop SET a = 1", Trace.LEAVES_ROWS),
    ("WITH a AS (SELECT 1) SELECT * FROM a", Trace(0)),
    ("/**/DELETE FROM shop", Trace.LEAVES_ROWS),
    ("SELECT my_function(1), 'a'", Trace(0)),
    ("CREATE TABLE a AS SELECT 1", Trace(0)),
    ("PRAGMA foreign_keys = 1", Trace(0)),
    ("EXPLAIN INSERT INTO shop VALUES (1)", Trace(0)),
    ("BEGIN", Trace(0)),
    ("COMMIT", Trace(0)),
    ("ATTACH 'a' AS b", Trace(0)),
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert not statements(statement) & CHANGES
    assert not statements(statement) & Trace.OPENS


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) & CHANGES == Change.SETTINGS


@pytest.mark.parametrize("statement", WITHOUT_RETURN)
def test_without_return(statement: str) -> None:
    assert statements(statement) & Change.BEYOND


@pytest.mark.parametrize("statement", UNREADABLE)
def test_what_cannot_be_read(statement: str) -> None:
    assert statements(statement) == IN_DOUBT


@pytest.mark.parametrize(("statement", "asks"), ASKING)
def test_questions(statement: str, asks: Trace) -> None:
    assert statements(statement) & ASKS == asks


@pytest.mark.parametrize("statement", ASKING_NOTHING)
def test_what_is_no_question(statement: str) -> None:
    assert not statements(statement) & ASKS


@pytest.mark.parametrize(("statement", "leaves"), LEAVING)
def test_what_leaves_an_answer(statement: str, leaves: Trace) -> None:
    assert statements(statement) & BOTH == leaves


# -- beside the real thing -----------------------------------------------------------

# Quotes and comments, and what is seen afterwards if SQLite runs it.
TOKENS = (
    *("'", '"', "`", "[", "]", "''", "--", "/*", "*/", "\n", "\r", "\\", ";", " "),
    *("select ", "select 1", "1", ",", "explain ", "'temp'.", "temp.", "[temp]."),
    *("create ", "table a(b);", "temp ", "/**/", "pragma ", "foreign_keys", "=1;"),
    *(";pragma foreign_keys=1;", ";create temp table a(b);", "attach ':memory:' as c;"),
    *("insert into shop values(null);", "update shop set id=9;", "delete from shop;"),
)
ANSWERS = "SELECT last_insert_rowid(), total_changes()"


@pytest.fixture(scope="module")
def database() -> Iterator[list[sqlite3.Connection]]:
    """Give a place for the connection that the examples use."""
    kept: list[sqlite3.Connection] = []
    yield kept
    for connection in kept:
        connection.close()


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(
        "CREATE TABLE shop (id integer PRIMARY KEY); INSERT INTO shop VALUES (7)"
    )
    return connection


def state(connection: sqlite3.Connection) -> object:
    names = connection.execute("PRAGMA database_list").fetchall()
    return (
        connection.execute("PRAGMA foreign_keys").fetchall(),
        connection.execute("SELECT name FROM sqlite_temp_master").fetchall(),
        [name for _, name, _ in names if name != "temp"],  # SQLite's own, when it likes
    )


@settings(max_examples=1000, deadline=None)
@example(["select 1 /*", ";pragma foreign_keys=1;"])
@example(["explain ", "pragma ", "foreign_keys", "=1;"])
@example(["create ", "table ", "'temp'.", "a(b)"])
@given(st.lists(st.sampled_from(TOKENS), max_size=12))
def test_sqlite_does_not_do_more(
    database: list[sqlite3.Connection], tokens: list[str]
) -> None:
    """What is judged harmless changes nothing, and leaves nothing, when it is run."""
    if not database:
        database.append(opened())
    (connection,) = database
    text = "".join(tokens)
    before, answers = state(connection), connection.execute(ANSWERS).fetchone()
    with contextlib.suppress(sqlite3.Error):  # some of it may have run
        connection.executescript(text)
    after, now = state(connection), connection.execute(ANSWERS).fetchone()
    if (before, answers) != (after, now) or connection.in_transaction:
        database.pop().close()
    verdict = statements(text)
    assert before == after or verdict & CHANGES
    assert answers[0] == now[0] or verdict & Trace.LEAVES_ID
    assert answers[1] == now[1] or verdict & Trace.LEAVES_ROWS
