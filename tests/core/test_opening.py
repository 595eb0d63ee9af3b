"""A caller that has a connection opened is bound to none: it takes what comes first."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from djpool.core import Lease, Pool, PoolOptions, PoolTimeout
from djpool.core.keeper import Keeper
from djpool.testing.watch import wait_until
from tests.core.fakes import FakeDriver, Server, in_thread


class SlowServer(Server):
    """Connects wait until they are let through, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = threading.Semaphore(0)
        self.connecting: list[str] = []
        self.before_connect = self._wait

    def _wait(self) -> None:
        self.connecting.append(threading.current_thread().name)
        assert self.turns.acquire(timeout=30)


@pytest.fixture
def server() -> SlowServer:
    return SlowServer()


@pytest.fixture
def pool(server: SlowServer) -> Iterator[Pool]:
    options = PoolOptions(max_size=4, timeout=20)
    pool = Pool(options, FakeDriver(server), keeper=Keeper())
    yield pool
    server.turns.release(100)
    pool.close()
    wait_until(lambda: pool.empty, "every connection to be closed")
    assert not server.connections


def asks(pool: Pool, timeout: float | None = None) -> list[Any]:
    """Ask for a lease in a thread that lasts as long as the lease; what came of it."""
    got: list[Any] = []

    def ask() -> None:
        try:
            lease = pool.acquire(timeout)
        except Exception as error:  # noqa: BLE001 (it is what came of it)
            got.append(error)
        else:
            got.append(lease)
            wait_until(lambda: lease.ended, "the lease to end")

    in_thread(ask)
    return got


def asks_for_the_second(pool: Pool, server: SlowServer) -> list[Any]:
    """Ask in a thread, and wait until a second connection is being opened for it."""
    got = asks(pool)
    wait_until(lambda: len(server.connecting) == 2, "the connect to begin")
    return got


def outcome(got: list[Any]) -> Any:
    """What came of it, once that is known."""
    wait_until(lambda: got, "the caller's turn")
    return got[0]


def lease_slowly(pool: Pool, server: SlowServer) -> Lease:
    """The lease of a connection whose opening took its time."""
    server.turns.release()
    lease = pool.acquire()
    pool._gate._takes = 1.0
    return lease


def assert_all_can_be_had(pool: Pool, server: SlowServer) -> None:
    server.turns.release(100)
    leases = [pool.acquire() for _ in range(4)]
    with pytest.raises(PoolTimeout):
        pool.acquire(0)
    for lease in leases:
        lease.release()
    assert server.most <= 4


def test_what_comes_back_sooner_serves_the_caller(
    pool: Pool, server: SlowServer
) -> None:
    lease = lease_slowly(pool, server)
    got = asks_for_the_second(pool, server)
    connection = lease.connection
    lease.release()
    assert outcome(got).connection is connection
    outcome(got).release()
    server.turns.release()
    wait_until(lambda: pool.stats().idle == 2, "the other to be laid down")
    assert_all_can_be_had(pool, server)


def test_what_is_opened_serves_who_waits(pool: Pool, server: SlowServer) -> None:
    lease = lease_slowly(pool, server)
    got = asks_for_the_second(pool, server)
    server.turns.release()
    assert outcome(got).connection is not lease.connection
    lease.release()
    outcome(got).release()
    assert_all_can_be_had(pool, server)


def test_why_it_failed_is_told_to_the_caller(pool: Pool, server: SlowServer) -> None:
    lease = lease_slowly(pool, server)
    got = asks_for_the_second(pool, server)
    server.up = False
    server.turns.release()
    assert str(outcome(got)) == "the server is down"
    server.up = True
    lease.release()
    assert_all_can_be_had(pool, server)


