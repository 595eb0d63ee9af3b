"""What is particular to MySQL, MariaDB and their drivers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

import djpool
from djpool.adapters.mysql_session import IDENTITY
from djpool.checks import check_alias
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import (
    CONNECTOR,
    MYSQL,
    OTHER_DRIVERS,
    engine_of,
    server_of,
)
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy

NewWrapper = Callable[[], BaseDatabaseWrapper]

every_engine = pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
native = pytest.mark.parametrize("engine", ["mysql_connector-native"])


def run(wrapper: BaseDatabaseWrapper, sql: str) -> Any:
    """The first column of the first row, where there is one."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


@every_engine
@pytest.mark.parametrize(
    "beginning",
    [
        "BEGIN",
        "  start transaction",
        "/* by hand */ BEGIN",
        "-- by hand\nSTART TRANSACTION READ WRITE",
        "SET autocommit = 0",
        "set @@session.autocommit = off",
    ],
)
def test_a_transaction_that_django_does_not_know_of_is_rolled_back(
    beginning: str, alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    run(wrapper, "CREATE TABLE by_hand (n integer)")
    try:
        run(wrapper, beginning)
        run(wrapper, "INSERT INTO by_hand VALUES (1)")
        raw = raw_of(wrapper)
        wrapper.close()
        # What was set is brought back in another thread.
        wait_until(lambda: djpool.stats(alias).in_use == 0, "the connection")
        other = new_wrapper()
        assert run(other, "SELECT count(*) FROM by_hand") == 0
        assert run(other, "SELECT @@autocommit") == 1
        assert raw_of(other) is raw
        other.close()
    finally:
        run(new_wrapper(), "DROP TABLE by_hand")


@every_engine
def test_a_connection_killed_during_the_request_raises_only_there(
    engine: str, alias: str, new_wrapper: NewWrapper, request: pytest.FixtureRequest
) -> None:
    """Giving it back does not raise, whatever the driver thinks of it."""
    wrapper = new_wrapper()
    run(wrapper, "SELECT 1")
    assert server_of(engine, request).kill_sessions() >= 1
    with pytest.raises(Error):
        run(wrapper, "SELECT 1")
    wrapper.close()
    assert run(new_wrapper(), "SELECT 2") == 2


@every_engine
def test_rows_that_nobody_read_are_not_the_next_lease_s(
    alias: str, new_wrapper: NewWrapper
) -> None:
    first = new_wrapper()
    cursor = first.cursor()
    cursor.execute("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3")
    cursor.fetchone()
    raw = raw_of(first)
    first.close()
    second = new_wrapper()
    assert run(second, "SELECT 42") == 42
    assert raw_of(second) is raw


@native
def test_the_driver_s_pool_grows_as_it_is_used(
    engine: str, alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    run(wrapper, "SELECT 1")
    wrapper.close()
    kept = djpool.pool(alias).native
    assert kept._cnx_queue.qsize() == 1
    assert djpool.stats(alias).opened_total == 1
    other = new_wrapper()
    run(other, "SELECT 1")
    assert kept._cnx_queue.qsize() == 0


@native
def test_more_than_the_driver_s_pool_can_keep_is_refused(
    engine: str, make_alias: MakeAlias
) -> None:
    told = "max_size must be from 1 to 32 with the driver's own pool, not 33"
    alias = pooled(engine, make_alias, max_size=33)
    (problem,) = check_alias(connections[alias])  # type: ignore[arg-type]
    assert problem.id == "djpool.E008"
    assert f"DATABASES['{alias}']['OPTIONS']['pool']: {told}" in problem.msg
    with pytest.raises(djpool.OptionsError, match=told):
        connections[alias].ensure_connection()
    smaller = djpool.pool(pooled(engine, make_alias, max_size=32))
    with pytest.raises(djpool.OptionsError, match=told):
        smaller.resize(max_size=33)
    fallback = pooled("mysql_connector-fallback", make_alias, max_size=33)
    assert djpool.pool(fallback).stats().max_size == 33


@native
def test_the_driver_s_own_words_for_a_pool(engine: str, make_alias: MakeAlias) -> None:
    alias = make_alias(engine, pool={"pool_size": 5, "pool_name": "shop"})
    stats = djpool.stats(alias)
    assert (stats.max_size, stats.name) == (5, "shop")
    refused = make_alias(engine, pool={"pool_reset_session": True})
    (problem,) = check_alias(connections[refused])  # type: ignore[arg-type]
    assert problem.id == "djpool.E005"
    twice = make_alias(engine, pool=True, OPTIONS={"pool_size": 5})
    (problem,) = check_alias(connections[twice])  # type: ignore[arg-type]
    assert problem.id == "djpool.E005"
    assert f"DATABASES['{twice}']['OPTIONS']['pool_size']" in problem.msg
    with pytest.raises(djpool.OptionsError, match="the driver would pool"):
        connections[twice].ensure_connection()


@pytest.mark.parametrize("engine", CONNECTOR)
@pytest.mark.parametrize("stuck", ["ping", "connect"])
def test_a_server_that_does_not_answer_stops_nobody_else(
    *,
    stuck: str,
    engine: str,
    alias: str,
    make_alias: MakeAlias,
    new_wrapper: NewWrapper,
    request: pytest.FixtureRequest,
    proxy: Callable[[str, int], Proxy],
) -> None:
    """The driver's own pool pings and reconnects under one lock for all pools."""
    server = server_of(engine, request)
    middle = proxy(server.host, server.port)
    slow = make_alias(
        engine,
        pool=engine_of(engine).pool | {"check": True, "check_timeout": 20},
        HOST=middle.host,
        PORT=str(middle.port),
    )
    if stuck == "ping":
        connections[slow].ensure_connection()
        connections[slow].close()
    middle.black_hole()
    ended = threading.Event()

    def wait() -> None:
        wrapper = connections.create_connection(slow)
        try:
            wrapper.ensure_connection()
        except Error:
            ended.set()
        finally:
            wrapper.close()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(
        lambda: djpool.stats(slow).in_use + djpool.stats(slow).opening == 1,
        "somebody to be stuck",
    )
    for _ in range(200):
        wrapper = new_wrapper()
        assert run(wrapper, "SELECT 1") == 1
        wrapper.close()
    assert thread.is_alive()
    assert not ended.is_set()
    middle.close()  # the rest of the wait is not what this is about
    thread.join(60)
    assert ended.is_set()


# -- sessions ------------------------------------------------------------------------

LATIN = "SELECT CONCAT(@@time_zone, @@group_concat_max_len, @@collation_connection)"


def give_back(wrapper: BaseDatabaseWrapper) -> djpool.PoolStats:
    """Close it, and wait until its connection has come back, or is closed."""
    wrapper.close()
    wait_until(lambda: not djpool.stats(wrapper.alias).in_use, "the connection")
    return djpool.stats(wrapper.alias)


@every_engine
def test_what_connecting_has_set_is_set_again(
    engine: str, make_alias: MakeAlias
) -> None:
    """By the driver, by Django, and by who heard of the connection."""
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"max_size": 2},
        AUTOCOMMIT=False,
        OPTIONS={
            "init_command": "SET group_concat_max_len = 4321",
            "collation": "utf8mb4_spanish_ci",
            "charset": "utf8mb4",
            "isolation_level": "repeatable read",
        },
    )

    def set_more(connection: Any, **_kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = %s", ["+05:30"])

    connection_created.connect(set_more)
    try:
        first, second = (connections.create_connection(alias) for _ in range(2))
        before = [run(each, LATIN) for each in (first, second)]
        assert before == ["+05:304321utf8mb4_spanish_ci"] * 2
        for wrapper in (first, second):
            run(wrapper, "SET time_zone = '+00:00', group_concat_max_len = 99")
            run(wrapper, "SET NAMES latin1")
        first.close()
        give_back(second)
    finally:
        connection_created.disconnect(set_more)
    assert [run(each, LATIN) for each in (first, second)] == before
    assert [run(each, "SELECT @@autocommit") for each in (first, second)] == [0, 0]
    stats = djpool.stats(alias)
    assert (stats.resets_total, stats.opened_total) == (2, 2)
    for wrapper in (first, second):
        wrapper.close()


@every_engine
@pytest.mark.parametrize(
    "said",
    ["SET @tenant = 7", "SET time_zone = '+01:00', @tenant = 7", "DO GET_LOCK('a', 1)"],
)
def test_what_cannot_be_set_again_closes_the_connection(
    engine: str, said: str, make_alias: MakeAlias
) -> None:
    alias = make_alias(
        engine, pool=engine_of(engine).pool, OPTIONS={"init_command": said}
    )
    wrapper = connections.create_connection(alias)
    run(wrapper, "SELECT 1")
    assert give_back(wrapper).size == 1
    run(wrapper, "SET @mine = 1")
    stats = give_back(wrapper)
    assert (stats.size, stats.closed_total["reset"]) == (0, 1)


@every_engine
def test_a_reset_is_three_round_trips_after_the_first(
    engine: str, alias: str, new_wrapper: NewWrapper, request: pytest.FixtureRequest
) -> None:
    server = server_of(engine, request)
    wrapper = new_wrapper()
    run(wrapper, "SET @mine = 1")
    give_back(wrapper)
    run(wrapper, "SET @mine = 2")
    mark = server.mark()
    give_back(wrapper)
    wait_until(lambda: "CURRENT_ROLE" in server.log_since(mark), "the log")
    said = [
        line.rpartition("\t")[2]
        for line in server.log_since(mark).splitlines()
        if "\tQuery\t" in line or " Query\t" in line
    ]
    # The first of the three is no statement.
    assert said.pop() == IDENTITY
    # Nothing, where the server's own values are what Django wants.
    assert not said or (len(said) == 1 and said[0].startswith("SET SESSION "))


# PyMySQL cannot change the user.
CHANGE_USERS = [*CONNECTOR, *([] if OTHER_DRIVERS else MYSQL)]


@pytest.mark.parametrize("engine", CHANGE_USERS)
def test_another_user_s_session_is_closed(
    engine: str, alias: str, new_wrapper: NewWrapper, request: pytest.FixtureRequest
) -> None:
    server = server_of(engine, request)
    wrapper: Any = new_wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    change_user = getattr(raw, "cmd_change_user", None) or raw.change_user
    change_user(server.superuser, server.superuser_password, server.database)
    assert run(wrapper, "SELECT SUBSTRING_INDEX(USER(), '@', 1)") == server.superuser
    assert give_back(wrapper).closed_total["reset"] == 1
    assert run(wrapper, "SELECT SUBSTRING_INDEX(USER(), '@', 1)") == server.user


@every_engine
def test_a_reset_that_gets_no_answer_ends_in_time(
    engine: str,
    make_alias: MakeAlias,
    request: pytest.FixtureRequest,
    proxy: Callable[[str, int], Proxy],
) -> None:
    server = server_of(engine, request)
    middle = proxy(server.host, server.port)
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"check_timeout": 0.5},
        HOST=middle.host,
        PORT=str(middle.port),
    )
    wrapper = connections.create_connection(alias)
    run(wrapper, "SET @mine = 1")
    middle.black_hole()
    assert give_back(wrapper).closed_total["reset"] == 1


