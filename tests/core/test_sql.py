"""Texts as servers read them: what is left without literals and comments."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djpool.core import sql
from djpool.core.session import (
    ASKS,
    CHANGES,
    Change,
    Statements,
    Trace,
    any_database,
)
from djpool.core.sql import (
    MYSQL,
    ORACLE,
    POSTGRESQL,
    SQLITE,
    STANDARD,
    AnyLexer,
    Dialect,
    Lexer,
    calls,
    words,
)

DIALECTS = {
    "standard": STANDARD,
    "postgresql": POSTGRESQL,
    "mysql": MYSQL,
    "sqlite": SQLITE,
    "oracle": ORACLE,
}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)

# What is left of a text, with one space for any number: "'" for a literal, a quote for
# a name that is no word.
CODE = [
    ("standard", "A 'b' C", ["a ' c"]),
    ("standard", "A; 'b; c'; D", ["a", "'", "d"]),
    ("standard", "A 'it''s' \"b\" \"c d\"", ["a ' ' b\" \""]),
    ("standard", "A--b; 'c\nD", ["a d"]),
    ("standard", "A/*b; 'c*/D", ["a d"]),
    ("standard", "A/*/*b*/ 'c' */", ["a ' */"]),
    ("standard", "A '\\' B", ["a ' b"]),
    ("standard", 'A "--" B', ['a " b']),
    ("standard", "A '/*' B --*/'\nC", ["a ' b c"]),
    ("postgresql", "A /*b /* 'c*/ ; */ D", ["a d"]),
    ("postgresql", "A /**//*/**/*/ D", ["a d"]),
    ("postgresql", "A -- b\rC", ["a c"]),
    ("postgresql", "A $$ ; ' $$ B $c$ $$ ; $c$ D", ["a ' b ' d"]),
    ("postgresql", "A b$$ C d$$", ["a b$$ c d$$"]),
    ("postgresql", "A $1, $2 $é$ ; $é$", ["a $1, $2 '"]),
    ("postgresql", "A E'b\\'; c' D e'\\\\' type'a' B", ["a e ' d e ' type ' b"]),
    ("postgresql", "A E'it''s \\'; ' B", ["a e ' b"]),
    ("postgresql", "A U&\"b\" U&'c'", ["a u& b\" u& '"]),
    ("mysql", "A -- b; 'c\nD --1 E", ["a d --1 e"]),
    ("mysql", "A # b; 'c\rd\nE", ["a e"]),
    ("mysql", "A \"b; 'c\" 'd; \"e' `f` `g h` `i``j`", ["a \" ' f` ` i` j`"]),
    ("mysql", "A 'b\\\\'; C", ["a '", "c"]),
    ("mysql", 'A "b" ("c"(', ['a b" ( c" (']),
    ("mysql", "A /*b /* c */ D", ["a d"]),
    ("sqlite", "A [b] [c d] `e` 'f' -- g\rh\nI", ["a b] ] e` ' i"]),
    ("sqlite", "A /* b; 'c", ["a"]),
    (
        "oracle",
        "A q'[b'; c]' D Nq'{e'}' q'(f')' q'<g'>' q'!h'!' Q'aia'",
        ["a ' d" + " '" * 5],
    ),
    ("oracle", "A faq'[b'", ["a faq '"]),
    ("oracle", "A -- b;\r\nC", ["a c"]),
]
# Which have no end, and what is left before them.
WITHOUT_END = [
    ("standard", "A; B 'c", ["a"]),
    ("standard", "A; B \"c; 'd' ;", ["a"]),
    ("standard", 'A; B \'c; "d" ;', ["a"]),
    ("standard", "A; B /* c", ["a"]),
    ("standard", "A \0", []),
    ("postgresql", "A; B /* /* c */", ["a"]),
    ("postgresql", "A; B $c$ $d$", ["a"]),
    ("postgresql", "A; B 1$$; C $$", ["a"]),
    ("postgresql", "A; B E'\\'", ["a"]),
    ("mysql", "A; B `c", ["a"]),
    ("sqlite", "A; B [c", ["a"]),
    ("oracle", "A; B q'[c'", ["a"]),
    ("oracle", "A; B q' c '", ["a"]),
]
# The settings of the session say which of them it is.
SEVERAL = [
    ("standard", "A -- b\rC", [["a"], ["a c"]]),
    ("oracle", "A -- b\r\n; C", [["a", "c"]]),
    ("postgresql", "A '\\'; B --'", [["a '", "b"], ["a '"]]),
    ("postgresql", "A '\\' B", [["a ' b"], []]),
    ("mysql", "A 'it\\'s' B", [["a ' b"], []]),
    ("mysql", 'A "\\"; B -- "', [['a "', "b"], ['a "']]),
    ("mysql", "A /*! ; B */", [["a"], ["a \0", "b */"]]),
    ("mysql", "A /*M!9 b */", [["a"], ["a \0 9 b */"]]),
]


def plain(statements: list[str]) -> list[str]:
    return [" ".join(re.findall(r"\0|[^\s\0]+", each)) for each in statements]


@pytest.mark.parametrize(("dialect", "text", "code"), CODE)
def test_literals_and_comments_are_left_out(
    dialect: str, text: str, code: list[str]
) -> None:
    readings = Lexer(DIALECTS[dialect]).readings(text)
    assert plain(readings[0].statements) == code
    assert readings[0].complete


@pytest.mark.parametrize(("dialect", "text", "before"), WITHOUT_END)
def test_what_has_no_end(dialect: str, text: str, before: list[str]) -> None:
    reading = Lexer(DIALECTS[dialect]).readings(text)[0]
    assert plain(reading.statements) == before
    assert not reading.complete


@pytest.mark.parametrize(("dialect", "text", "several"), SEVERAL)
def test_several_readings(dialect: str, text: str, several: list[list[str]]) -> None:
    readings = Lexer(DIALECTS[dialect]).readings(text)
    found = [plain(each.statements) for each in readings]
    assert sorted(found) == sorted(several)


def test_of_an_unknown_database_each_reading_counts() -> None:
    lexer = AnyLexer()
    assert len(lexer.readings("SELECT 'a', \"b\"; SELECT %s")) == 1
    for text in (
        "A '\\'; B --'",
        "A # '\nB",
        "A [']; B",
        "A $$ ' $$",
        "A /* /* */ ' */",
    ):
        assert len({str(each) for each in lexer.readings(text)}) > 1, text


# -- any text ------------------------------------------------------------------------

TOKENS = (
    *("'", '"', "`", "[", "]", "''", '""', "\\", "\\'", "\\\\", "$$", "$a$", "$", "$1"),
    *("--", "-- ", "#", "\n", "\r", "/*", "*/", "/**/", "/*!", "/*M!", "*", "/", "!"),
    *(";", " ", "\t", "a", "E'", "e", "q'[", "q'", "]'", "n", "U&", "_", "1", ".", "é"),
    *("(", ")", ",", "=", ":=", "@", "@@", "\x0b", "\xa0", "\ufeff", "%s", "\0"),
    *("select ", "set x", "begin", "create temp", "temp.", "set_config", "pragma "),
    *(
        "alter session set",
        "nls_sort=",
        "dbms_lock",
        "get_lock",
        "into",
        "last_insert_id",
    ),
)
# A literal with doubled quotes is one literal, or several in a row.
SIGNS = re.compile(r"[\w$]+|'(?!\s*')|[^\s\w']")
texts = st.lists(st.sampled_from(TOKENS), max_size=30).map("".join)


def signs(found: tuple[str, bool]) -> list[list[str]]:
    """Return the words and signs of each statement, but of one that has no end."""
    code, complete = found
    statements = [SIGNS.findall(each) for each in code.split(";")]
    return statements if complete else statements[:-1]


class CountingLexer(Lexer):
    """Counts the characters of the tokens that it reads in steps."""

    last = characters = 0

    def _token(self, text: str, opening: str, begin: int) -> tuple[int, str]:
        end, kept = super()._token(text, opening, begin)
        assert begin - len(opening) >= self.last, "it begins behind the one before"
        self.last = end if end >= 0 else len(text)
        assert self.last >= begin
        self.characters += self.last - (begin - len(opening))
        return end, kept


@each_dialect
@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_each_character_is_read_once(dialect: Dialect, text: str) -> None:
    lexer = CountingLexer(dialect)
    lexer._in_steps(text)
    assert lexer.characters <= len(text)


@each_dialect
@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_it_is_the_same_at_once_and_in_steps(dialect: Dialect, text: str) -> None:
    lexer = Lexer(replace(dialect, ansi_quotes=False))
    if lexer._needs_steps(text) or sql.RUN in text:
        return
    assert signs(lexer._at_once(text)) == signs(lexer._in_steps(text))


@each_dialect
@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_doubled_quotes_decide_nothing(dialect: Dialect, text: str) -> None:
    """Long texts are read without them, unless a backslash may stand before one."""
    text = text.replace("\\", "")
    lexer = Lexer(replace(dialect, ansi_quotes=False, q_literals=False))
    without = lexer._without_doubled(text)
    # Literals without a character in them are left out.
    assert [
        [sign for sign in statement if sign not in dialect.literals]
        for statement in signs(lexer._in_steps(text))
    ] == [
        [sign for sign in statement if sign not in f"{dialect.literals}~"]
        for statement in signs(lexer._in_steps(without))
    ]


@each_dialect
@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_nothing_is_left_of_quotes(dialect: Dialect, text: str) -> None:
    """Neither an opening quote nor a comment is in what is left, but for one mark."""
    for reading in Lexer(dialect).readings(text):
        for statement in reading.statements:
            rest = re.sub(r"(?:[\w$]+|(?<!\S))[\"'`\]]", "", statement)
            assert not set(rest) & set(dialect.literals + dialect.names)


@given(st.text())
def test_any_characters(text: str) -> None:
    for dialect in DIALECTS.values():
        Lexer(dialect).readings(text)
    calls(text)
    words(text)


# -- long and hostile texts ----------------------------------------------------------


def test_bounds() -> None:
    lexer = Lexer(STANDARD)
    assert lexer.readings(" " * (sql.MOST_CHARACTERS + 1)) == [sql.UNREADABLE]
    assert lexer.readings(";" * sql.MOST_STATEMENTS) == [sql.UNREADABLE]
    assert lexer.readings("'a' " * (sql.MOST_TOKENS + 1)) == [sql.UNREADABLE]
    assert Lexer(POSTGRESQL).readings("/*" * (sql.DEEPEST + 1))[0].complete is False
    assert lexer.readings("'a' " * (sql.MOST_TOKENS - 1))[0].complete
    many = "'" + "it''s " * sql.FEW_TOKENS * 2 + "' ; a"
    assert lexer.readings(many)[0].complete
    assert plain(lexer.readings(many)[0].statements) == ["'", "a"]
    assert Lexer(SQLITE).readings(many) == [sql.UNREADABLE]


@each_dialect
@pytest.mark.parametrize(
    "token", [*TOKENS, "'a'", "a ", "$a$ $b$ ", "a/* ", "x$$", "1$"]
)
def test_hostile_texts_come_to_an_end(dialect: Dialect, token: str) -> None:
    """What takes time that grows with the square would take minutes."""
    lexer = Lexer(dialect)
    for text in (token * 50_000, "select '" + token * 50_000, token * 50_000 + "'"):
        lexer.readings(text)
        lexer._in_steps(text)


JUDGES = (
    *("core.sql", "core.session", "adapters.libpq", "adapters.mysql_session"),
    *("adapters.sqlite3_session", "adapters.oracledb_session"),
)
# These are only matched, at one place.
MATCHED = {"_FIRST_WORDS", "_OF_CODE", "_OF_TEXT", "_AFTER_SETTINGS", "_SEEN", "_SETS"}


def expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    for module in JUDGES:
        for name, value in vars(importlib.import_module(f"djpool.{module}")).items():
            if isinstance(value, re.Pattern):
                yield name, value
    for name, dialect in DIALECTS.items():
        for attribute, value in vars(Lexer(dialect)).items():
            if isinstance(value, re.Pattern) and attribute != "_rest_of_line":
                yield f"{name}{attribute}", value
        alternatives = chain(*sql._alternatives(dialect).values())
        yield f"{name}_tokens", re.compile("|".join(alternatives), re.DOTALL)


def parsed(expression: re.Pattern[str]) -> Any:
    try:
        from re import _parser  # type: ignore[attr-defined]
    except ImportError:  # Python 3.10
        import sre_parse as _parser
    return _parser.parse(expression.pattern, expression.flags)


def repetitions(tree: Any, depth: int = 0) -> Iterator[int]:
    """Give the depth of each repetition without a bound: 0 if it is in no other."""
    for operation, argument in tree:
        inner = depth
        if "REPEAT" in str(operation):
            _least, most, argument = argument  # noqa: PLW2901
            if "MAXREPEAT" in str(most):
                yield depth
                inner += 1
        for part in argument if isinstance(argument, (tuple, list)) else [argument]:
            trees = part if isinstance(part, list) else [part]
            for each in trees:
                if type(each).__name__ == "SubPattern":
                    yield from repetitions(each, inner)
        if type(argument).__name__ == "SubPattern":
            yield from repetitions(argument, inner)


def begins_with_repetition(tree: Any) -> bool:
    """Tell whether a search would try the same characters from each of them anew."""
    operations = list(tree)
    if len(operations) < 2:
        return False  # it matches wherever it begins
    operation, argument = operations[0]
    return "REPEAT" in str(operation) and "MAXREPEAT" in str(argument[1])


@pytest.mark.parametrize(
    ("name", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()]
)
def test_expressions_are_linear(name: str, expression: re.Pattern[str]) -> None:
    tree = parsed(expression)
    assert max(repetitions(tree), default=0) == 0, "a repetition in a repetition"
    assert name in MATCHED or not begins_with_repetition(tree)


def test_the_test_for_that() -> None:
    for hostile in (r"(a*)*", r"(?:a+b)+", r"(?:x|a*)*b", r"(?=(?:\s|/\*.*?\*/)*)"):
        assert max(repetitions(parsed(re.compile(hostile)))) > 0, hostile
    assert begins_with_repetition(parsed(re.compile(r"\s+x")))
    assert not begins_with_repetition(parsed(re.compile(r"\s+")))


# -- what stands in a statement ------------------------------------------------------


def test_calls() -> None:
    assert calls("select a(1), b (2), c  ((3)), x.d(), e") == {"a", "b", "c", "d"}
    assert calls('f"(1), g" (2), x" . h" (3)') == {"f", "g", "h"}
    assert calls('select " (1)') == {"select", ""} - {"select"}
    assert calls("select 1 as a (b), cast(c as d(1))") == {"cast"}
    assert calls("create table a (b c(1))", defining=True) == {"c"}
    assert calls("create table if not exists a . b (c)", defining=True) == set()
    assert calls("alter table a add (b c)", defining=True) == set()


# -- databases of which little is known ----------------------------------------------

ANY_HARMLESS = [
    "SELECT 'it''s; SET x', \"b\" FROM c -- SET x",
    "INSERT INTO a (b) VALUES (%s)",
    "CREATE TABLE a (template text)",
    "SELECT [a], `b`, c[1] FROM d WHERE e LIKE '\\'",
    "SELECT 'create temp table #a; alter session'",
    "BEGIN",
]
ANY_CHANGING = [
    "SET x = 1",
    "SELECT 1;/**/SET x = 1",
    "CREATE GLOBAL/**/TEMPORARY TABLE a (b int)",
    "CREATE VOLATILE TEMP TABLE a",
    "SELECT 1 INTO #a",
    "CREATE TABLE #a (b int)",
    "ALTER/**/SESSION SET x = 1",
    # In one dialect or another.
    "SELECT '\\'; SET x = 1 --'",
    "SELECT 1 # '\n; SET x = 1 #'",
    "SELECT [']; SET x = 1 --']",
    "SELECT $$'$$; SET x = 1 --'",
    "SELECT q'[']'; SET x = 1 --'",
    "SELECT 1 --\r; SET x = 1",
    "SELECT 1 /*! INTO @x */",
    "whatever comes",
]
ANY_ASKING = [
    ("SELECT @@IDENTITY", Trace.ASKS_ID),
    ("SELECT SCOPE_IDENTITY()", Trace.ASKS_ID),
    ("SELECT LAST_INSERT_ID()", Trace.ASKS_ID),
    ("SELECT last_insert_rowid()", Trace.ASKS_ID),
    ("SELECT lastval()", Trace.ASKS_ID),
    ("SELECT a.currval FROM dual", Trace.ASKS_ID),
    ("SELECT PREVIOUS VALUE FOR a", Trace.ASKS_ID),
    ("SELECT @@ROWCOUNT", Trace.ASKS_ROWS),
    ("SELECT changes()", Trace.ASKS_ROWS),
    ("SELECT ROW_COUNT()", Trace.ASKS_PREVIOUS),
    ("SHOW WARNINGS", Trace.ASKS_PREVIOUS),
    ("SELECT '@@IDENTITY', identity FROM changes", Trace(0)),
    ("INSERT INTO changes (a) VALUES (1)", Trace(0)),
    ("INSERT INTO a VALUES (1); SELECT SCOPE_IDENTITY()", Trace(0)),
]


@pytest.mark.parametrize("statement", ANY_HARMLESS)
def test_harmless_on_any_database(statement: str) -> None:
    assert not any_database("BEGIN")(statement) & CHANGES


@pytest.mark.parametrize("statement", ANY_CHANGING)
def test_changing_on_any_database(statement: str) -> None:
    assert any_database("BEGIN")(statement) & CHANGES == Change.SETTINGS


@pytest.mark.parametrize(("statement", "asks"), ANY_ASKING)
def test_questions_to_any_database(statement: str, asks: Trace) -> None:
    assert any_database()(statement) & ASKS == asks


def test_expressions_of_others_see_no_data() -> None:
    told = Statements(
        ["SELECT", "SET LOCAL"],
        asking=r"\s*PRAGMA\s+\w+\s*",
        changing=r"\binto\s+temp\b",
        locking=r"\block_it\b",
        beyond=r"\bruin\b",
        typing=r"\blearn\b",
        markers=("temp", "lock_it", "ruin", "learn"),
    )
    assert told("SELECT 1") == told("SELECT 1 FROM a -- into temp") == 0
    assert told("SELECT 'into temp', 'lock_it'") & CHANGES == 0
    assert told("set/**/local a = 1; pragma a") & CHANGES == 0
    assert told("SELECT 1 INTO/* it */TEMP") & CHANGES == Change.SETTINGS
    assert told("SELECT Lock_It('a')") & CHANGES == Change.LOCKS
    assert told("SELECT ruin, learn") & CHANGES == Change.BEYOND | Change.TYPES
    assert told("pragma a = 1") & CHANGES == Change.SETTINGS
    assert Statements(["SELECT"], changing="a b")("SELECT a/**/b") & CHANGES
