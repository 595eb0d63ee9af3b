"""Texts that were made to mislead the judges of statements, or to keep them busy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djpool.adapters import libpq, mysql_session, oracledb_session, sqlite3_session
from djpool.core.session import (
    ASKS,
    CHANGES,
    IN_DOUBT,
    LEAVES,
    OPENS,
    Change,
    Statements,
    any_database,
)
from djpool.core.sql import MOST_CHARACTERS
from tests.core.test_sql import MATCHED, TOKENS, expressions

JUDGES = {
    "postgresql": libpq.statements,
    "mysql": mysql_session.statements,
    "sqlite": sqlite3_session.statements,
    "oracle": oracledb_session.statements,
    "any": any_database("BEGIN"),
}
each_judge = pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)

KEYWORDS = (
    *("SELECT ", "SELECT 1", "SET x = 1", "BEGIN", "COMMIT AND CHAIN", "CREATE TEMP "),
    *("INTO @x", ":=", "GET_LOCK(", "LOCK TABLES a", "PRAGMA x", "temp.", "ATTACH a"),
    *("set_config('a', 'b', ", "true)", "false)", "ALTER SESSION SET ", "DBMS_LOCK."),
    *("DO ", "EXECUTE IMMEDIATE ", "currval(", "LAST_INSERT_ID()", "changes()", "@@"),
    *("nextval('a')", "WITH HOLD", "CREATE TRIGGER a BEGIN ", "EXPLAIN ", "REQUEST"),
)
texts = st.lists(st.sampled_from(TOKENS + KEYWORDS), max_size=25).map("".join)
EVERYTHING = CHANGES | ASKS | LEAVES | OPENS


@each_judge
@settings(max_examples=1000, deadline=None)
@given(text=texts)
def test_each_text_has_a_verdict(judge: Statements, text: str) -> None:
    verdict = judge(text)
    assert type(verdict) is int
    assert verdict & ~EVERYTHING == 0
    assert not verdict & Change.UNKNOWN
    assert judge(text.encode()) == verdict


@each_judge
@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_what_is_judged_at_first_sight_is_judged_the_same_when_it_is_read(
    judge: Statements, text: str
) -> None:
    for each in (text, f"SELECT {text}", f"insert into a values ({text})"):
        verdict = judge._at_first_sight(each)
        assert verdict is None or verdict == judge._of_text(each)


# -- data is data --------------------------------------------------------------------

AROUND = (
    *("SELECT {}", "SELECT 1 WHERE a IN ({}, 2)", "INSERT INTO a VALUES (1, {})"),
    *("UPDATE a SET b = {} WHERE c = 1", "DELETE FROM a WHERE b = {}", "SET a = {}"),
    *("SELECT 1; SELECT {} ; UPDATE a SET b = {}", "COMMENT ON TABLE a IS {}"),
    *("SELECT set_config('a', {}, true)", "SELECT LAST_INSERT_ID({})", "CALL a({})"),
)
DOUBLED: dict[str, Callable[[str], str]] = {
    "postgresql": lambda data: data.replace("\\", ""),
    "mysql": lambda data: data.replace("\\", "\\\\"),
    "sqlite": lambda data: data,
    "oracle": lambda data: data,
}


@pytest.mark.parametrize("name", DOUBLED)
@settings(max_examples=500, deadline=None)
@given(data=texts, around=st.sampled_from(AROUND))
def test_data_in_a_literal_decides_nothing(name: str, data: str, around: str) -> None:
    judge, data = JUDGES[name], data.replace("\0", "")
    quoted = DOUBLED[name](data).replace("'", "''")
    judged = judge(around.replace("{}", f"'{quoted}'"))
    # Oracle's CALL may run what it is given.
    if name != "oracle" or "CALL" not in around:
        assert judged == judge(around.replace("{}", "'x'"))


@settings(max_examples=500, deadline=None)
@given(data=texts, around=st.sampled_from(AROUND))
def test_in_postgresql_s_other_literals_neither(data: str, around: str) -> None:
    judge, data = JUDGES["postgresql"], data.replace("\0", "")
    escaped = data.replace("\\", "\\\\").replace("'", "\\'")
    tag = "$x$" if "$" not in data else None
    expected = judge(around.replace("{}", "'x'"))
    if tag is not None:
        assert judge(around.replace("{}", f"{tag}{data}{tag}")) == expected
    # If a setting makes all backslashes plain, the rest of such a text is code.
    if "'" not in data:
        assert judge(around.replace("{}", f"E'{escaped}'")) == expected


@each_judge
@settings(max_examples=500, deadline=None)
@given(data=texts, around=st.sampled_from(AROUND))
def test_comments_are_white_space(judge: Statements, data: str, around: str) -> None:
    expected = judge(around.replace("{}", "'x'").replace(" ", "  "))
    # Without what opens or ends a comment, or is run in one.
    data = re.sub(r"[*/!\0\r\\]", "", data)
    commented = around.replace(" ", f" /*{data}*/ ").replace("{}", "'x'")
    if judge is JUDGES["any"] or "(" in around:
        # A comment before a parenthesis may hide a function's name.
        return
    assert judge(commented) == expected


# -- long texts ----------------------------------------------------------------------

HTML = '<p class="a" style="b: c;">It is a page &amp; $more$ of /* it */ -- {}</p>\n'
FUNCTION = (
    "CREATE FUNCTION f{0}() RETURNS int LANGUAGE plpgsql AS $$\nDECLARE n int;\nBEGIN\n"
    "  SELECT count(*) INTO n FROM t WHERE a = {0};\n  RETURN n;\nEND $$;\n"
)


@each_judge
@pytest.mark.parametrize(
    "text",
    [
        ";" + "/**/" * 5000,
        ";" + "/**/" * 24,
        "/*" * 50_000,
        "SELECT " + "(" * 50_000,
        "SELECT '" + "''" * 50_000 + "'",
        "SELECT '" + "\\'" * 50_000 + "'",
        "SELECT @@" + " " * 50_000,
        "SELECT a" + " " * 50_000 + "b",
        "INSERT INTO a VALUES ('" + HTML.format(1) * 15_000 + "')",
        "INSERT INTO a VALUES ('" + HTML.format("it''s") * 15_000 + "')",
        "INSERT INTO a VALUES ('lock')"
        + "".join(f",('payload {n} load and flush')" for n in range(4000)),
        "".join(map(FUNCTION.format, range(4000))),
    ],
    ids=range(12),
)
def test_it_comes_to_an_end(judge: Statements, text: str) -> None:
    judge(text)
    judge(text.encode())


@pytest.mark.parametrize("name", ["mysql", "oracle", "postgresql", "any"])
def test_long_literals_are_read(name: str) -> None:
    text = "INSERT INTO a VALUES ('" + HTML.format("it''s") * 15_000 + "')"
    assert not JUDGES[name](text) & CHANGES
    assert JUDGES[name](text + "; SET a = 1") & CHANGES


def test_of_literals_that_cost_sqlite_less_than_to_read_them_is_doubt() -> None:
    judge = JUDGES["sqlite"]
    assert not judge("INSERT INTO a VALUES ('" + HTML * 15_000 + "')") & CHANGES
    assert judge("SELECT '" + "it''s" * 15_000 + "'") == IN_DOUBT


@each_judge
def test_long_texts_with_parameters_are_judged_exactly(judge: Statements) -> None:
    many = ", ".join(["%s"] * 60_000)
    assert judge(f"SELECT a FROM b WHERE c IN ({many})") == 0
    rows = ", ".join(["(%s, %s, %s)"] * 20_000)
    assert not judge(f"INSERT INTO a (template, type) VALUES {rows}") & CHANGES
    rows = ", ".join(["(%s, 'it''s; SET a = 1', %s)"] * 300)
    assert not judge(f"INSERT INTO a (template, type) VALUES {rows}") & CHANGES


@each_judge
def test_what_is_too_long_is_in_doubt(judge: Statements) -> None:
    assert judge("SELECT '" + " " * MOST_CHARACTERS + "'") == IN_DOUBT


@each_judge
@pytest.mark.parametrize(
    "begin", ["", "SELECT ", "CREATE ", "ALTER ", "BEGIN ", "SELECT ("]
)
def test_hostile_repetitions_come_to_an_end(judge: Statements, begin: str) -> None:
    for token in (*TOKENS, *KEYWORDS):
        judge(begin + token * 5_000)
        judge(begin + f"{token} " * 5_000 + "'")


PROBES = (
    *(
        " ",
        "'",
        '"',
        "`",
        "a",
        "$",
        "(",
        "/*",
        "as ",
        "a.",
        "as a",
        "@@",
        "a$",
        ".",
        "1",
    ),
    *(
        "alter ",
        "alter session set nls_a=",
        "nls_a=1 ",
        "dbms_lock",
        "pragma ",
        "temp ",
    ),
    *("into ", "table ", "set ", '" ', "' ", "\n", "--", "|", "[", "]", "\\", "#"),
)


@pytest.mark.parametrize(
    ("name", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()]
)
def test_no_expression_is_kept_busy(name: str, expression: re.Pattern[str]) -> None:
    """What takes time that grows with the square would take many minutes."""
    run = expression.match if name in MATCHED else expression.findall
    for probe in PROBES:
        for begin in ("", "@@", "pragma", "alter", "as", "dbms_lock", "temp", "'", "a"):
            run(begin + probe * 20_000)
