"""The pools of one alias: one limit for all, and the pool of former settings goes."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from djpool.core import (
    Lease,
    Pool,
    PoolBusy,
    PoolClosed,
    PoolOptions,
    PoolTimeout,
)
from djpool.core import connections as connections_of_pools
from djpool.core.keeper import Keeper
from djpool.core.registry import Registry
from tests.core.fakes import FakeDriver, Server
from tests.core.test_interruption import CORE
from tests.interruption.places import Stop, interrupted
from tests.servers.process import wait_until


class Site:
    """An alias whose settings are a number, and the registry that it is in."""

    def __init__(self, **options: Any) -> None:
        self.registry = Registry()
        self.server = Server()
        self.settings: int | None = 0
        self.leases: list[Lease] = []
        self.options: dict[str, Any] = {"max_size": 2, "timeout": 5.0} | options

    def pool(self, settings: int | None = None, **options: Any) -> Pool:
        """The pool for some settings, or for those in force."""
        wanted = self.settings if settings is None else settings

        def is_wanted() -> bool | None:
            return None if self.settings is None else wanted == self.settings

        def make(keeper: Keeper) -> Pool:
            return Pool(
                PoolOptions(**self.options | options),
                FakeDriver(self.server),
                keeper=keeper,
                family=self.registry.family("default"),
                wanted=is_wanted,
            )

        pool = self.registry.find("default", wanted)
        if pool is None:
            pool = self.registry.make("default", wanted, make)
        elif pool.former:
            self.registry.review("default")
        return pool

    def ask(self, settings: int | None = None) -> None:
        """One request, as a Django connection makes it."""
        while True:
            pool = self.pool(settings)
            try:
                lease = pool.acquire()
            except PoolClosed:
                assert pool.gone
                continue
            self.leases.append(lease)
            lease.connection.use()
            lease.release()
            return


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.registry.close_all()


def count(site: Site) -> int:
    """How many connections can be had of the present pool now."""
    leases = []
    try:
        while True:
            leases.append(site.pool().acquire(timeout=0.05))
    except PoolTimeout:
        return len(leases)
    finally:
        for lease in leases:
            lease.release()


def test_idle_connections_of_the_other_pool_make_room(site: Site) -> None:
    """Also for a caller that does not wait, and in both directions."""
    leases = [site.pool().acquire() for _ in range(2)]
    for lease in leases:
        lease.release()
    site.settings = 1
    site.pool().acquire(timeout=0).release()
    leases = [site.pool().acquire() for _ in range(2)]
    assert site.server.most == 2
    for lease in leases:
        lease.release()
    site.pool(0).acquire(timeout=0).release()
    assert site.server.most == 2


def test_the_one_who_waited_longest_is_served_first(site: Site) -> None:
    lease, other = site.pool().acquire(), site.pool().acquire()
    site.settings = 1
    order: list[int] = []

    def ask(settings: int) -> None:
        with site.pool(settings).acquire():
            order.append(settings)
            time.sleep(0.05)

    threads = []
    for number, settings in enumerate((1, 0, 1, 0)):
        threads.append(threading.Thread(target=ask, args=[settings]))
        threads[-1].start()
        wait_until(lambda n=number: site.pool().stats().waiting == n + 1, "the queue")  # type: ignore[misc]
    lease.release()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert order == [1, 0, 1, 0]
    other.release()
    assert site.server.most == 2


def test_a_thread_that_has_all_places_itself_is_told_at_once(site: Site) -> None:
    leases = [site.pool().acquire() for _ in range(2)]
    site.settings = 1
    began = time.monotonic()
    with pytest.raises(PoolTimeout, match="this thread has all 2 itself") as caught:
        site.pool().acquire()
    assert time.monotonic() - began < 1
    assert caught.value.stats.in_use == 2
    for lease in leases:
        lease.release()
    assert count(site) == 2


def test_max_waiting_and_suspend(site: Site) -> None:
    site.options["max_waiting"] = 1
    pool = site.pool()
    pool.suspend()
    site.settings = 1
    assert site.pool().suspended
    waiter = threading.Thread(target=site.ask)
    waiter.start()
    wait_until(lambda: pool.stats().waiting == 1, "somebody to wait")
    with pytest.raises(PoolBusy):
        site.pool().acquire()
    pool.resume()  # the one of before
    waiter.join(10)
    assert not waiter.is_alive()


def test_a_smaller_max_size_holds_for_what_is_left(site: Site) -> None:
    leases = [site.pool().acquire() for _ in range(2)]
    site.settings = 1
    present = site.pool()
    present.resize(max_size=1)
    for lease in leases:
        lease.release()
    assert present.stats().size <= 1
    assert count(site) == 1


def test_the_pool_goes_and_its_counters_stay(site: Site) -> None:
    site.ask()
    former = site.pool()
    site.settings = 1
    site.ask()
    wait_until(lambda: former.gone, "the pool to go")
    assert site.registry.every() == [site.pool()]
    stats = site.pool().stats()
    assert (stats.acquired_total, stats.opened_total, stats.size) == (2, 2, 1)
    assert stats.closed_total["idle"] == 1
    assert former.stats() == stats
    with pytest.raises(PoolClosed):
        former.acquire()


def test_a_lease_that_is_forgotten_comes_back_to_a_former_pool(site: Site) -> None:
    lease = site.pool().acquire()
    former = site.pool()
    site.settings = 1
    site.ask()
    del lease
    gc.collect()
    wait_until(lambda: former.gone, "the pool to go")
    assert count(site) == 2


def test_what_is_of_no_alias_keeps_nothing_open() -> None:
    site = Site(min_size=1)
    site.settings = None
    site.pool(7).acquire().release()
    wait_until(lambda: not site.registry.every(), "the pool to go")
    assert not site.server.connections
    assert not site.registry._families


def test_settings_that_never_were_an_alias_s_stay() -> None:
    """As a Django connection has them that makes up its settings itself."""
    site = Site(min_size=1)
    site.ask(7)
    site.registry.review("default")
    pool = site.pool(7)
    assert not pool.former
    site.ask(8)
    assert pool.former
    assert site.registry.current()["default"] is site.pool(8)
    for _ in range(5):  # no change to and fro
        site.ask(7)
        assert site.registry.current()["default"] is site.pool(8)
    site.registry.close_all()


class Load(threading.Thread):
    """A caller that has the settings of some time ago, and makes mistakes."""

    def __init__(self, site: Site, over: threading.Event, seed: str) -> None:
        super().__init__(name=seed)
        self.site, self.over, self.chance = site, over, random.Random(seed)
        self.done = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        mine = 0
        try:
            while not self.over.is_set():
                if self.chance.random() < 0.3:
                    mine = self.site.settings or 0
                self.lease(self.site.pool(mine))
        except BaseException as error:  # noqa: BLE001 (the test shows it)
            self.failed = error

    def lease(self, pool: Pool) -> None:
        try:
            lease = pool.acquire()
        except PoolClosed:
            assert pool.gone
            return
        lease.connection.use()
        if self.chance.random() < 0.2:
            time.sleep(0.002)
        event = self.chance.random()
        if event < 0.05:
            lease.discard()
        elif event > 0.07:  # else it is forgotten
            lease.release()
        self.done += 1


@pytest.mark.parametrize("seed", range(3))
def test_under_load_there_are_never_more_than_max_size(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that change, callers with former ones, failures, forgotten leases."""
    monkeypatch.setattr(connections_of_pools, "LINGER", 0.02)
    site = Site(max_size=3, min_size=1, timeout=20.0)
    over = threading.Event()
    threads = [Load(site, over, f"{seed} {number}") for number in range(12)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        time.sleep(0.02)
        site.settings = ((site.settings or 0) + 1) % 5
        stats = site.registry.family("default").members[0].stats()
        assert stats.in_use + stats.idle + stats.opening == stats.size <= 3
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [thread.failed for thread in threads if thread.failed] == []
    assert site.server.most <= 3
    assert min(thread.done for thread in threads) > 0
    gc.collect()
    site.ask()
    wait_until(lambda: len(site.registry.every()) == 1, "the former pools to go")
    assert count(site) == 3
    assert site.registry.family("default").size == site.pool().stats().size
    site.registry.close_all()
    assert not site.server.connections


def test_an_exception_anywhere_costs_no_place() -> None:
    """While the settings change, and while room is made."""
    for at in range(1, 2000):
        site = Site(max_size=1)
        site.ask()
        site.settings = 1
        error = interrupted(site.ask, at, CORE)
        assert error is None or isinstance(error, Stop)
        for lease in site.leases:
            lease.release()
        site.ask()
        site.ask(0)
        assert site.server.most == 1, error
        assert count(site) == 1, error
        assert site.registry.family("default").size == site.pool().stats().size
        site.registry.close_all()
        if error is None:
            return
    pytest.fail("it has no end")
