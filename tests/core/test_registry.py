"""One pool for each identity, made once, and upkeep without being asked."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from djpool.core import Lease, Pool, PoolClosed, PoolOptions
from djpool.core.keeper import Keeper
from djpool.core.registry import Registry
from djpool.core.session import Change
from tests.core.fakes import FakeDriver, Server, assert_capacity, in_thread
from tests.servers.process import wait_until


@pytest.fixture
def registry() -> Registry:
    return Registry()


def make(keeper: Keeper, **options: Any) -> Pool:
    return Pool(PoolOptions(**options), FakeDriver(Server()), keeper=keeper)


def test_however_many_ask_at_once_they_get_the_same_pool(registry: Registry) -> None:
    """Each may have made one, without a lock; nothing is left of the others."""
    made: list[Pool] = []
    ended: list[Pool] = []

    def slowly(keeper: Keeper) -> Pool:
        time.sleep(0.05)
        pool = make(keeper, min_size=1)
        pool.clean_up = lambda: ended.append(pool)  # type: ignore[method-assign]
        made.append(pool)
        return pool

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
    (pool,) = set(found)
    assert set(made) == {pool, *ended}
    assert len(made) == 1 + len(ended)
    wait_until(lambda: pool.stats().idle == 1, "min_size to be filled")
    assert [each.stats().opened_total for each in ended] == [0] * len(ended)
    registry.close_all()


def test_an_alias_whose_making_takes_for_ever_holds_up_no_other(
    registry: Registry,
) -> None:
    """It may import a module of the project, which does what it likes."""
    goes_on, makes = threading.Event(), threading.Event()

    def slowly(keeper: Keeper) -> Pool:
        makes.set()
        assert goes_on.wait(30)
        return make(keeper)

    thread = in_thread(lambda: registry.make("default", 1, slowly))
    assert makes.wait(30)
    other = registry.make("other", 1, make)
    other.acquire().release()
    registry.review("other")
    registry.close("other")
    assert thread.is_alive()
    goes_on.set()
    thread.join(30)
    assert list(registry.current()) == ["default"]


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
    pool.begin()
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

    def counted(seconds: float) -> None:
        sleeps.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(keeper, "_sleep", counted)
    closed, other = make(keeper, max_idle=0.05), make(keeper, max_idle=60)
    for pool in (closed, other):
        pool.acquire().release()
    wait_until(lambda: closed.stats().size == 0, "its upkeep")

    def go() -> float:
        closed.close()
        return 0.05

    monkeypatch.setattr(closed, "maintain", go)
    keeper.nudge(closed.reference)
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


def leaves_its_lease(pool: Pool) -> None:
    """A thread ends without giving its lease back."""
    kept: list[Lease] = []
    in_thread(lambda: kept.append(pool.acquire())).join(30)
    assert kept
    del kept[:]


class Silent(Server):
    """Says nothing from some moment on, until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def fall_silent(self) -> None:
        self.before_connect = self._hang

    def _hang(self) -> None:
        self.asked.set()
        assert self.goes_on.wait(60)


def test_a_silent_server_holds_up_no_other_pool_s_upkeep() -> None:
    """Nor does anything else that takes its time in the upkeep of one."""
    keeper, server = Keeper(), Silent()
    stuck = Pool(PoolOptions(min_size=1), FakeDriver(server), keeper=keeper)
    server.fall_silent()
    stuck.begin()
    assert server.asked.wait(30)
    other = make(keeper, max_size=1)
    leaves_its_lease(other)
    wait_until(lambda: other.stats().in_use == 0, "it to come back")
    assert stuck.stats().opening == 1
    server.goes_on.set()
    wait_until(lambda: stuck.stats().idle == 1, "min_size to be filled")
    stuck.close()
    other.close()


def test_an_upkeep_that_connects_takes_back_what_was_lost_meanwhile() -> None:
    """Of the same pool, for somebody who waits already."""
    server = Silent()
    pool = Pool(PoolOptions(max_size=2), FakeDriver(server), keeper=Keeper())
    lease = pool.acquire()
    server.fall_silent()
    pool.resize(min_size=2)
    assert server.asked.wait(30)
    waiter = in_thread(lambda: pool.acquire(timeout=30).release())
    wait_until(lambda: pool.stats().waiting == 1, "somebody to wait")
    del lease
    waiter.join(30)
    stats = pool.stats()
    assert (stats.reclaimed_total, stats.opening, stats.idle) == (1, 1, 1)
    server.goes_on.set()
    wait_until(lambda: pool.stats().idle == 2, "min_size to be filled")
    assert_capacity(pool, server)
    pool.close()


def grew(looks: dict[Pool, int], pool: Pool, before: int) -> bool:
    """Whether a pool was looked at since."""
    return looks[pool] > before


def test_who_is_woken_for_one_pool_looks_at_that_pool() -> None:
    keeper = Keeper()
    pools = [make(keeper) for _ in range(20)]
    for pool in pools:
        pool.acquire().release()
    looks: dict[Pool, int] = dict.fromkeys(pools, 0)

    def count(pool: Pool) -> Callable[[], float]:
        def maintain() -> float:
            looks[pool] += 1
            return 60.0

        return maintain

    for pool in pools:
        pool.maintain = count(pool)  # type: ignore[method-assign]
    for _ in range(50):
        keeper.nudge(pools[3].reference)
        before = looks[pools[3]]
        wait_until(partial(grew, looks, pools[3], before), "a look")
    time.sleep(0.05)  # for what they might have caused
    assert sum(looks.values()) - looks[pools[3]] <= 2 * len(pools)


def test_without_threads_everything_goes_on_without_the_upkeep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process has too many. It is told once; the upkeep begins when it can."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    keeper = Keeper()
    pool = make(keeper, max_size=1, min_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.begin()
        for _ in range(3):
            pool.acquire().release()
        lease = pool.acquire()
        lease.changed(Change.SETTINGS)
        lease.release()
        lost = pool.acquire()
        del lost  # nobody else will find it
        pool.acquire().release()
    assert caplog.text.count("no thread for the upkeep of pools") == 1
    assert pool.stats().opened_total == 1
    leaves_its_lease(pool)
    pool.acquire().release()  # the one who needs it looks for it, and has it begun
    assert keeper._thread is not None
    pool.close()
    wait_until(lambda: keeper._thread is None, "the thread to end")


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


def test_a_pool_made_while_its_alias_is_closed_has_its_limit() -> None:
    """What the pools of the alias share was forgotten between the two."""
    registry, closes = Registry(), [True]

    def make(keeper: Keeper) -> Pool:
        family = registry.family("default")
        if closes.pop() if closes else False:
            registry.close("default")
        driver = FakeDriver(Server())
        return Pool(PoolOptions(max_size=1), driver, keeper=keeper, family=family)

    pool = registry.make("default", 1, make)
    pool.acquire(timeout=1).release()
    assert registry.find("default", 1) is pool
    pool.close()
