"""What Django asks of the driver's connection itself, between two statements.

With `release: "transaction"` there is no lease then, and any other thread that waits
may take the one that is made for the question.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper

import djpool
from djpool.questions import FEATURES, with_a_lease
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import ENGINES, engine_of
from tests.backends.kinds import run
from tests.backends.test_transaction_mode import in_use, select

SQLITE = [name for name in ENGINES if engine_of(name).backend == "sqlite3"]
# sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, which Python 3.10 lacks
VARIABLES = 9
on_sqlite = pytest.mark.parametrize("engine", SQLITE)


@pytest.fixture
def alias(engine: str, make_alias: MakeAlias) -> Iterator[str]:
    """Give an alias with one connection, for one transaction at a time."""
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release="transaction")
    yield alias
    connections[alias].close()
    # The one place is still there. Its session may be on the way back.
    djpool.pool(alias).acquire().release()


@pytest.fixture
def stock(engine: str, make_alias: MakeAlias) -> Iterator[Any]:
    """Give a Django connection without a pool, to compare with."""
    wrapper = connections[make_alias(engine, pool=False)]
    yield wrapper
    wrapper.close()


@pytest.fixture
def robbed(alias: str) -> Iterator[list[bool]]:
    """Have another thread want the connection as soon as there is one.

    Gives whether it got one, each time.
    """
    wrapper: Any = connections[alias]
    connect = wrapper.ensure_connection
    taken: list[bool] = []

    def take() -> None:
        try:
            djpool.pool(alias).acquire(0).release()
        except djpool.PoolTimeout:
            taken.append(False)
        else:
            taken.append(True)

    def connect_and_lose() -> None:
        connect()
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(30)

    wrapper.ensure_connection = connect_and_lose
    yield taken
    del wrapper.ensure_connection


def max_query_params(wrapper: Any) -> object:
    """Ask for what `bulk_create()` and `in_bulk()` ask, from Django 6.1 on."""
    return wrapper.features.max_query_params


def last_executed_query(wrapper: Any) -> object:
    """Ask as a query logger may, whose cursor is closed already."""
    with wrapper.cursor() as cursor:
        cursor.execute(select(wrapper.alias))
    if wrapper.vendor != "sqlite":
        return None  # the others ask their cursor
    return wrapper.ops.last_executed_query(cursor.cursor, "SELECT %s, %s", ("a'b", 1))


def quote_value(wrapper: Any) -> object:
    """Ask for what a migration asks for that adds a default."""
    run(wrapper, select(wrapper.alias))
    return wrapper.schema_editor(collect_sql=True).quote_value("a'b")


Ask = Callable[[Any], object]
questions = pytest.mark.parametrize(
    "ask", [max_query_params, last_executed_query, quote_value]
)


def assert_given_back(alias: str, ask: Ask) -> None:
    """Look at whether the lease of a question has ended."""
    # Connector/Python brings a schema editor of its own. It is not Django's, so djpool
    # takes its look at the driver's connection for more than a look.
    its_own = "connector" in type(connections[alias]).__module__
    assert in_use(alias) == (its_own and ask is quote_value)
    connections[alias].close()


@questions
def test_a_question_between_two_statements_is_answered_as_ever(
    ask: Ask, alias: str, stock: Any
) -> None:
    """And what it was asked over goes back at once."""
    wrapper = connections[alias]
    expected = ask(stock)
    for _ in range(2):
        assert ask(wrapper) == expected
        assert_given_back(alias, ask)
    run(wrapper, select(alias))
    assert ask(wrapper) == expected
    assert_given_back(alias, ask)


@questions
def test_a_question_keeps_its_connection_until_it_is_answered(
    ask: Ask, alias: str, stock: Any, robbed: list[bool]
) -> None:
    """Another thread that wants it waits, or is refused."""
    assert ask(connections[alias]) == ask(stock)
    assert True not in robbed
    assert_given_back(alias, ask)


@questions
def test_a_question_under_a_hold_and_in_a_transaction(
    ask: Ask, alias: str, stock: Any
) -> None:
    """It is asked of the connection that is there, which stays."""
    wrapper, expected = connections[alias], ask(stock)
    for block in (djpool.hold(alias), transaction.atomic(using=alias)):
        with block:
            run(wrapper, select(alias))
            raw = raw_of(wrapper)
            assert ask(wrapper) == expected
            assert raw_of(wrapper) is raw
        assert_given_back(alias, ask)


@questions
def test_a_question_after_the_lease_was_taken_away(
    ask: Ask, alias: str, stock: Any
) -> None:
    wrapper, expected = connections[alias], ask(stock)
    wrapper.ensure_connection()
    thread = threading.Thread(target=lambda: djpool.pool(alias).acquire(5).release())
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert ask(wrapper) == expected
    assert_given_back(alias, ask)


@on_sqlite
@pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "setlimit"), reason="from Python 3.11 on"
)
@pytest.mark.skipif(
    not isinstance(DatabaseWrapper.features_class.max_query_params, property),
    reason="a constant before Django 6.1",
)
def test_a_limit_of_this_connection_is_told_while_it_is_held(alias: str) -> None:
    """The next lease has the usual one."""
    wrapper: Any = connections[alias]
    usual = wrapper.features.max_query_params
    with djpool.hold(alias):
        wrapper.ensure_connection()
        wrapper.connection.setlimit(VARIABLES, 77)
        assert wrapper.features.max_query_params == 77
    wrapper.close()
    assert wrapper.features.max_query_params == usual


@on_sqlite
def test_queries_that_ask_beside_threads_that_want_the_connection(alias: str) -> None:
    """None of eight threads with one connection ever meets an AttributeError."""
    with connections[alias].schema_editor() as editor:
        editor.create_model(ContentType)
    connections[alias].close()  # its editor has changed the session
    errors: list[BaseException] = []
    interval = sys.getswitchinterval()

    def work(number: int) -> None:
        rows = ContentType.objects.using(alias)
        try:
            for each in range(20):
                name = f"m{number}-{each}"
                made = rows.bulk_create([ContentType(app_label="new", model=name)])
                assert list(rows.in_bulk([made[0].pk])) == [made[0].pk]
                limit = connections[alias].features.max_query_params
                assert limit is not None
                assert limit >= 999
        except BaseException as error:  # noqa: BLE001 (of another thread)
            errors.append(error)
        finally:
            connections[alias].close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert ContentType.objects.using(alias).count() == 160


def test_a_foreign_backend_that_has_its_own_answers_keeps_them() -> None:
    """A constant stays one, and a class is given leases once."""

    class Features:
        max_query_params = 77

    asking = with_a_lease(Features, FEATURES)
    assert asking.__dict__.keys().isdisjoint(FEATURES)
    assert with_a_lease(asking, FEATURES) is asking
