"""What a pool promises, one promise a test, on a driver in memory."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from djpool.core import (
    Lease,
    OptionsError,
    Pool,
    PoolBusy,
    PoolClosed,
    PoolOptions,
    PoolTimeout,
    refusals,
)
from djpool.core.holders import describe_holders
from djpool.core.keeper import Keeper
from djpool.core.owner import current_owner
from djpool.core.reclaim import Reclaim
from djpool.core.session import Change
from tests.core.fakes import (
    Clock,
    FakeDriver,
    PlainDriver,
    Server,
    assert_capacity,
    in_thread,
    make_pool,
)
from tests.servers.process import wait_until


def until_waiting(pool: Pool, count: int) -> None:
    wait_until(lambda: pool.stats().waiting == count, f"{count} to be waiting")


@pytest.fixture
def server() -> Server:
    return Server()


@contextlib.contextmanager
def waiting(pool: Pool, count: int = 1) -> Iterator[list[Lease | Exception]]:
    """`count` callers in the queue, one after the other; what became of each."""
    became: list[Lease | Exception] = []

    def wait() -> None:
        try:
            became.append(pool.acquire(timeout=10))
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            became.append(error)

    threads = []
    for number in range(1, count + 1):
        threads.append(in_thread(wait))
        until_waiting(pool, number)
    yield became
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def refused(pool: Pool, timeout: float = 0.01) -> PoolTimeout:
    """What another thread is told that asks in vain."""
    told: list[PoolTimeout] = []

    def ask() -> None:
        try:
            pool.acquire(timeout).release()
        except PoolTimeout as error:
            told.append(error)

    in_thread(ask).join(10)
    return told[0]


@contextlib.contextmanager
def held_elsewhere(pool: Pool) -> Iterator[None]:
    """Another thread has one connection while the block runs."""
    over = threading.Event()

    def hold() -> None:
        with pool.acquire():
            over.wait(30)

    before = pool.stats().in_use
    thread = in_thread(hold)
    wait_until(lambda: pool.stats().in_use > before, "somebody to hold one")
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def test_nothing_is_connected_until_somebody_asks(server: Server) -> None:
    pool = make_pool(server)
    assert pool.stats().size == 0
    assert not server.connections


def test_a_released_connection_is_lent_again(server: Server) -> None:
    pool = make_pool(server)
    with pool.acquire() as lease:
        first = lease.connection
    with pool.acquire() as lease:
        assert lease.connection is first
    assert pool.stats().opened_total == 1


def test_the_last_one_used_is_the_next_one_lent(server: Server) -> None:
    """So that a few stay warm, and the others grow old and are closed."""
    pool = make_pool(server)
    one, two = pool.acquire(), pool.acquire()
    wanted = one.connection
    two.release()
    one.release()
    assert pool.acquire().connection is wanted


def test_an_ended_lease_does_nothing_any_more(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    lease = pool.acquire()
    lease.release()
    other = pool.acquire()
    lease.release()
    lease.discard()
    lease.suspect()
    assert lease.ended
    assert lease.connection is None
    assert pool.stats().in_use == 1
    other.connection.use()


def test_a_lease_ended_by_two_threads_ends_once(server: Server) -> None:
    pool = make_pool(server, max_size=4)
    for _ in range(200):
        lease = pool.acquire()
        barrier = threading.Barrier(2)

        def end(lease: Lease = lease, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            lease.release()

        threads = [in_thread(end), in_thread(end)]
        for thread in threads:
            thread.join()
    assert pool.stats().idle == pool.stats().size == 1
    assert_capacity(pool, server)


def test_a_timeout_names_the_holders(server: Server) -> None:
    pool = make_pool(server, max_size=1, name="shop")
    with pool.acquire():
        caught = refused(pool)
    told = str(caught)
    assert "pool 'shop': no connection came free in 0.01 s" in told
    assert "size 1 of max_size 1, 1 in use, 0 idle, 0 opening" in told
    assert f"thread 'MainThread' ({threading.get_ident()}) for 0." in told
    assert "test_pool.py" not in told  # no stack unless it is asked for
    assert caught.stats.in_use == 1
    assert caught.__cause__ is None


def lease_one_a_second(pool: Pool, clock: Clock, count: int) -> list[Lease]:
    leases = []
    for _ in range(count):
        leases.append(pool.acquire())
        clock.pass_(1)
    return leases


def test_a_refusal_names_the_ten_longest_holders_and_counts_the_others(
    server: Server,
) -> None:
    clock = Clock()
    pool = make_pool(server, clock, max_size=25)
    leases = lease_one_a_second(pool, clock, 25)
    head, *lines = str(refused(pool, timeout=0)).splitlines()[1:]
    assert head == "in use by:"
    assert [line.rpartition(" for ")[2] for line in lines[:-1]] == [
        f"{seconds}.0 s" for seconds in range(25, 15, -1)
    ]
    assert lines[-1] == "- and 15 more, for less time"
    for lease in leases:
        lease.release()
    assert_capacity(pool, server)


def test_a_refusal_shows_three_stacks_at_most(server: Server) -> None:
    clock = Clock()
    pool = make_pool(server, clock, max_size=25, leak_threshold=60)
    leases = lease_one_a_second(pool, clock, 25)
    told = str(refused(pool, timeout=0))
    assert told.count("leased at (most recent call last)") == 3
    assert "for 23.0 s, leased at" in told
    assert "for 22.0 s\n- thread" in told
    for lease in leases:
        lease.release()
    assert_capacity(pool, server)


def test_what_was_described_a_moment_ago_serves_other_refusals(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand callers refused at once do not each look at every connection."""
    described: list[float] = []

    def describe(entries: Any, now: float) -> str:
        described.append(now)
        return describe_holders(entries, now)

    monkeypatch.setattr(refusals, "describe_holders", describe)
    clock = Clock()
    pool = make_pool(server, clock, max_size=2)
    leases = [pool.acquire(), pool.acquire()]
    told: list[PoolTimeout] = []
    ready = threading.Barrier(50)

    def ask() -> None:
        ready.wait(10)
        try:
            pool.acquire(0)
        except PoolTimeout as error:
            told.append(error)

    threads = [in_thread(ask) for _ in range(50)]
    for thread in threads:
        thread.join(10)
    assert len(told) == 50
    assert len(described) == 1
    assert all("in use by:\n- thread 'MainThread'" in str(error) for error in told)
    clock.pass_(0.2)
    refused(pool, timeout=0)
    assert len(described) == 2
    for lease in leases:
        lease.release()
    assert_capacity(pool, server)


