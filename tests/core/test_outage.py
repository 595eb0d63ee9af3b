"""What callers meet while no connection can be opened, and when one can again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from djpool.core import Pool, PoolBusy, PoolOptions, PoolTimeout
from djpool.core.outage import FIRST_PAUSE, LONGEST_PAUSE, Ended, Outage
from tests.core.fakes import (
    Clock,
    FakeDriver,
    Server,
    assert_capacity,
    in_thread,
    make_pool,
)
from tests.servers.process import wait_until


@pytest.fixture
def server() -> Server:
    return Server()


def callers(pool: Pool, count: int, work: Callable[[], object]) -> list[Exception]:
    """Have threads do something at once; what they raised, when all are done."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            raised.append(error)

    threads = [in_thread(run) for _ in range(count)]
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return raised


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


# -- the outage itself -----------------------------------------------------------


def test_pauses_grow_up_to_a_bound() -> None:
    outage = Outage(Clock(), chance=lambda: 0.0)
    pauses = [outage.failed(OSError()) for _ in range(2000)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert outage.failures == 2000


def test_pauses_are_spread() -> None:
    """Processes that lost the same server do not all try in the same moment."""
    longest = Outage(Clock(), chance=lambda: 0.0).failed(OSError())
    shortest = Outage(Clock(), chance=lambda: 1.0).failed(OSError())
    assert (longest, shortest) == (FIRST_PAUSE, FIRST_PAUSE / 2)


def test_an_outage_is_told_of_once_and_its_end_too() -> None:
    clock = Clock()
    outage = Outage(clock)
    assert not outage.is_news()
    outage.failed(OSError())
    assert outage.is_news()
    clock.pass_(3)
    outage.failed(OSError())
    assert not outage.is_news()
    assert outage.end() == Ended(3.0, 2)
    assert outage.error is None
    assert outage.end() is None
    outage.failed(OSError())
    assert outage.is_news()


def test_what_was_not_told_of_has_no_end() -> None:
    outage = Outage(Clock())
    outage.failed(OSError())
    assert outage.end() is None


# -- refusals --------------------------------------------------------------------


def test_a_refusal_reaches_all_who_waited_for_it(server: Server) -> None:
    """They do not queue up to try one after the other what cannot succeed."""
    pool = make_pool(server, max_size=10, timeout=30)
    server.up = False
    server.before_connect = lambda: time.sleep(0.2)
    began = time.monotonic()
    raised = callers(pool, 64, lambda: pool.acquire().release())
    # One by one that would be 64 times 0.2 s.
    assert time.monotonic() - began < 6
    assert [type(error) for error in raised] == [ConnectionRefusedError] * 64
    assert pool.stats().open_errors_total < 16
    assert pool.stats().timeouts_total == 0
    server.before_connect = lambda: None
    server.up = True
    assert_capacity(pool, server)


def test_connects_pause_between_failures(server: Server) -> None:
    """However many ask: the server that starts is not run over."""
    pool = make_pool(server, max_size=10)
    server.up = False
    ends = time.monotonic() + 1

    def hammer() -> None:
        while time.monotonic() < ends:
            with pytest.raises(ConnectionRefusedError):
                pool.acquire()

    assert callers(pool, 16, hammer) == []
    # Without pauses it would be thousands.
    assert pool.stats().open_errors_total < 40


def test_when_it_returns_there_is_no_herd(server: Server) -> None:
    pool = make_pool(server, max_size=8, timeout=30)
    lock = threading.Lock()
    in_flight = most = 0

    def count() -> None:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        time.sleep(0.01)
        with lock:
            in_flight -= 1

    server.before_connect = count
    server.up = False
    served: list[bool] = []

    def insist() -> None:
        while True:
            try:
                with pool.acquire():
                    served.append(True)
                    return
            except ConnectionRefusedError:
                time.sleep(0.01)

    threads = [in_thread(insist) for _ in range(64)]
    wait_until(lambda: pool.stats().open_errors_total >= 3, "some to fail")
    server.up = True
    for thread in threads:
        thread.join(30)
    assert len(served) == 64
    assert most <= 2
    assert_capacity(pool, server)


def test_one_request_is_enough_after_it(server: Server) -> None:
    pool = make_pool(server)
    server.up = False
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            pool.acquire()
    server.up = True
    began = time.monotonic()
    pool.acquire().release()
    assert time.monotonic() - began < 5
    assert pool.stats().opened_total == 1


def test_who_waits_beside_connections_in_use_is_served_with_them(
    server: Server,
) -> None:
    """New ones are refused, but those that there are go round."""
    pool = make_pool(server, max_size=4)
    held = pool.acquire()
    server.up = False
    refused = callers(pool, 1, lambda: pool.acquire().release())
    assert len(refused) == 1
    thread = in_thread(lambda: pool.acquire(timeout=30).release())
    wait_until(lambda: pool.stats().waiting == 1 or not thread.is_alive(), "a waiter")
    held.release()
    thread.join(10)
    assert not thread.is_alive()


def test_too_many_waiters_have_the_reason_too(server: Server) -> None:
    pool = make_pool(server, max_size=2, max_waiting=1)
    server.up = False
    with pytest.raises(ConnectionRefusedError):
        pool.acquire()
    going, go_on = threading.Event(), threading.Event()

    def stall() -> None:
        going.set()
        go_on.wait(10)

    server.before_connect = stall
    threads = [in_thread(lambda: callers(pool, 1, lambda: pool.acquire().release()))]
    assert going.wait(10)
    threads.append(in_thread(lambda: callers(pool, 1, pool.acquire)))
    wait_until(lambda: pool.stats().waiting == 1, "one to wait")
    with pytest.raises(PoolBusy) as caught:
        pool.acquire()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    go_on.set()
    for thread in threads:
        thread.join(10)


# -- a server that says nothing ------------------------------------------------------


def test_behind_a_connect_that_hangs_others_are_tried(server: Server) -> None:
    pool = make_pool(server, max_size=3, timeout=30)
    go_on = threading.Event()
    connects: list[int] = []

    def first_hangs() -> None:
        connects.append(1)
        if len(connects) == 1:
            go_on.wait(30)

    server.before_connect = first_hangs
    hanging = in_thread(lambda: pool.acquire().release())
    wait_until(lambda: len(connects) == 1, "it to hang")
    with pool.acquire(timeout=20):
        assert hanging.is_alive()
    go_on.set()
    hanging.join(10)
    assert_capacity(pool, server)


def test_who_ran_out_of_time_says_nothing_to_the_others(server: Server) -> None:
    pool = make_pool(server, max_size=1)
    going, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        going.set()
        if not go_on.is_set():
            time.sleep(0.3)
            raise TimeoutError("no answer")

    server.before_connect = hang
    in_thread(lambda: callers(pool, 1, lambda: pool.acquire(timeout=0.2)))
    assert going.wait(10)
    done: list[bool] = []

    def wait() -> None:
        pool.acquire(timeout=30).release()
        done.append(True)

    thread = in_thread(wait)
    wait_until(lambda: pool.stats().waiting == 1, "one to wait")
    go_on.set()
    thread.join(10)
    assert done == [True]


# -- a restart ---------------------------------------------------------------------


def test_callers_whose_connections_died_do_not_all_connect(server: Server) -> None:
    """The first that is opened serves the others, too, where they are quick."""
    pool = make_pool(server, max_size=10, timeout=30)
    leases = [pool.acquire() for _ in range(10)]
    for lease in leases:
        lease.release()
    server.kill()
    server.before_connect = lambda: time.sleep(0.1)
    assert callers(pool, 10, lambda: pool.acquire().release()) == []
    assert pool.stats().opened_total < 10 + 5
    assert_capacity(pool, server)


# -- a server that is full -------------------------------------------------------


def test_a_full_server_is_asked_again(server: Server) -> None:
    pool = make_pool(server)
    server.full = True
    thread = in_thread(lambda: pool.acquire().release())
    wait_until(lambda: pool.stats().open_errors_total >= 2, "it to try again")
    server.full = False
    thread.join(10)
    assert not thread.is_alive()
    assert pool.stats().opened_total == 1
    assert_capacity(pool, server)


def test_a_full_server_is_told_of_in_the_end(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(server, timeout=30)
    server.full = True
    began = time.monotonic()
    raised = callers(pool, 8, lambda: pool.acquire().release())
    assert time.monotonic() - began < 15  # long before the deadline
    assert [type(error) for error in raised] == [BlockingIOError] * 8
    assert len(warnings(caplog)) == 1
    server.full = False
    assert_capacity(pool, server)


def test_a_full_server_costs_no_more_than_the_deadline(server: Server) -> None:
    pool = make_pool(server)
    server.full = True
    with pytest.raises(BlockingIOError):
        pool.acquire(timeout=0.1)
    with pytest.raises(BlockingIOError):
        pool.acquire(timeout=0)


def test_beside_a_full_server_what_comes_back_goes_round(server: Server) -> None:
    """More callers than connections, and no error."""
    pool = make_pool(server, max_size=20, timeout=30)
    held = [pool.acquire(), pool.acquire()]
    server.full = True
    for lease in held:
        lease.release()

    def work() -> None:
        for _ in range(5):
            with pool.acquire():
                time.sleep(0.005)

    assert callers(pool, 10, work) == []
    assert pool.stats().size == 2


# -- a login that is refused -----------------------------------------------------


class Login:
    """A server that refuses whoever does not know the word."""

    def __init__(self, server: Server) -> None:
        self.word = self.known = "old"
        self.renewals = 0
        server.before_connect = self.check

    def check(self) -> None:
        if self.known != self.word:
            raise PermissionError("wrong word")

    def renew(self) -> None:
        self.renewals += 1


def test_a_refused_login_is_renewed_and_tried_once_more(server: Server) -> None:
    login = Login(server)

    def renew() -> None:
        login.renew()
        login.known = login.word

    pool = Pool(PoolOptions(), FakeDriver(server), renew=renew)
    pool.acquire().release()
    login.word = "new"
    pool.drain()
    pool.acquire().release()
    assert login.renewals == 1
    assert pool.stats().open_errors_total == 1


@pytest.mark.parametrize("renewable", [True, False])
def test_a_wrong_login_is_tried_no_more_than_that(
    server: Server, renewable: bool
) -> None:
    login = Login(server)
    login.word = "new"
    renew: Any = login.renew if renewable else None
    pool = Pool(PoolOptions(), FakeDriver(server), renew=renew)
    with pytest.raises(PermissionError):
        pool.acquire()
    assert login.renewals == renewable
    assert pool.stats().open_errors_total == 1 + renewable


# -- suspended -------------------------------------------------------------------


def test_what_fails_because_of_a_suspension_waits_for_its_end(server: Server) -> None:
    pool = make_pool(server, timeout=30)
    going, go_on = threading.Event(), threading.Event()

    def stall() -> None:
        going.set()
        go_on.wait(10)

    server.before_connect = stall
    thread = in_thread(lambda: pool.acquire().release())
    assert going.wait(10)
    pool.suspend()
    server.up = False
    go_on.set()
    wait_until(lambda: pool.stats().waiting == 1, "it to queue")
    with pytest.raises(PoolTimeout, match="suspended") as caught:
        pool.acquire(timeout=0.01)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    server.up = True
    pool.resume()
    thread.join(10)
    assert not thread.is_alive()
    assert pool.stats().opened_total == 1
    assert_capacity(pool, server)


# -- the log ---------------------------------------------------------------------


def test_the_log_says_it_once_and_when_it_is_over(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(server, name="shop")
    server.up = False
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            pool.acquire()
    assert warnings(caplog) == [
        "pool 'shop': no connection can be opened: the server is down"
    ]
    server.up = True
    pool.acquire().release()
    pool.acquire().release()
    told = warnings(caplog)[1:]
    assert len(told) == 1
    assert "connections can be opened again, after" in told[0]
    assert "5 failed attempts" in told[0]


def test_min_size_is_restored_as_soon_as_somebody_finds_it_over(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    pool = make_pool(server, clock, min_size=3)
    server.up = False
    for _ in range(7):
        pool.maintain()
    with pytest.raises(ConnectionRefusedError):
        pool.acquire()
    assert len(warnings(caplog)) == 1  # by whoever was first
    server.up = True
    pool.acquire().release()
    pool.maintain()
    assert pool.stats().idle == 3
