"""Sessions that a lease changed: who restores them, when, and what if that fails."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import pytest

from djpool.core import Lease, Pool, PoolOptions
from djpool.core.keeper import Keeper
from djpool.core.session import MEMORY, Change, any_database
from djpool.testing.watch import wait_until
from tests.core.fakes import Clock, FakeDriver, Server, assert_capacity, in_thread


class Site:
    """A pool with its server, its driver and its keeper."""

    def __init__(self, **options: Any) -> None:
        self.server = Server()
        self.driver = FakeDriver(self.server)
        self.clock = Clock()
        self.pool = Pool(
            PoolOptions(**{"max_size": 2, "timeout": 20, **options}),
            self.driver,
            clock=self.clock,
            keeper=Keeper(),
        )

    def lease(self, change: Change | None = None) -> Lease:
        """A lease, which has changed its session."""
        lease = self.pool.acquire()
        assert lease.connection.state is None
        if change is not None:
            lease.changed(change)
            lease.connection.state = "changed"
        return lease

    def wait(self) -> None:
        """Until nothing is in use any more."""
        wait_until(lambda: self.pool.stats().in_use == 0, "all to come back")


@pytest.fixture
def site() -> Site:
    """A pool of two."""
    return Site()


def test_a_clean_lease_is_not_restored(site: Site) -> None:
    site.lease().release()
    stats = site.pool.stats()
    assert (stats.idle, stats.resets_total) == (1, 0)


@pytest.mark.parametrize("change", list(Change))
def test_a_changed_one_is_restored_or_closed_before_another_is_lent(
    site: Site, change: Change
) -> None:
    site.lease(change).release()
    site.lease().release()
    stats = site.pool.stats()
    closed = change in Change.TYPES | Change.BEYOND
    assert stats.resets_total == (0 if closed else 1)
    assert stats.opened_total == (2 if closed else 1)


def test_always_and_never() -> None:
    always = Site(reset="always")
    always.lease().release()
    always.wait()
    assert always.pool.stats().resets_total == 1
    never = Site(reset="never")
    lease = never.lease(Change.SETTINGS)
    connection = lease.connection
    lease.release()
    assert connection.state == "changed"
    assert never.pool.stats().resets_total == 0


def test_statements_are_judged_whatever_the_reset() -> None:
    """Some ask what only the same session can answer."""
    for reset in ("auto", "always", "never"):
        assert Site(reset=reset).pool.changes("SET a = 1")


def test_it_is_done_in_another_thread_and_who_waits_opens_nothing(site: Site) -> None:
    go, threads = threading.Event(), []

    def before() -> None:
        threads.append(threading.current_thread().name)
        assert go.wait(30)

    site.driver.before_restore = before
    site.lease(Change.SETTINGS).release()
    stats = site.pool.stats()
    assert (stats.in_use, stats.idle, stats.size) == (1, 0, 1)
    got: list[Lease] = []
    waiter = in_thread(lambda: got.append(site.pool.acquire()))
    wait_until(lambda: site.pool.stats().waiting == 1, "the waiter")
    go.set()
    waiter.join(30)
    assert threads == ["djpool-aside"]
    assert site.pool.stats().opened_total == 1
    got[0].release()


def test_locks_are_given_up_at_once(site: Site) -> None:
    threads: list[str] = []
    site.driver.before_restore = lambda: threads.append(threading.current_thread().name)
    site.lease(Change.LOCKS | Change.SETTINGS).release()
    assert threads == [threading.current_thread().name]


def test_nothing_queues_for_the_other_thread(site: Site) -> None:
    """While it is busy with one, the next is restored by who gives it back."""
    go, here = threading.Event(), threading.current_thread().name
    threads: list[str] = []

    def before() -> None:
        name = threading.current_thread().name
        threads.append(name)
        assert name == here or go.wait(30)

    first, second = site.lease(Change.SETTINGS), site.lease(Change.SETTINGS)
    site.driver.before_restore = before
    first.release()
    wait_until(lambda: threads, "the other thread to begin")
    second.release()
    assert threads == ["djpool-aside", here]
    assert site.pool.stats().idle == 1
    go.set()
    site.wait()
    assert_capacity(site.pool, site.server)


def test_the_other_thread_ends_with_the_last_pool(site: Site) -> None:
    """And starts again for the next."""
    keeper = Keeper()
    threads: list[threading.Thread] = []
    site.driver.before_restore = lambda: threads.append(threading.current_thread())
    for _ in range(2):
        threads.clear()
        pool = Pool(PoolOptions(), site.driver, keeper=keeper)
        lease = pool.acquire()
        lease.changed(Change.SETTINGS)
        lease.release()
        wait_until(lambda: len(threads) == 1, "it to be restored")
        assert threads[0].is_alive()
        pool.close()
        wait_until(lambda: not threads[0].is_alive(), "the thread to end")


def test_one_that_cannot_be_restored_is_closed(site: Site) -> None:
    def before() -> None:
        raise ZeroDivisionError

    site.driver.before_restore = before
    for change in (Change.SETTINGS, Change.LOCKS):
        site.lease(change).release()
        wait_until(lambda: site.pool.stats().size == 0, "it to be closed")
    assert site.pool.stats().closed_total["reset"] == 2
    assert site.pool.stats().resets_total == 0
    assert_capacity(site.pool, site.server)


def test_one_that_is_too_old_is_closed_without_ado(site: Site) -> None:
    lease = site.lease(Change.SETTINGS)
    site.clock.pass_(4000)
    lease.release()
    stats = site.pool.stats()
    assert (stats.size, stats.resets_total) == (0, 0)
    assert stats.closed_total["lifetime"] == 1


def test_a_pool_that_closes_meanwhile_gets_it_closed(site: Site) -> None:
    go = threading.Event()

    def before() -> None:
        go.wait(30)

    site.driver.before_restore = before
    site.lease(Change.SETTINGS).release()
    site.pool.close()
    assert site.pool.stats().size == 1
    go.set()
    wait_until(lambda: site.pool.stats().size == 0, "it to be closed")
    assert site.pool.stats().closed_total["shutdown"] == 1


def test_a_session_that_cannot_be_remembered_is_not_lent() -> None:
    site = Site()

    def remember(connection: Any) -> None:
        raise ZeroDivisionError

    site.driver.remember = remember  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        site.pool.acquire()
    assert not site.server.connections
    stats = site.pool.stats()
    assert (stats.size, stats.open_errors_total, stats.opened_total) == (0, 1, 0)


def test_many_threads_and_few_connections() -> None:
    """Nobody gets a session that another one changed, and none is lost."""
    site = Site(max_size=4)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(100):
                change = [None, Change.SETTINGS, Change.LOCKS][(number + turn) % 3]
                lease = site.lease(change)
                lease.connection.use()
                lease.release()
        except BaseException as error:  # noqa: BLE001 (shown at the end)
            wrong.append(error)

    threads = [in_thread(functools.partial(work, number)) for number in range(16)]
    for thread in threads:
        thread.join(60)
    assert wrong == []
    site.wait()
    assert_capacity(site.pool, site.server)


def test_one_that_is_lost_on_its_way_to_the_other_thread_keeps_nobody_out() -> None:
    """An interruption strikes just when it was counted as about to be ready."""
    site = Site()

    def interrupted(_work: Any) -> bool:
        raise KeyboardInterrupt

    keeper = site.pool._keeper
    assert keeper is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper.aside, "do", interrupted)
        with pytest.raises(KeyboardInterrupt):
            site.lease(Change.SETTINGS).release()
    wait_until(lambda: site.pool.stats().in_use == 0, "it to come back")
    assert_capacity(site.pool, site.server)
    assert site.pool._gate.mending == 0


def test_a_session_that_hangs_while_it_is_restored_is_not_waited_for() -> None:
    """Others are opened beside it, as beside a connect that is slow."""
    server, goes_on, restores = Server(), threading.Event(), threading.Event()
    driver = FakeDriver(server)

    def hang() -> None:
        restores.set()
        assert goes_on.wait(60)

    driver.before_restore = hang
    pool = Pool(PoolOptions(max_size=10), driver, keeper=Keeper())
    lease = pool.acquire()
    lease.changed(Change.SETTINGS)
    lease.release()
    assert restores.wait(30)
    others = [pool.acquire(timeout=30) for _ in range(3)]
    assert not goes_on.is_set()
    goes_on.set()
    for each in others:
        each.release()
    wait_until(lambda: pool.stats().idle == 4, "all to come back")
    assert_capacity(pool, server)
    pool.close()


def test_what_is_remembered_of_statements_is_bounded_in_bytes() -> None:
    """Also where each character takes four."""
    judge: Any = any_database()
    for number in range(2000):
        judge(f"SELECT '{chr(0x1F600) * 3000}', {number}")
    assert 0 < sum(map(sys.getsizeof, judge._known)) <= MEMORY
    judge("SELECT 1")
    assert "SELECT 1" in judge._known