@pytest.mark.parametrize("engine", [] if OTHER_DRIVERS else MYSQL)
def test_mysqlclient_s_library_may_be_out_of_reach(
    engine: str,
    alias: str,
    new_wrapper: NewWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from djpool.adapters import mysqlclient_inside

    monkeypatch.setattr(mysqlclient_inside, "_library", lambda: None)
    wrapper = new_wrapper()
    run(wrapper, "SET @mine = 1")
    assert give_back(wrapper).closed_total["reset"] == 1
    assert run(wrapper, "SELECT @mine") is None


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
def test_a_handler_that_asks_amid_a_statement(
    engine: str, make_alias: MakeAlias
) -> None:
    """It gets its own answer, or an error; and so does the statement.

    PyMySQL's error is none of its own kinds. Connector/Python's part in C lets the
    statement end without its rows. Both do so with the stock backend, too.
    """
    refusals = (Error, RuntimeError) if OTHER_DRIVERS else Error
    answers = [42, None] if OTHER_DRIVERS and engine in CONNECTOR else [42]
    alias = pooled(engine, make_alias, max_size=1, timeout=5)
    wrapper = connections[alias]
    run(wrapper, "SELECT 1")
    told: list[Any] = []

    def ask(question: str) -> Any:
        try:
            return run(wrapper, question)
        except refusals as error:
            return error

    previous = signal.signal(signal.SIGALRM, lambda *_: told.append(ask("SELECT 7")))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        answer = ask("SELECT 42 + SLEEP(0.5)")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert told, "the signal has come"
    assert isinstance(told[0], refusals) or told[0] == 7
    assert isinstance(answer, refusals) or answer in answers
    wrapper.close()
    assert run(wrapper, "SELECT 8") == 8
