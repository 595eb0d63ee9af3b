"""What is particular to MySQL, MariaDB and their drivers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

import djpool
from djpool.checks import check_alias
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import CONNECTOR, MYSQL, engine_of, server_of
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
