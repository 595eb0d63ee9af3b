"""Settings that change while the process runs: the pool of the former settings goes.

An alias never has more than `max_size` connections, whichever settings they were made
with; connections of former settings close, and nothing logs in with them any more.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

import djpool
from djpool import config
from djpool.core import connections as connections_of_pools
from djpool.core import registry, upkeep
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES, ORACLE, POSTGRESQL
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until

MODES = ["", "+transaction"]
EVERY = [f"{engine}{mode}" for engine in ENGINES for mode in MODES if "@" not in engine]
EVERY += [
    engine.replace("@", f"{mode}@")
    for engine in ENGINES
    for mode in MODES
    if "@" in engine
]
ON_POSTGRESQL = [f"{engine}{mode}" for engine in POSTGRESQL for mode in MODES]

_numbers = itertools.count(1)


@pytest.fixture(params=ON_POSTGRESQL)
def engine(request: pytest.FixtureRequest) -> str:
    """PostgreSQL in each implementation and each mode."""
    name: str = request.param
    return name


def query(wrapper: Any) -> None:
    """One statement, which must be answered."""
    with wrapper.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"
        )
        assert cursor.fetchone()[0] == 1


def ask(alias: str) -> None:
    """One request in this thread."""
    wrapper = connections[alias]
    try:
        query(wrapper)
    finally:
        wrapper.close()


def change(alias: str, **pool: Any) -> None:
    """Change the settings of an alias in place, as a rotated password does."""
    described = connections.settings[alias]
    options = dict(described["OPTIONS"])
    options["pool"] = options["pool"] | {"native": {}} | pool
    options["pool"]["max_lifetime"] = 1000 + next(_numbers)
    described["OPTIONS"] = options


def replace(alias: str, **pool: Any) -> None:
    """Other settings in another dict: Django connections keep the one they have."""
    connections.settings[alias] = dict(connections.settings[alias])
    change(alias, **pool)


def pools_of(alias: str) -> list[Any]:
    return [pool for pool in config.registry.every() if pool.alias == alias]


@contextmanager
def another_thread() -> Iterator[Callable[..., None]]:
    """Calls functions in one other thread, one after the other."""
    asked: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    failed: list[BaseException] = []
    go, done = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        while go.acquire() and asked:
            call, args = asked.pop()
            try:
                call(*args)
            except BaseException as error:  # noqa: BLE001 (raised in the caller)
                failed.append(error)
            done.release()
        connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def do(call: Callable[..., None], *args: Any) -> None:
        asked.append((call, args))
        go.release()
        assert done.acquire(timeout=60)
        if failed:
            raise failed.pop()

    yield do
    go.release()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("engine", EVERY)
def test_the_pool_of_former_settings_goes(engine: str, make_alias: MakeAlias) -> None:
    alias = pooled(engine, make_alias, max_size=2, min_size=1, timeout=10)
    ask(alias)
    for _ in range(3):
        change(alias)
        ask(alias)
        stats = djpool.stats(alias)
        assert stats.in_use + stats.idle + stats.opening == stats.size <= 2
    wait_until(lambda: len(pools_of(alias)) == 1, "the former pools to go")
    wait_until(lambda: djpool.stats(alias).size == 1, "min_size")
    stats = djpool.stats(alias)
    assert stats.acquired_total == 4  # counters do not go back
    assert stats.opened_total - sum(stats.closed_total.values()) == 1
    ask(alias)
    assert djpool.pool(alias) is pools_of(alias)[0]


@pytest.mark.parametrize("engine", EVERY)
def test_a_lease_of_former_settings_ends_as_ever(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=2, timeout=10)
    wrapper = connections[alias]
    with transaction.atomic(using=alias), djpool.hold(alias):
        query(wrapper)
        raw = wrapper.djpool_lease.connection  # type: ignore[attr-defined]
        change(alias)
        with another_thread() as do:
            do(ask, alias)
        stats = djpool.stats(alias)
        assert (stats.size, stats.in_use) == (2, 1)
        assert len(pools_of(alias)) == 2
        query(wrapper)
        assert wrapper.djpool_lease.connection is raw  # type: ignore[attr-defined]
    wrapper.close()
    wait_until(lambda: len(pools_of(alias)) == 1, "the former pool to go")
    assert djpool.stats(alias).size == 1


@pytest.mark.parametrize("engine", EVERY)
def test_new_callers_wait_for_the_room_of_former_ones(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=0.3)
    wrapper = connections[alias]
    with another_thread() as do, transaction.atomic(using=alias):
        query(wrapper)
        change(alias, timeout=0.2)
        with pytest.raises(djpool.PoolTimeout, match="MainThread"):
            do(ask, alias)
        assert djpool.stats(alias).size == 1
        change(alias, timeout=30)
        waiter = threading.Thread(target=ask, args=[alias])
        waiter.start()
        wait_until(lambda: djpool.stats(alias).waiting == 1, "somebody to wait")
        query(wrapper)
    wrapper.close()
    waiter.join(10)
    assert not waiter.is_alive()
    assert djpool.stats(alias).size == 1


def test_threads_that_keep_the_former_settings_are_served(
    engine: str, make_alias: MakeAlias
) -> None:
    """One after the other, while there is one place for both."""
    alias = pooled(engine, make_alias, max_size=1, timeout=10)
    with another_thread() as do:
        do(ask, alias)
        replace(alias)
        for _ in range(5):
            ask(alias)
            do(ask, alias)
            assert djpool.stats(alias).size <= 1
    ask(alias)


def test_flapping_kills_no_pool(engine: str, make_alias: MakeAlias) -> None:
    alias = pooled(engine, make_alias, max_size=4, timeout=10)
    with another_thread() as do:
        do(ask, alias)
        replace(alias)
        ask(alias)
        seen = {id(pool) for pool in pools_of(alias)}
        assert len(seen) == 2
        current = config.registry.current()[alias]
        for _ in range(20):
            do(ask, alias)
            ask(alias)
            assert {id(pool) for pool in pools_of(alias)} == seen
            assert config.registry.current()[alias] is current
        assert djpool.stats(alias).opened_total == 2
    wait_until(lambda: len(pools_of(alias)) == 1, "the former pool to go")
    assert config.registry.current()[alias] is current


def test_all_callers_are_served_while_both_pools_are_wanted(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """More threads than places, half of them with former settings."""
    alias = pooled(engine, make_alias, max_size=3, timeout=20)
    over, changed = threading.Event(), threading.Event()
    started = threading.Barrier(5)
    failed: list[BaseException] = []
    done = [0] * 8

    def work(number: int) -> None:
        try:
            if number < 4:
                ask(alias)
                started.wait(20)
            changed.wait(20)
            while not over.is_set():
                ask(alias)
                done[number] += 1
        except Exception as error:  # noqa: BLE001 (the test shows it)
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[each]) for each in range(8)]
    for thread in threads[:4]:
        thread.start()
    started.wait(20)
    replace(alias)
    changed.set()
    for thread in threads[4:]:
        thread.start()
    ends = time.monotonic() + 3
    most = 0
    while time.monotonic() < ends:
        stats = djpool.stats(alias)
        most = max(most, stats.size)
        assert stats.in_use + stats.idle + stats.opening == stats.size
        time.sleep(0.002)
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failed == []
    assert most <= 3
    assert min(done) > 0, done


@pytest.fixture
def role(postgres: PostgresServer) -> Iterator[str]:
    """A role whose sessions can be counted. Its password is "old"."""
    name = f"changed_{next(_numbers)}"
    with postgres.admin() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'old'")
        yield name
        djpool.close_all()
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            [name],
        )
        admin.execute(f"DROP ROLE {name}")


def sessions(admin: Any, role: str) -> int:
    count: int = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [role]
    ).fetchone()[0]
    return count


def test_the_server_never_sees_more_than_max_size(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer, role: str
) -> None:
    """Under load, while the settings change five times a second."""
    alias = pooled(engine, make_alias, max_size=3, min_size=1, timeout=20)
    connections.settings[alias] |= {"USER": role, "PASSWORD": "old"}
    failed: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                ask(alias)
        except Exception as error:  # noqa: BLE001 (the test shows it)
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    most, acquired = 0, 0
    with postgres.admin() as admin:
        for _ in range(20):
            change(alias)
            ends = time.monotonic() + 0.2
            while time.monotonic() < ends:
                most = max(most, djpool.stats(alias).size)
                # A session that has ended stays in that view for a moment.
                if sessions(admin, role) > 3:
                    time.sleep(0.05)
                    assert sessions(admin, role) <= 3
                before, acquired = acquired, djpool.stats(alias).acquired_total
                assert acquired >= before
        over.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert failed == []
        assert most <= 3
        wait_until(lambda: len(pools_of(alias)) == 1, "the former pools to go")
        ask(alias)
        assert sessions(admin, role) <= 3


def test_logins_with_a_former_password_stop(
    engine: str,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    role: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The upkeep pings what is idle for a second, and so notices what was ended.
    alias = pooled(
        engine,
        make_alias,
        max_size=4,
        min_size=2,
        timeout=10,
        check_after=1,
        check_timeout=1,
    )
    connections.settings[alias] |= {"USER": role, "PASSWORD": "old"}
    ask(alias)
    caplog.set_level(logging.INFO, "djpool.pool")
    with postgres.admin() as admin:
        admin.execute(f"ALTER ROLE {role} PASSWORD 'new'")
        connections.settings[alias]["PASSWORD"] = "new"
        ask(alias)
        # A login that is just going on would fail of what comes now.
        wait_until(lambda: djpool.stats(alias).size == 2, "min_size")
        wait_until(lambda: djpool.stats(alias).opening == 0, "the logins to end")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            [role],
        )
        time.sleep(3)
        ask(alias)
        wait_until(lambda: djpool.stats(alias).size == 2, "min_size")
        assert djpool.stats(alias).open_errors_total == 0
        assert "connections open" not in caplog.text
        wait_until(lambda: sessions(admin, role) == 2, "both to be there")


def test_settings_that_nobody_has_leased_with_are_noticed(
    engine: str,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    role: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The upkeep looks by itself: nothing is kept open with a password of before."""
    monkeypatch.setattr(upkeep, "REVIEW", 0.2)
    alias = pooled(engine, make_alias, max_size=4, min_size=2, timeout=10)
    connections.settings[alias] |= {"USER": role, "PASSWORD": "old"}
    ask(alias)
    wait_until(lambda: djpool.stats(alias).size == 2, "min_size")
    with postgres.admin() as admin:
        connections.settings[alias]["PASSWORD"] = "new"
        wait_until(lambda: sessions(admin, role) == 0, "the sessions to end")
    wait_until(lambda: not pools_of(alias), "the pool to go")


