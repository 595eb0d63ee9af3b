"""Questions that only the same session can answer: right, or a clear error.

LAST_INSERT_ID(), currval(), changes() and their like tell of an earlier statement. With
a pool that statement may have been another request's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.db import DatabaseError, ProgrammingError, connections, transaction

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES, ORACLE, engine_of
from tests.backends.kinds import run


class Question(NamedTuple):
    """A statement that leaves an answer, and the question for it."""

    leaves: str
    asks: str


INSERT = "INSERT INTO djpool_asked (who) VALUES ({who})"
QUESTIONS: dict[str, list[Question]] = {
    "sqlite3": [
        Question(INSERT, "SELECT last_insert_rowid()"),
        Question(INSERT, "select /* x */ LAST_INSERT_ROWID ( ) + 0"),
        Question("UPDATE djpool_asked SET who = {who}", "SELECT changes()"),
        Question(INSERT, "INSERT INTO djpool_other VALUES (last_insert_rowid())"),
    ],
    "postgresql": [
        Question(INSERT, "SELECT lastval()"),
        Question(INSERT, "SELECT currval('djpool_asked_id_seq')"),
        Question(INSERT, "SELECT pg_catalog.\"currval\"('djpool_asked_id_seq')"),
        Question(INSERT, "INSERT INTO djpool_other VALUES (lastval())"),
    ],
    "mysql": [
        Question(INSERT, "SELECT LAST_INSERT_ID()"),
        Question(INSERT, "SELECT @@identity"),
        Question(INSERT, "SELECT /*! LAST_INSERT_ID() */ + 0"),
        Question(INSERT, "SHOW VARIABLES LIKE 'last_insert_id'"),
        Question(INSERT, "INSERT INTO djpool_other VALUES (last_insert_id())"),
        Question("UPDATE djpool_asked SET who = {who} + 100", "SELECT ROW_COUNT()"),
        Question(
            "SELECT SQL_CALC_FOUND_ROWS who FROM djpool_asked LIMIT 1",
            "SELECT FOUND_ROWS()",
        ),
        Question("SELECT '{who}' + 'x'", "SHOW WARNINGS"),
        Question("SELECT '{who}' + 'x'", "SHOW COUNT(*) WARNINGS"),
    ],
}
CASES = [
    (engine, question)
    for engine in ENGINES
    if engine not in ORACLE
    for question in QUESTIONS[engine_of(engine).backend.partition("_")[0]]
]
each = pytest.mark.parametrize(
    ("engine", "question"),
    CASES,
    ids=[f"{engine}-{question.asks}" for engine, question in CASES],
)


@pytest.fixture(params=["request", "transaction"])
def release(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
def alias(engine: str, release: str, make_alias: MakeAlias) -> Iterator[str]:
    """An alias with a pool of one, and a table that numbers its rows."""
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release=release)
    wrapper: Any = connections[alias]
    numbered = {
        "sqlite": "integer PRIMARY KEY",
        "postgresql": "serial PRIMARY KEY",
        "mysql": "integer AUTO_INCREMENT PRIMARY KEY",
    }[wrapper.vendor]
    run(wrapper, f"CREATE TABLE djpool_asked (id {numbered}, who integer)")
    run(wrapper, "CREATE TABLE djpool_other (id integer)")
    # Somebody else's answers.
    with transaction.atomic(using=alias):
        for who in range(7):
            run(wrapper, INSERT.format(who=who))
    wrapper.close()
    yield alias
    wrapper.close()
    run(wrapper, "DROP TABLE djpool_asked")
    run(wrapper, "DROP TABLE djpool_other")
    wrapper.close()


def leave(wrapper: Any, question: Question, who: int) -> None:
    run(wrapper, question.leaves.format(who=who))


@each
def test_the_next_request_does_not_get_it(alias: str, question: Question) -> None:
    wrapper = connections[alias]
    leave(wrapper, question, 1)
    wrapper.close()
    with pytest.raises(ProgrammingError, match="atomic"):
        run(wrapper, question.asks)


@each
def test_not_after_a_statement_that_leaves_no_answer_either(
    alias: str, question: Question
) -> None:
    if "ROW" in question.asks or "SHOW" in question.asks:
        return  # these are about the statement before, whatever it is
    wrapper = connections[alias]
    leave(wrapper, question, 1)
    wrapper.close()
    with djpool.hold(alias):
        run(wrapper, "SELECT 1")
        with pytest.raises(ProgrammingError, match=r"djpool\.hold"):
            run(wrapper, question.asks)


@each
def test_in_transaction_mode_another_s_is_never_given(
    alias: str, question: Question, release: str
) -> None:
    """Right, or an error: in request mode it is the same lease."""
    wrapper = connections[alias]
    leave(wrapper, question, 1)

    def other() -> None:
        leave(connections[alias], question, 2)
        leave(connections[alias], question, 3)
        connections[alias].close()

    if release == "request":
        run(wrapper, question.asks)
        return
    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    with pytest.raises(ProgrammingError, match=alias):
        run(wrapper, question.asks)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ORACLE])
@pytest.mark.parametrize("release", ["transaction"])
@pytest.mark.parametrize("unseen", ["nothing inserted", "a driver's cursor"])
def test_what_an_earlier_lease_left_is_not_guessed_at(
    alias: str, engine: str, unseen: str
) -> None:
    """What this lease did may have left an answer, and has not: it is another's."""
    wrapper: Any = connections[alias]
    backend = engine_of(engine).backend.partition("_")[0]
    question = QUESTIONS[backend][0]
    leave(wrapper, question, 1)

    def other() -> None:
        leave(connections[alias], question, 2)
        connections[alias].close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    with djpool.hold(alias):
        if unseen == "nothing inserted":
            nothing = "INSERT INTO djpool_asked (who) SELECT 1 FROM djpool_other"
            run(wrapper, nothing)
        else:
            cursor = wrapper.connection.cursor()
            cursor.execute("SELECT 7")
            cursor.fetchall()
            cursor.close()
        with pytest.raises(ProgrammingError, match="known to have run"):
            run(wrapper, question.asks)
        leave(wrapper, question, 3)
        newest = run(wrapper, "SELECT max(id) FROM djpool_asked")
        assert run(wrapper, question.asks) == newest
        # And once more, after what leaves nothing.
        assert run(wrapper, question.asks) == newest


