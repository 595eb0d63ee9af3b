"""Many threads, every kind of event, and a count of the capacity at the end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from djpool.core import PoolError
from djpool.core.keeper import Keeper
from djpool.core.options import PoolOptions
from djpool.core.pool import Pool
from tests.core.fakes import FakeDriver, Server, assert_capacity, in_thread, make_pool
from tests.servers.process import wait_until

SECONDS = float(os.environ.get("DJPOOL_STRESS_SECONDS", "3"))


class Interruption(Exception):
    """What a signal handler, or a greenlet's timeout, may raise anywhere."""


def interrupt(thread: threading.Thread) -> None:
    """Have `Interruption` raised in a thread, between any two bytecodes."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interruption)
    )


@pytest.mark.stress
def test_capacity_survives_everything_at_once() -> None:  # noqa: C901 (a play)
    server = Server()
    pool = make_pool(
        server, max_size=4, max_waiting=60, max_idle=0.01, max_lifetime=0.5
    )
    over = time.monotonic() + SECONDS
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < over and not wrong:
            with contextlib.suppress(PoolError, ConnectionRefusedError):
                lease = pool.acquire(timeout=chance.choice([0, 0.001, 1]))
                try:
                    lease.connection.use()
                    if chance.random() < 0.1:
                        time.sleep(0.001)
                    lease.connection.in_transaction = chance.random() < 0.1
                    lease.connection.use()
                finally:
                    (lease.discard if chance.random() < 0.05 else lease.release)()

    def trouble() -> None:
        chance = random.Random(0)
        events: list[Callable[[], object]] = [
            server.kill,
            pool.drain,
            pool.maintain,
            lambda: setattr(server, "up", not server.up),
        ]
        while time.monotonic() < over:
            chance.choice(events)()
            time.sleep(0.005)
        server.up = True

    def watch() -> None:
        while time.monotonic() < over:
            stats = pool.stats()
            assert stats.in_use + stats.idle + stats.opening == stats.size <= 4, stats
            assert min(stats.in_use, stats.idle, stats.opening) >= 0, stats
            time.sleep(0.001)

    def guarded(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (shown at the end)
                wrong.append(error)

        return run

    jobs = [guarded(lambda seed=seed: work(seed)) for seed in range(64)]  # type: ignore[misc]
    threads = [in_thread(job) for job in [*jobs, guarded(trouble), guarded(watch)]]
    for thread in threads:
        thread.join(SECONDS + 60)
        assert not thread.is_alive()
    assert not wrong, wrong
    assert server.most <= 4
    leases = [pool.acquire(timeout=5) for _ in range(4)]
    assert pool.stats().in_use == 4
    for lease in leases:
        lease.release()
    pool.close()
    assert not server.connections


@pytest.mark.stress
def test_capacity_survives_interruptions_between_any_two_steps() -> None:  # noqa: C901
    """10,000 of them, in acquire, in release, in the queue, in maintenance."""
    server = Server()
    keeper = Keeper()
    pool = Pool(PoolOptions(max_size=3), FakeDriver(server), keeper=keeper)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                with pool.acquire(timeout=1) as lease:
                    lease.connection.use()
            except (PoolError, Interruption):
                pass

    def run() -> None:
        # An interruption may come while one is being handled. A thread that ended
        # of it would leave its ident, and so the next one, to somebody else.
        try:
            while not over.is_set():
                try:
                    work()
                except Interruption:
                    continue
        except Interruption:
            run()

    pool.acquire().release()  # starts the keeper, whom nobody is to interrupt
    threads = [in_thread(run) for _ in range(8)]
    chance = random.Random(1)
    for _ in range(max(10_000, int(2000 * SECONDS))):
        interrupt(chance.choice(threads))
        if chance.random() < 0.3:
            time.sleep(0)
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    wait_until(lambda: pool.stats().in_use == 0, "everything lost to be found again")
    assert_capacity(pool, server)
    pool.close()
