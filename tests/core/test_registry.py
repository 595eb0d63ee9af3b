"""One pool for each identity, made once, and upkeep without being asked."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from typing import Any

import pytest

from djpool.core import Pool, PoolClosed, PoolOptions
from djpool.core.keeper import Keeper
from djpool.core.registry import Registry
from tests.core.fakes import FakeDriver, Server
from tests.servers.process import wait_until


@pytest.fixture
def registry() -> Registry:
    return Registry()


def make(keeper: Keeper, **options: Any) -> Pool:
    return Pool(PoolOptions(**options), FakeDriver(Server()), keeper=keeper)


def test_a_pool_is_made_once_however_many_ask(registry: Registry) -> None:
    made: list[Pool] = []

    def slowly(keeper: Keeper) -> Pool:
        time.sleep(0.05)
        made.append(make(keeper))
        return made[-1]

    found: list[Pool] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(registry.make("default", "x", slowly))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


def test_another_identity_is_another_pool(registry: Registry) -> None:
    first = registry.make("default", {"NAME": "shop"}, make)
    second = registry.make("default", {"NAME": "test_shop"}, make)
    assert first is not second
    assert registry.find("default", {"NAME": "shop"}) is first
    assert registry.find("default", {"NAME": "other"}) is None
    assert registry.current() == {"default": second}


def test_closing_forgets(registry: Registry) -> None:
    pool = registry.make("default", 1, make)
    registry.make("other", 1, make)
    registry.close("default")
    assert pool.closed
    assert registry.find("default", 1) is None
    assert list(registry.current()) == ["other"]
    registry.close_all()
    assert not registry.current()
    with pytest.raises(PoolClosed):
        pool.acquire()


def test_a_closed_pool_lives_until_its_last_lease_has_ended(registry: Registry) -> None:
    """Whoever forgets such a lease would forget the pool with it."""
    pool = registry.make("default", 1, make)
    lease = pool.acquire()
    registry.close_all()
    assert registry.keeper.closing == {pool}
    lease.release()
    wait_until(lambda: not registry.keeper.closing, "the keeper to see it off")
    wait_until(lambda: registry.keeper._thread is None, "the thread to end")


def test_a_forked_child_begins_with_no_pools(registry: Registry) -> None:
    pool = registry.make("default", 1, make)
    pool.acquire().release()
    child = os.fork()
    if child == 0:
        renewed = registry.find("default", 1) is None and not registry.current()
        fresh = registry.make("default", 1, make)
        fresh.acquire().release()
        os._exit(0 if renewed and fresh is not pool else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert registry.find("default", 1) is pool
    assert pool.stats().idle == 1


def test_the_keeper_looks_after_pools_without_being_asked() -> None:
    keeper = Keeper()
    pool = make(keeper, max_idle=0.1, min_size=2, max_size=4)
    wait_until(lambda: pool.stats().idle == 2, "min_size to be filled")
    leases = [pool.acquire() for _ in range(4)]
    for lease in leases:
        lease.release()
    wait_until(lambda: pool.stats().size == 2, "idle ones to be closed")
    pool.resize(min_size=3)
    wait_until(lambda: pool.stats().idle == 3, "a larger min_size to be filled")
    pool.close()


def test_the_keeper_takes_back_what_was_forgotten_at_once() -> None:
    pool = make(Keeper(), max_size=1)
    waiter = threading.Thread(target=lambda: pool.acquire(timeout=30).release())
    lease = pool.acquire()
    waiter.start()
    wait_until(lambda: pool.stats().waiting == 1, "somebody to wait")
    del lease
    gc.collect()
    waiter.join(10)
    assert not waiter.is_alive()
    assert pool.stats().reclaimed_total == 1
    pool.close()


def test_the_keeper_keeps_no_pool_alive_and_ends_after_the_last() -> None:
    keeper = Keeper()
    pool = make(keeper, max_idle=0.05)
    pool.acquire().release()
    gone = weakref.ref(pool)
    del pool
    wait_until(lambda: (gc.collect() and gone() is None) or gone() is None, "its end")
    keeper.nudge()
    wait_until(lambda: keeper._thread is None, "the thread to end")


def test_the_keeper_ends_when_the_last_pool_is_closed() -> None:
    """Though somebody still refers to it."""
    keeper = Keeper()
    pool = make(keeper)
    pool.acquire().release()
    pool.close()
    wait_until(lambda: keeper._thread is None, "the thread to end")


def test_a_closed_pool_does_not_keep_the_keeper_awake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody refers to it still, and another pool is there to look after.

    It was closed in its own upkeep, as one of former settings is, which said when to
    come back.
    """
    keeper = Keeper()
    sleeps: list[float] = []
    sleep = keeper._sleep

    def counted(seconds: float) -> bool:
        sleeps.append(seconds)
        return sleep(seconds)

    monkeypatch.setattr(keeper, "_sleep", counted)
    closed, other = make(keeper, max_idle=0.05), make(keeper, max_idle=60)
    for pool in (closed, other):
        pool.acquire().release()
    wait_until(lambda: closed.stats().size == 0, "its upkeep")

    def go() -> float:
        closed.close()
        return 0.05

    monkeypatch.setattr(closed, "maintain", go)
    keeper.nudge()
    wait_until(lambda: closed not in keeper._pools, "the keeper to forget it")
    time.sleep(0.1)  # what was due for it is due by now
    before = len(sleeps)
    time.sleep(0.2)
    assert len(sleeps) - before < 3
    other.close()


def test_the_keeper_survives_a_driver_s_surprise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = Keeper()
    pool = make(keeper)
    pool.acquire().release()
    other = make(keeper, max_idle=0.05)
    pool.maintain = None  # type: ignore[method-assign, assignment]
    other.acquire().release()
    wait_until(lambda: other.stats().size == 0, "the other pool to be looked after")
    wait_until(lambda: "upkeep failed" in caplog.text, "the surprise to be logged")
    other.close()


def test_a_lease_forgotten_after_its_pool_was_closed_is_closed_too() -> None:
    server = Server()
    pool = Pool(PoolOptions(), FakeDriver(server), keeper=Keeper())
    lease = pool.acquire()
    pool.close()
    del pool
    gc.collect()
    assert server.connections
    del lease
    gc.collect()
    wait_until(lambda: not server.connections, "the connection to be closed")