def test_who_lost_a_lease_waits_until_it_is_recovered(server: Server) -> None:
    """Its connection is in the caller's name still, but nothing that it could give."""
    driver = FakeDriver(server)
    pool = Pool(PoolOptions(max_size=1), driver)
    recovering, go_on = threading.Event(), threading.Event()

    def restore() -> None:
        recovering.set()
        assert go_on.wait(30)

    driver.before_restore = restore
    lease = pool.acquire()
    lease.changed(Change.SETTINGS)
    del lease
    upkeep = in_thread(pool.maintain)
    assert recovering.wait(10)
    [entry] = pool.connections.books
    assert entry.owner is current_owner()
    later = threading.Timer(0.2, go_on.set)
    later.start()
    pool.acquire(timeout=10).release()
    for each in (upkeep, later):
        each.join(10)
    assert_capacity(pool, server)


def test_the_numbers_of_a_refusal_are_those_of_its_moment(server: Server) -> None:
    """Also where who holds the connections was described a moment ago."""
    clock = Clock()
    pool = make_pool(server, clock, max_size=1, max_waiting=1)
    with pool.acquire():
        first = refused(pool, timeout=0)
        assert (first.stats.waiting, first.stats.timeouts_total) == (0, 1)
        with waiting(pool) as became:
            with pytest.raises(PoolBusy, match="1 waiting") as caught:
                pool.acquire()
            stats = caught.value.stats
            assert (stats.waiting, stats.rejected_total) == (1, 1)
            assert (stats.timeouts_total, stats.in_use) == (1, 1)
            pool.close(0)
    assert isinstance(became[0], PoolClosed)


def test_a_thread_that_is_held_up_in_a_refusal_holds_up_no_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(server, max_size=1)
    began, go_on = threading.Event(), threading.Event()
    first = threading.Lock()

    def describe(entries: Any, now: float) -> str:
        if first.acquire(blocking=False):
            began.set()
            assert go_on.wait(20)
        return describe_holders(entries, now)

    monkeypatch.setattr(refusals, "describe_holders", describe)
    with pool.acquire():
        stuck = in_thread(lambda: refused(pool, timeout=0))
        assert began.wait(10)
        assert "in use by:" in str(refused(pool, timeout=0))
        go_on.set()
        stuck.join(10)
    assert_capacity(pool, server)


