"""Pools that are resized, drained, suspended and closed while they are in use."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest
from django.db import connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES, POSTGRESQL
from tests.backends.load import LONG, Load, Request, at_once, count_out, with_idle_ones
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until


@pytest.fixture(params=["sqlite3", *POSTGRESQL])
def engine(request: pytest.FixtureRequest) -> str:
    """One that has a server, and one that has none."""
    name: str = request.param
    return name


def no_errors(load: Load) -> None:
    assert [each.error for each in load.errors] == []


def is_quiet(pool: djpool.Pool) -> bool:
    """Whether nobody has a connection, or is about to."""
    stats = pool.stats()
    return stats.in_use == stats.opening == 0


def test_resizing_under_load(engine: str, make_alias: MakeAlias) -> None:
    """Two, twenty, two: no error, and never more than there may be."""
    alias = pooled(engine, make_alias, max_size=2, timeout=LONG)
    with Load(alias, 24) as load:
        load.goes_on()
        pool = djpool.pool(alias)
        assert pool.stats().size <= 2
        pool.resize(max_size=20)
        wait_until(lambda: pool.stats().size > 2, "it to grow", timeout=LONG)
        load.goes_on(200)
        pool.resize(max_size=2)
        wait_until(lambda: pool.stats().size <= 2, "it to shrink", timeout=LONG)
        load.goes_on()
        assert pool.stats().size <= 2
        pool.resize(min_size=1, max_size=3)
        load.goes_on()
    no_errors(load)
    count_out(alias)


def test_draining_under_load(engine: str, make_alias: MakeAlias) -> None:
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    with_idle_ones(alias, 5)
    pool = djpool.pool(alias)
    before = pool.stats().opened_total
    with Load(alias, 12) as load:
        for _ in range(5):
            load.goes_on()
            pool.drain()
        load.goes_on()
    no_errors(load)
    stats = pool.stats()
    assert stats.closed_total["evicted"] >= 5
    assert stats.opened_total > before
    assert stats.size <= 5
    count_out(alias)


def test_suspending_under_load(engine: str, make_alias: MakeAlias) -> None:
    """What is in use comes back; who asks meanwhile is served afterwards."""
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    with Load(alias, 12) as load:
        load.goes_on()
        pool = djpool.pool(alias)
        pool.suspend()
        wait_until(lambda: is_quiet(pool), "all to come back", timeout=LONG)
        wait_until(lambda: pool.stats().waiting == 12, "all to wait", timeout=LONG)
        acquired = pool.stats().acquired_total
        time.sleep(0.1)
        assert pool.stats().acquired_total == acquired
        pool.resume()
        load.goes_on()
    no_errors(load)
    count_out(alias)


@pytest.mark.parametrize("engine", POSTGRESQL)
@pytest.mark.parametrize("drained", [True, False])
def test_a_restart_while_it_is_suspended_fails_nothing(
    drained: bool, engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """The way through a planned failover."""
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    with Load(alias, 12) as load:
        load.goes_on()
        pool = djpool.pool(alias)
        for _ in range(2):
            pool.suspend()
            wait_until(lambda: is_quiet(pool), "all to come back", timeout=LONG)
            if drained:
                pool.drain()
                assert pool.stats().idle == 0
            postgres.restart("fast")
            pool.resume()
            load.goes_on()
    no_errors(load)
    count_out(alias)


def test_closing_under_load(engine: str, make_alias: MakeAlias) -> None:
    """Whoever comes is sent away; who has one may finish."""
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    pool = None
    with Load(alias, 12, ends_with=djpool.PoolClosed) as load:
        load.goes_on()
        pool = djpool.pool(alias)
        holder = connections.create_connection(alias)
        with holder.cursor() as cursor:
            closer = threading.Thread(target=pool.close, args=[LONG], daemon=True)
            closer.start()
            wait_until(lambda: pool.closed, "it to close")
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
            assert closer.is_alive()
        holder.close()
        closer.join(LONG)
        assert not closer.is_alive()
    assert {type(each.error) for each in load.errors} == {djpool.PoolClosed}
    stats = pool.stats()
    assert (stats.size, stats.waiting) == (0, 0)
    assert sum(stats.closed_total.values()) == stats.opened_total
    assert isinstance(Request(alias).error, djpool.PoolClosed)


def test_closing_waits_no_longer_than_it_is_told(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=2)
    holder = connections.create_connection(alias)
    holder.ensure_connection()
    pool = djpool.pool(alias)
    began = time.monotonic()
    pool.close(0.2)
    assert time.monotonic() - began >= 0.2
    assert pool.stats().size == 1
    holder.close()
    assert pool.stats().size == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pool_that_closes_just_when_a_lease_comes_back_keeps_nothing(
    engine: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found to be open the moment before."""
    alias = pooled(engine, make_alias, max_size=2)
    holder = connections.create_connection(alias)
    holder.ensure_connection()
    pool = djpool.pool(alias)
    end_use = pool.connections.end_use

    def close_first(*arguments: Any) -> None:
        pool.close()
        end_use(*arguments)

    monkeypatch.setattr(pool.connections, "end_use", close_first)
    holder.close()
    stats = pool.stats()
    assert (stats.size, sum(stats.closed_total.values())) == (0, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pool_that_closes_while_a_caller_connects_serves_it_or_sends_it_away(
    engine: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end it has nothing open, and no thread of its own."""
    alias = pooled(engine, make_alias, max_size=2)
    holder = connections.create_connection(alias)
    pool = djpool.pool(alias)
    connect = pool.connections.driver.connect

    def close_meanwhile(timeout: float) -> Any:
        connection = connect(timeout)
        pool.close()
        return connection

    monkeypatch.setattr(pool.connections.driver, "connect", close_meanwhile)
    with contextlib.suppress(djpool.PoolClosed):
        holder.ensure_connection()
    holder.close()
    stats = pool.stats()
    assert (stats.size, sum(stats.closed_total.values())) == (0, stats.opened_total)
    prefix = f"djpool {pool.options.name}-"  # of psycopg_pool's threads
    wait_until(
        lambda: not any(each.name.startswith(prefix) for each in threading.enumerate()),
        "its threads to end",
    )


def test_all_of_it_at_once(engine: str, make_alias: MakeAlias) -> None:
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    over = threading.Event()

    def fiddle() -> None:
        pool = djpool.pool(alias)
        sizes = (2, 7, 1, 5)
        turn = 0
        while not over.is_set():
            pool.resize(max_size=sizes[turn % 4])
            pool.drain()
            pool.suspend()
            time.sleep(0.01)
            pool.resume()
            time.sleep(0.01)
            turn += 1
        pool.resize(max_size=5)

    with Load(alias, 12) as load:
        load.goes_on()
        fiddler = threading.Thread(target=fiddle, daemon=True)
        fiddler.start()
        load.goes_on(500)
        over.set()
        fiddler.join(LONG)
        assert not fiddler.is_alive()
        load.goes_on()
    no_errors(load)
    assert [each.error for each in at_once(alias, 10)] == [None] * 10
    count_out(alias)