def test_why_it_failed_is_logged_where_the_caller_was_served(
    pool: Pool, server: SlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    lease = lease_slowly(pool, server)
    got = asks_for_the_second(pool, server)
    lease.release()
    outcome(got)
    server.up = False
    with caplog.at_level(logging.WARNING, "djpool.pool"):
        server.turns.release()
        # Another pool's may come first: what it has to say is told when there is time.
        wait_until(lambda: "no connection" in caplog.text, "the message")
    assert "no connection can be opened: the server is down" in caplog.text
    server.up = True
    outcome(got).release()
    assert_all_can_be_had(pool, server)


def test_who_ran_out_of_time_leaves_the_connect_to_others(
    pool: Pool, server: SlowServer
) -> None:
    lease = lease_slowly(pool, server)
    got = asks(pool, 0.2)
    assert isinstance(outcome(got), PoolTimeout)
    assert pool.stats().opening == 1
    server.turns.release()
    wait_until(lambda: pool.stats().idle == 1, "it to be laid down")
    lease.release()
    assert_all_can_be_had(pool, server)


def test_callers_keep_their_order(pool: Pool, server: SlowServer) -> None:
    """Those for whom connections are being opened come first, as they did before."""
    lease = lease_slowly(pool, server)
    callers = []
    for number in range(3):
        callers.append(asks(pool))
        wait_until(
            lambda: len(pool._gate.waiters) + len(server.connecting) > 1 + number,  # noqa: B023
            "the caller to wait",
        )
    wait_until(lambda: len(pool._gate.waiters) == 3, "all to queue")
    for got in callers:
        lease.release()
        lease = outcome(got)
    lease.release()
    assert_all_can_be_had(pool, server)


def test_without_a_thread_the_caller_connects_itself(
    pool: Pool, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lease_slowly(pool, server)
    got = asks(pool)
    assert pool._keeper is not None
    monkeypatch.setattr(pool._keeper.workers, "do", no_thread)
    other = asks(pool)
    server.turns.release(2)
    for each in (lease, outcome(got), outcome(other)):
        each.release()
    assert_all_can_be_had(pool, server)


def no_thread(work: object) -> None:
    raise RuntimeError("can't start new thread")


def test_who_does_not_queue_connects_itself(pool: Pool, server: SlowServer) -> None:
    lease = lease_slowly(pool, server)
    server.turns.release()
    pool.acquire(0).release()
    assert server.connecting[-1] == threading.current_thread().name
    lease.release()
    assert_all_can_be_had(pool, server)


def test_quick_connects_are_the_caller_s_own(pool: Pool, server: SlowServer) -> None:
    lease = lease_slowly(pool, server)
    pool._gate._takes = 0.001
    server.turns.release()
    pool.acquire().release()
    assert server.connecting[-1] == threading.current_thread().name
    lease.release()
    assert_all_can_be_had(pool, server)


def test_min_size_is_opened_side_by_side(server: SlowServer) -> None:
    """While callers wait: they are wanted in any case."""
    options = PoolOptions(min_size=3, max_size=4, timeout=20)
    pool = Pool(options, FakeDriver(server), keeper=Keeper())
    callers = [asks(pool) for _ in range(4)]
    wait_until(lambda: len(server.connecting) == 3, "three connects to begin")
    server.turns.release(100)
    for got in callers:
        outcome(got).release()
    assert_all_can_be_had(pool, server)
    pool.close()


def test_that_the_server_is_full_is_told_to_nobody_who_can_wait(
    pool: Pool, server: SlowServer
) -> None:
    """Its caller was served meanwhile, and the next one waits for what comes back."""
    lease = lease_slowly(pool, server)
    pool._gate._serves = False
    pool._connections.outage.failures = 1
    first = asks_for_the_second(pool, server)
    lease.release()
    served = outcome(first)
    second = asks(pool)
    wait_until(lambda: pool.stats().waiting == 1, "the next one to wait")
    pool._gate._serves = False
    server.full = True
    server.turns.release()
    wait_until(lambda: pool.stats().open_errors_total == 1, "the connect to fail")
    wait_until(lambda: not pool.stats().opening, "its place to be free")
    time.sleep(0.05)
    assert not second
    served.release()
    outcome(second).release()
    server.full = False
    assert_all_can_be_had(pool, server)