def test_a_crowd_is_refused_without_a_look_at_every_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = Reclaim.what_is_over

    def what_is_over(self: Reclaim) -> float | None:
        looks.append(1)
        return look(self)

    clock = Clock()
    pool = make_pool(server, clock, max_size=1, max_waiting=1)
    held = contextlib.ExitStack()
    held.enter_context(held_elsewhere(pool))
    with held, waiting(pool) as became:
        monkeypatch.setattr(Reclaim, "what_is_over", what_is_over)
        clock.pass_(1)
        for _ in range(20):
            with pytest.raises(PoolBusy):
                pool.acquire()
        assert len(looks) == 1
        clock.pass_(1)
        with pytest.raises(PoolBusy):
            pool.acquire()
        assert len(looks) == 2
        held.close()
    assert isinstance(became[0], Lease)
    became[0].release()
    assert_capacity(pool, server)


def test_who_has_all_there_are_is_told_so_at_once(server: Server) -> None:
    """Nobody could give it one more, and waiting for itself it gives none back."""
    pool = make_pool(server, max_size=2, timeout=3600)
    with pool.acquire(), pool.acquire():
        with pytest.raises(PoolTimeout, match="this thread has all 2 itself"):
            pool.acquire()
        assert pool.stats().timeouts_total == 1
        # Somebody else just has to wait.
        assert "no connection came free in 0.01 s" in str(refused(pool))
    assert_capacity(pool, server)


def test_who_has_all_but_one_waits_for_that(server: Server) -> None:
    pool = make_pool(server, max_size=2)
    told = r"no connection came free in 0\.01 s"
    with (
        held_elsewhere(pool),
        pool.acquire(),
        pytest.raises(PoolTimeout, match=told),
    ):
        pool.acquire(timeout=0.01)