@each
@pytest.mark.parametrize("block", ["atomic", "hold", "cursor"])
def test_on_the_same_connection_it_is_right(
    alias: str, question: Question, block: str
) -> None:
    wrapper: Any = connections[alias]
    got: list[Any] = []

    def ask(cursor: Any) -> None:
        cursor.execute(question.leaves.format(who=1))
        if cursor.description:
            cursor.fetchall()
        cursor.execute(question.asks)
        if cursor.description:
            got.extend(cursor.fetchall())

    if block == "atomic":
        with transaction.atomic(using=alias), wrapper.cursor() as cursor:
            ask(cursor)
    elif block == "hold":
        with djpool.hold(alias), wrapper.cursor() as cursor:
            ask(cursor)
    else:
        with wrapper.cursor() as cursor:
            ask(cursor)
    if "last" in question.asks.lower() or "currval" in question.asks:
        newest = run(wrapper, "SELECT max(id) FROM djpool_asked")
        other = run(wrapper, "SELECT max(id) FROM djpool_other")
        got = [(int(row[-1]),) for row in got]
        assert newest in (got, other)
    elif question.asks.upper().endswith(("ROW_COUNT()", "FOUND_ROWS()", "CHANGES()")):
        assert got[0][0] == 7
    elif question.asks == "SHOW WARNINGS":
        assert any("x" in str(row) for row in got)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ORACLE])
def test_what_the_orm_asks_is_untouched(alias: str) -> None:
    """The number of a new row comes with the driver's answer, or by RETURNING."""
    from django.contrib.contenttypes.models import ContentType

    wrapper: Any = connections[alias]
    with wrapper.schema_editor() as editor:
        editor.create_model(ContentType)
    try:
        rows = ContentType.objects.using(alias)
        made = [rows.create(app_label="a", model=f"m{n}").pk for n in range(3)]
        assert made == sorted(rows.values_list("pk", flat=True))
        before = djpool.stats(alias).resets_total
        assert rows.filter(app_label="a").update(app_label="b") == 3
        wrapper.close()
        assert djpool.stats(alias).resets_total == before
    finally:
        with wrapper.schema_editor() as editor:
            editor.delete_model(ContentType)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ORACLE])
def test_words_in_literals_ask_nothing(alias: str) -> None:
    wrapper = connections[alias]
    text = "last_insert_id() currval('a') changes() SHOW WARNINGS"
    assert run(wrapper, "SELECT %s", [text]) == [(text,)]
    assert run(wrapper, "SELECT 'lastval() and changes()'")


FAILING = {
    "sqlite3": ("UPDATE djpool_missing SET a = 1", "SELECT changes()"),
    "postgresql": ("CALL djpool_missing()", "SELECT lastval()"),
    "mysql": ("CALL djpool_missing()", "SELECT LAST_INSERT_ID()"),
}


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ORACLE])
def test_what_did_not_run_leaves_no_answer(alias: str, engine: str) -> None:
    """A statement that failed, and one for each of no rows."""
    failing, asks = FAILING[engine_of(engine).backend.partition("_")[0]]
    wrapper = connections[alias]
    wrapper.close()
    with djpool.hold(alias):
        with pytest.raises(DatabaseError, match="djpool_missing"):
            run(wrapper, failing)
        with wrapper.cursor() as cursor:
            cursor.executemany("INSERT INTO djpool_asked (who) VALUES (%s)", [])
        with pytest.raises(ProgrammingError, match=r"djpool\.hold"):
            run(wrapper, asks)