def test_an_alias_that_is_removed_takes_its_pool_with_it(
    engine: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "REVIEW", 0.2)
    alias = pooled(engine, make_alias, max_size=2, min_size=1, timeout=10)
    ask(alias)
    assert alias in config.figures()
    described = connections.settings.pop(alias)
    wait_until(lambda: not pools_of(alias), "the pool to go")
    assert alias not in config.figures()
    # A Django connection of before works on.
    ask(alias)
    connections.settings[alias] = described
    ask(alias)
    assert djpool.stats(alias).size == 1


def test_a_pool_without_connections_goes_with_its_alias(
    engine: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no upkeep: whoever makes another pool looks round."""
    monkeypatch.setattr(registry, "LOOK_ROUND", 0.0)
    alias, *others = (pooled(engine, make_alias, max_size=2) for _ in range(3))
    djpool.pool(alias)
    described = connections.settings.pop(alias)
    for other in others:
        config.registry._look_round_at = float("-inf")
        djpool.pool(other)
        time.sleep(connections_of_pools.LINGER + 0.1)
    assert not pools_of(alias)
    connections.settings[alias] = described


def test_settings_that_change_back_find_their_pool(
    engine: str, make_alias: MakeAlias
) -> None:
    """As those of a test, for a moment."""
    alias = pooled(engine, make_alias, max_size=2, min_size=1, timeout=10)
    ask(alias)
    pool = djpool.pool(alias)
    for _ in range(3):
        with override_settings(USE_TZ=False):
            ask(alias)
            assert djpool.pool(alias) is not pool
        ask(alias)
        assert djpool.pool(alias) is pool
        assert not pool.closed
    wait_until(lambda: pools_of(alias) == [pool], "the other pool to go")
    wait_until(lambda: djpool.stats(alias).size == 1, "min_size")


def test_a_pool_kept_from_before_speaks_for_its_alias(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=2, timeout=10)
    kept = djpool.pool(alias)
    ask(alias)
    change(alias)
    ask(alias)
    for _ in range(2):
        assert kept.stats().acquired_total == djpool.stats(alias).acquired_total
        kept.resize(max_size=3)
        assert djpool.stats(alias).max_size == 3
        kept.suspend()
        assert djpool.pool(alias).suspended
        kept.resume()
        assert not djpool.pool(alias).suspended
        before = djpool.stats(alias).closed_total["evicted"]
        ask(alias)
        kept.drain()
        ask(alias)
        assert djpool.stats(alias).closed_total["evicted"] > before
        kept.resize(max_size=2)
        wait_until(lambda: len(pools_of(alias)) == 1, "the former pool to go")
    kept.close()
    with pytest.raises(djpool.PoolClosed):
        ask(alias)
    djpool.close_all()
    ask(alias)


def test_what_an_alias_was_told_holds_for_other_settings(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=2, timeout=0.2)
    ask(alias)
    djpool.pool(alias).suspend()
    change(alias)
    with pytest.raises(djpool.PoolTimeout, match="suspended"):
        ask(alias)
    djpool.pool(alias).resume()
    djpool.pool(alias).resize(max_size=7, min_size=1)
    change(alias)
    ask(alias)
    assert djpool.stats(alias).max_size == 7
    change(alias, max_size=3)
    ask(alias)
    assert djpool.stats(alias).max_size == 3


def test_a_copy_with_other_settings_leaves_the_pool_alone(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=4, timeout=10)
    ask(alias)
    pool = djpool.pool(alias)
    copied = connections[alias].copy()
    copied.settings_dict["OPTIONS"]["application_name"] = "a copy"
    query(copied)
    assert djpool.pool(alias) is pool
    copied.close()
    ask(alias)
    assert djpool.stats(alias).opened_total == 2
    wait_until(lambda: pools_of(alias) == [pool], "the copy's pool to go")
    assert djpool.stats(alias).size == 1


def test_a_child_begins_anew(engine: str, make_alias: MakeAlias) -> None:
    alias = pooled(engine, make_alias, max_size=2, timeout=5)
    ask(alias)
    kept = djpool.pool(alias)
    change(alias)
    ask(alias)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert kept.closed
            assert kept.stats().size == 0
            ask(alias)
            change(alias)
            ask(alias)
            assert djpool.stats(alias).size <= 2
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ask(alias)
    assert djpool.stats(alias).size <= 2


def test_every_engine_is_here() -> None:
    assert len(EVERY) == 2 * len(ENGINES)
    assert set(ORACLE) <= set(EVERY)