def test_what_a_thread_that_ended_had_is_taken_back(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody refers to the lease, so no garbage collector would find it."""
    pool = make_pool(server, max_size=1)
    kept: list[Lease] = []
    thread = in_thread(lambda: kept.append(pool.acquire()))
    thread.join()
    gc.disable()
    try:
        assert pool.stats().in_use == 1
        pool.maintain()
    finally:
        gc.enable()
    assert kept[0].ended
    assert kept[0].connection is None
    stats = pool.stats()
    assert (stats.in_use, stats.idle, stats.reclaimed_total) == (0, 1, 1)
    assert f"thread {thread.name!r} ({thread.ident}), which has ended" in caplog.text
    kept[0].release()  # too late, and no harm
    assert_capacity(pool, server)


def test_an_idle_holder_that_lives_keeps_what_it_has(server: Server) -> None:
    """However long: nothing is taken back for being idle."""
    clock = Clock()
    pool = make_pool(server, clock, max_size=1)
    with held_elsewhere(pool):
        clock.pass_(1e6)
        pool.maintain()
        assert pool.stats().in_use == 1
    assert pool.stats().reclaimed_total == 0


def test_a_lease_held_for_long_is_told_of_once_and_its_end_too(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    pool = make_pool(server, clock, max_size=2, leak_threshold=10)
    with pool.acquire():
        pool.maintain()
        assert "leak_threshold" not in caplog.text
        clock.pass_(11)
        for _ in range(3):
            pool.maintain()
        assert caplog.text.count("held for longer than leak_threshold=10 s") == 1
        assert "test_a_lease_held_for_long_is_told_of_once" in caplog.text
        assert pool.stats().leaks_total == 1
        clock.pass_(4)
    assert "came back after 15.0 s" in caplog.text
    with pool.acquire():
        pass
    assert pool.stats().leaks_total == 1


def test_a_timeout_shows_the_stack_of_the_borrower_if_asked(server: Server) -> None:
    pool = make_pool(server, max_size=1, leak_threshold=60)
    with pool.acquire(), pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0)
    told = str(caught.value)
    assert "test_a_timeout_shows_the_stack_of_the_borrower_if_asked" in told
    assert "with pool.acquire(), pytest.raises(PoolTimeout) as caught:" in told
    assert "core/pool.py" not in told  # where it was borrowed, not how


def test_a_timed_out_caller_takes_nothing_with_it(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    with pool.acquire(), pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    assert pool.stats().timeouts_total == 1
    assert_capacity(pool, server)


def test_zero_is_not_to_queue_but_may_open(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    with pool.acquire(timeout=0), pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    assert pool.stats().waited_total == 0


def test_waiters_are_served_in_the_order_in_which_they_came(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    served: list[int] = []
    held = pool.acquire()

    def wait(number: int) -> None:
        with pool.acquire(timeout=10):
            served.append(number)

    threads = []
    for number in range(50):
        threads.append(in_thread(lambda number=number: wait(number)))  # type: ignore[misc]
        until_waiting(pool, number + 1)
    held.release()
    for thread in threads:
        thread.join(10)
    assert served == list(range(50))
    assert pool.stats().waited_total == 50


def test_nobody_overtakes_the_queue(server: Server) -> None:
    """Not even the thread that has just released, on its way back in."""
    pool = make_pool(server, max_size=1)
    lease = pool.acquire()
    with waiting(pool) as became:
        lease.release()
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0)
        wait_until(lambda: bool(became), "the waiter to be served")
        assert isinstance(became[0], Lease)
        became[0].release()
    assert_capacity(pool, server)


def test_who_would_queue_beyond_max_waiting_is_told_at_once(server: Server) -> None:
    pool = make_pool(server, max_size=1, max_waiting=1)
    held = pool.acquire()
    with waiting(pool) as became:
        with pytest.raises(PoolBusy, match=r"1 callers wait already.*max_waiting is 1"):
            pool.acquire()
        held.release()
    assert isinstance(became[0], Lease)
    became[0].release()
    assert pool.stats().rejected_total == 1
    assert_capacity(pool, server)


def test_the_drivers_own_error_reaches_the_caller(server: Server) -> None:
    pool = make_pool(server, max_size=2)
    server.up = False
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError, match="the server is down"):
            pool.acquire()
    assert pool.stats().open_errors_total == 3
    assert pool.stats().size == 0
    server.up = True
    assert_capacity(pool, server)


def test_a_timeout_while_the_server_is_down_has_its_error_as_cause(
    server: Server,
) -> None:
    pool = make_pool(server, max_size=2)
    going, refused = threading.Event(), threading.Event()
    server.up = False
    with pytest.raises(ConnectionRefusedError):
        pool.acquire()

    def stall() -> None:
        going.set()
        refused.wait(10)

    server.before_connect = stall
    errors: list[Exception] = []

    def connect() -> None:
        try:
            pool.acquire()
        except ConnectionRefusedError as error:
            errors.append(error)

    thread = in_thread(connect)
    assert going.wait(10)
    with pytest.raises(PoolTimeout, match=r"could be opened in 0\.01 s") as caught:
        pool.acquire(timeout=0.01)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    refused.set()
    thread.join(10)
    assert len(errors) == 1
    assert pool.stats().size == 0


def test_a_burst_opens_one_connection_at_a_time(server: Server) -> None:
    """While one is being opened, others come back, and serve the queue."""
    pool = make_pool(server, max_size=10)
    let = threading.Semaphore(0)

    def stall() -> None:
        let.acquire(timeout=10)

    server.before_connect = stall
    done = []

    def work() -> None:
        with pool.acquire(timeout=10):
            done.append(True)

    threads = [in_thread(work) for _ in range(20)]
    until_waiting(pool, 19)
    assert pool.stats().opening == 1
    let.release()
    # All but the one who is opening a second connection by now.
    wait_until(lambda: len(done) >= 19, "the burst to be served")
    let.release(20)
    for thread in threads:
        thread.join(10)
    assert pool.stats().size < 10


def test_a_dead_idle_connection_is_not_lent(server: Server) -> None:
    pool = make_pool(server)
    pool.acquire().release()
    server.kill()
    with pool.acquire() as lease:
        assert not lease.connection.dead
    assert pool.stats().closed_total["broken"] == 1


def test_after_one_dead_connection_every_idle_one_is_looked_at(server: Server) -> None:
    pool = make_pool(server)
    leases = [pool.acquire() for _ in range(10)]
    for lease in leases:
        lease.release()
    server.kill()
    with pool.acquire() as lease:
        stats = pool.stats()
        assert stats.size == 1
        assert stats.closed_total["broken"] == 10
        assert stats.opened_total == 11
        lease.connection.use()
    assert_capacity(pool, server)


def test_of_the_idle_ones_those_alive_are_kept(server: Server) -> None:
    pool = make_pool(server)
    leases = [pool.acquire() for _ in range(4)]
    connections = [lease.connection for lease in leases]
    for lease in leases:
        lease.release()
    connections[3].dead = connections[1].dead = True
    with pool.acquire() as lease:
        assert lease.connection is connections[2]
    assert pool.stats().opened_total == 4
    assert pool.stats().idle == 2


def test_where_a_look_says_nothing_the_others_are_pinged_next_time(
    server: Server,
) -> None:
    clock = Clock()
    driver = PlainDriver(server)
    pool = Pool(PoolOptions(check_after=30), driver, clock=clock)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    clock.pass_(31)
    server.kill()
    with pool.acquire():
        pass
    clock.pass_(1)
    for _ in range(3):
        with pool.acquire() as lease:
            assert not lease.connection.dead


class Unseeing(FakeDriver):
    """A driver whose look finds nothing: sessions are dead behind open sockets."""

    def peek(self, connection: Any) -> bool:
        return True


@pytest.mark.parametrize("found_by", ["a ping", "its return"])
def test_after_one_that_looked_alive_all_are_pinged(
    found_by: str, server: Server
) -> None:
    """Those that are lent just now, too: they may be dead, and nobody has noticed."""
    driver = Unseeing(server)
    pool = Pool(PoolOptions(max_size=5), driver)
    lent = pool.acquire()
    leases = [pool.acquire() for _ in range(4)]
    server.kill()
    if found_by == "a ping":
        leases[-1].suspect()
    else:
        leases[-1].connection.in_transaction = True  # so it is to be rolled back
    for lease in leases:
        lease.release()
    with pool.acquire() as lease:
        assert not lease.connection.dead
    lent.release()
    with pool.acquire() as first, pool.acquire() as second:
        assert not first.connection.dead
        assert not second.connection.dead
    pings = driver.pings
    pool.acquire().release()
    assert driver.pings == pings  # one answer is enough
    assert_capacity(pool, server)


def test_without_checks_a_suspicion_ends_with_the_next_look(server: Server) -> None:
    pool = make_pool(server, check=False)
    lease = pool.acquire()
    lease.suspect()
    lease.release()
    pool.acquire().release()
    waited = pool.stats().wait_seconds
    pool.acquire().release()
    assert pool.stats().checks_total == 0
    assert pool.stats().wait_seconds.sum == waited.sum  # nothing was looked into


def test_a_ping_comes_only_after_check_after_idle_seconds(server: Server) -> None:
    clock = Clock()
    driver = PlainDriver(server)
    pool = Pool(PoolOptions(check_after=30), driver, clock=clock)
    pool.acquire().release()
    clock.pass_(29)
    pool.acquire().release()
    clock.pass_(29)
    pool.acquire().release()
    assert driver.pings == 0
    clock.pass_(31)
    pool.acquire().release()
    assert driver.pings == 1
    assert pool.stats().checks_total == 1
    assert pool.stats().check_failures_total == 0


@pytest.mark.parametrize(("check", "pings"), [(True, 3), (False, 0)])
def test_check_may_be_always_or_never(server: Server, check: bool, pings: int) -> None:
    clock = Clock()
    driver = PlainDriver(server)
    pool = Pool(PoolOptions(check=check), driver, clock=clock)
    for _ in range(4):
        pool.acquire().release()
        clock.pass_(100)
    assert driver.pings == pings


def test_a_suspected_connection_is_pinged_before_its_next_lease(server: Server) -> None:
    driver = PlainDriver(server)
    pool = Pool(PoolOptions(), driver)
    lease = pool.acquire()
    lease.suspect()
    lease.release()
    pool.acquire().release()
    pool.acquire().release()
    assert driver.pings == 1


def test_an_open_transaction_is_rolled_back_on_return(server: Server) -> None:
    pool = make_pool(server)
    lease = pool.acquire()
    connection = lease.connection
    connection.in_transaction = True
    lease.release()
    with pool.acquire() as lease:
        assert lease.connection is connection
        assert not connection.in_transaction


def test_what_cannot_be_rolled_back_is_closed_and_nobody_is_told_by_an_error(
    server: Server,
) -> None:
    pool = make_pool(server)
    lease = pool.acquire()
    connection = lease.connection
    connection.in_transaction = connection.dead = True
    lease.release()
    assert connection.closed
    assert_capacity(pool, server)


def test_a_discarded_connection_is_closed(server: Server) -> None:
    pool = make_pool(server)
    lease = pool.acquire()
    connection = lease.connection
    lease.discard()
    assert connection.closed
    assert pool.stats().size == 0
    assert_capacity(pool, server)


def test_its_place_is_given_away_after_it_is_closed(server: Server) -> None:
    """So that the server never sees more than max_size."""
    pool = make_pool(server, max_size=1)
    lease = pool.acquire()
    with waiting(pool) as became:
        lease.discard()
    assert isinstance(became[0], Lease)
    became[0].release()
    assert server.most == 1


def test_an_expired_connection_is_not_lent(server: Server) -> None:
    """At checkout too, not only when it comes back."""
    clock = Clock()
    pool = make_pool(server, clock, max_lifetime=100)
    pool.acquire().release()
    clock.pass_(74.9)
    pool.acquire().release()
    assert pool.stats().opened_total == 1
    clock.pass_(25.2)
    pool.acquire().release()
    assert pool.stats().opened_total == 2
    assert pool.stats().closed_total["lifetime"] == 1


def test_a_connection_that_expired_in_use_is_closed_on_return(server: Server) -> None:
    clock = Clock()
    pool = make_pool(server, clock, max_lifetime=100)
    with pool.acquire():
        clock.pass_(101)
    assert pool.stats().size == 0
    assert pool.stats().closed_total["lifetime"] == 1


def test_lifetimes_are_spread(server: Server) -> None:
    """Connections opened together are not all replaced at once."""
    clock = Clock()
    pool = make_pool(server, clock, max_size=50, max_lifetime=1000, max_idle=None)
    for lease in [pool.acquire() for _ in range(50)]:
        lease.release()
    sizes = []
    for age in (749, 875, 1000):
        clock.now = 1000.0 + age
        pool.maintain()
        sizes.append(pool.stats().size)
    assert sizes[0] == 50
    assert 0 < sizes[1] < 50
    assert sizes[2] == 0


def test_what_nobody_used_for_max_idle_is_closed(server: Server) -> None:
    clock = Clock()
    pool = make_pool(server, clock, max_idle=60, max_lifetime=None)
    one, two = pool.acquire(), pool.acquire()
    one.release()
    clock.pass_(30)
    two.release()
    assert pool.maintain() == pytest.approx(30)
    clock.pass_(31)
    pool.maintain()
    assert pool.stats().size == 1
    assert pool.stats().closed_total["idle"] == 1
    clock.pass_(30)
    assert pool.maintain() == pytest.approx(60)
    assert pool.stats().size == 0


def test_min_size_connections_are_opened_and_kept(server: Server) -> None:
    clock = Clock()
    pool = make_pool(server, clock, min_size=3, max_idle=60, max_lifetime=None)
    pool.maintain()
    assert pool.stats().idle == 3
    clock.pass_(1000)
    pool.maintain()
    assert pool.stats().idle == 3


def test_what_nobody_used_for_max_idle_is_not_lent_either(server: Server) -> None:
    """Also where nobody came by to close it in time."""
    clock = Clock()
    pool = make_pool(server, clock, max_idle=60, max_lifetime=None, check=False)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    old = set(server.connections)
    clock.pass_(61)
    with pool.acquire() as lease:
        assert lease.connection not in old
    assert pool.stats().closed_total["idle"] == 3
    assert pool.stats().size == 1


def test_up_to_min_size_it_is_lent_after_a_look(server: Server) -> None:
    clock = Clock()
    driver = FakeDriver(server)
    options = PoolOptions(min_size=2, max_idle=60, check_after=600, max_lifetime=None)
    pool = Pool(options, driver, clock=clock)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    clock.pass_(61)
    with pool.acquire():
        assert pool.stats().closed_total["idle"] == 1
        assert pool.stats().size == 2


def test_what_is_kept_for_min_size_is_kept_alive(server: Server) -> None:
    clock = Clock()
    driver = FakeDriver(server)
    options = PoolOptions(min_size=2, check_after=30, max_lifetime=None)
    pool = Pool(options, driver, clock=clock)
    assert pool.maintain() == pytest.approx(30)
    assert (driver.pings, pool.stats().idle) == (0, 2)
    clock.pass_(20)
    with pool.acquire():
        clock.pass_(1)
    assert pool.maintain() == pytest.approx(9)
    clock.pass_(10)
    assert pool.maintain() == pytest.approx(20)
    assert driver.pings == 1
    server.kill()
    clock.pass_(31)
    pool.maintain()
    stats = pool.stats()
    assert (stats.idle, stats.opened_total, stats.closed_total["broken"]) == (2, 4, 2)
    with pool.acquire() as lease:
        assert not lease.connection.dead


def test_only_min_size_connections_survive_an_idle_hour(server: Server) -> None:
    """A ping keeps a connection alive, but is no use of it: `max_idle` goes on."""
    clock = Clock()
    driver = FakeDriver(server)
    options = PoolOptions(min_size=1, max_idle=600, check_after=30, max_lifetime=None)
    pool = Pool(options, driver, clock=clock)
    pinged: set[int] = set()
    ping = driver.ping

    def note_and_ping(connection: Any, timeout: float) -> None:
        pinged.add(connection.number)
        ping(connection, timeout)

    driver.ping = note_and_ping  # type: ignore[method-assign]
    for lease in [pool.acquire() for _ in range(5)]:
        lease.release()
        clock.pass_(1)
    end = clock.now + 3600
    while clock.now < end:
        pause = pool.maintain()
        assert pause is not None
        assert pause >= 1  # whatever is due is done: the keeper does not spin
        clock.pass_(pause)
    assert pool.stats().size == 1
    assert pool.stats().closed_total["idle"] == 4
    assert pinged == {connection.number for connection in server.connections}
    assert_capacity(pool, server)


def test_what_was_pinged_is_not_pinged_again_before_its_next_lease(
    server: Server,
) -> None:
    clock = Clock()
    driver = FakeDriver(server)
    options = PoolOptions(min_size=1, check_after=30, max_lifetime=None)
    pool = Pool(options, driver, clock=clock)
    pool.maintain()
    clock.pass_(31)
    pool.maintain()
    assert driver.pings == 1
    clock.pass_(20)
    pool.acquire().release()
    assert driver.pings == 1


def test_those_that_were_used_last_are_kept_alive(server: Server) -> None:
    """Those are the ones that `max_idle` leaves."""
    clock = Clock()
    driver = FakeDriver(server)
    options = PoolOptions(min_size=2, max_idle=600, check_after=30, max_lifetime=None)
    pool = Pool(options, driver, clock=clock)
    leases = [pool.acquire() for _ in range(4)]
    kept = {lease.connection.number for lease in leases[2:]}
    for lease in leases:
        lease.release()
        clock.pass_(1)
    del lease, leases
    for _ in range(25):
        clock.pass_(31)
        pool.maintain()
    assert {connection.number for connection in server.connections} == kept
    assert driver.pings == 2 * 25


def test_nothing_is_pinged_that_is_not_kept(server: Server) -> None:
    clock = Clock()
    driver = FakeDriver(server)
    pool = Pool(PoolOptions(check_after=30), driver, clock=clock)
    pool.acquire().release()
    clock.pass_(100)
    pool.maintain()
    assert driver.pings == 0


def test_what_is_closed_on_return_is_replaced_up_to_min_size(server: Server) -> None:
    """At once: the keeper is told of it."""
    clock = Clock()
    nudges: list[int] = []
    keeper = Keeper()
    keeper.watch = lambda pool: None  # type: ignore[method-assign]
    keeper.nudge = lambda pool: nudges.append(1)  # type: ignore[method-assign]
    options = PoolOptions(min_size=1, max_lifetime=100)
    pool = Pool(options, FakeDriver(server), clock=clock, keeper=keeper)
    with pool.acquire():
        clock.pass_(101)
        nudges.clear()
    assert pool.stats().size == 0
    assert nudges
    pool.maintain()
    assert pool.stats().idle == 1


def test_opening_up_to_min_size_pauses_longer_and_longer(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(server, Clock(), min_size=1)
    server.up = False
    pauses = [pool.maintain() for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "cannot keep min_size=1 connections open: the server is down" in caplog.text
    server.up = True
    pool.maintain()
    assert pool.stats().idle == 1


def test_drain_replaces_idle_ones_at_once_and_others_when_they_come_back(
    server: Server,
) -> None:
    pool = make_pool(server)
    used, idle = pool.acquire(), pool.acquire()
    old = {used.connection, idle.connection}
    idle.release()
    pool.drain()
    assert pool.stats().size == 1
    with pool.acquire() as fresh:
        assert fresh.connection not in old
        used.release()
    assert pool.stats().closed_total["evicted"] == 2
    with pool.acquire() as lease:
        assert lease.connection not in old


def test_a_larger_max_size_lets_waiters_in(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    held = pool.acquire()
    with waiting(pool) as became:
        pool.resize(max_size=2)
    assert isinstance(became[0], Lease)
    became[0].release()
    held.release()
    assert_capacity(pool, server)


def test_a_smaller_max_size_closes_what_is_surplus(server: Server) -> None:
    pool = make_pool(server, max_size=4)
    leases = [pool.acquire() for _ in range(4)]
    leases[0].release()
    pool.resize(max_size=2)
    assert pool.stats().size == 3
    for lease in leases[1:]:
        lease.release()
    stats = pool.stats()
    assert stats.size <= 2
    assert stats.closed_total["idle"] >= 2
    server.most = 0
    assert_capacity(pool, server)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"max_size": 0}, "max_size must be 1 or more, not 0"),
        ({"min_size": 11}, r"min_size must be from 0 to max_size \(10\), not 11"),
        ({"max_size": 2.5}, "max_size must be a whole number, not 2.5"),
    ],
)
def test_a_resize_out_of_bounds_is_refused(
    server: Server, sizes: dict[str, int], told: str
) -> None:
    pool = make_pool(server, name="shop")
    with pytest.raises(OptionsError, match=f"pool 'shop': {told}"):
        pool.resize(**sizes)
    assert pool.stats().max_size == 10


def test_a_suspended_pool_lends_nothing_until_it_is_resumed(server: Server) -> None:
    pool = make_pool(server)
    pool.acquire().release()
    pool.suspend()
    with pytest.raises(PoolTimeout, match="the pool is suspended"):
        pool.acquire(timeout=0.01)
    with waiting(pool, 3) as became:
        pool.resume()
    leases = [lease for lease in became if isinstance(lease, Lease)]
    assert len(leases) == 3
    for lease in leases:
        lease.release()
    assert_capacity(pool, server)


def test_a_suspended_pool_takes_back(server: Server) -> None:
    pool = make_pool(server)
    lease = pool.acquire()
    pool.suspend()
    lease.release()
    assert pool.stats().idle == 1
    pool.drain()
    assert pool.stats().size == 0


def test_a_closed_pool_sends_everybody_away(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    held = pool.acquire()
    with waiting(pool, 2) as became:
        pool.close()
    assert [type(each) for each in became] == [PoolClosed, PoolClosed]
    with pytest.raises(PoolClosed, match="pool 'default' is closed"):
        pool.acquire()
    assert pool.closed
    held.release()
    assert not server.connections
    assert pool.stats().closed_total["shutdown"] == 1
    pool.close()
    pool.resume()
    with pytest.raises(PoolClosed):
        pool.acquire()


def test_closing_may_wait_for_leases_to_end(server: Server) -> None:
    pool = make_pool(server)
    lease = pool.acquire()
    thread = in_thread(lambda: pool.close(timeout=10))
    wait_until(lambda: pool.closed, "the pool to close")
    assert thread.is_alive()
    lease.release()
    thread.join(10)
    assert not thread.is_alive()
    assert not server.connections


def test_a_forgotten_lease_is_taken_back_with_a_warning(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(server, max_size=1, leak_threshold=60)
    connection = pool.acquire().connection  # nobody refers to the lease any more
    gc.collect()
    pool.maintain()
    assert pool.stats().reclaimed_total == 1
    assert "never given back" in caplog.text
    assert "test_a_forgotten_lease_is_taken_back_with_a_warning" in caplog.text
    with pool.acquire(timeout=0) as lease:
        assert lease.connection is connection
    assert_capacity(pool, server)


def test_a_caller_in_need_takes_back_what_was_forgotten(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    pool.acquire()
    gc.collect()
    with pool.acquire(timeout=10):
        pass


def test_statistics_add_up(server: Server) -> None:
    clock = Clock()
    pool = make_pool(server, clock)
    with pool.acquire():
        clock.pass_(0.3)
        with pool.acquire():
            clock.pass_(0.7)
    pool.acquire().release()
    stats = pool.stats()
    assert stats.acquired_total == 3
    assert stats.wait_seconds.count == 3
    assert stats.use_seconds.count == 3
    assert stats.use_seconds_total == stats.use_seconds.sum == pytest.approx(1.7)
    assert stats.opened_total == stats.open_seconds.count == 2
    pool.drain()
    after = pool.stats()
    assert after.acquired_total == 3
    assert after.use_seconds_total == pytest.approx(1.7)


def test_a_pool_shows_itself(server: Server) -> None:
    pool = make_pool(server, name="shop")
    pool.acquire().release()
    assert repr(pool) == "<Pool 'shop': 1 of 10 open, 1 idle, 0 waiting>"
