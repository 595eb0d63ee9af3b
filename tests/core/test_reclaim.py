"""What dead threads left takes as long as it takes, and keeps nobody waiting."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from djpool.core import Lease, Pool, PoolOptions
from djpool.core.keeper import Keeper
from tests.core.fakes import FakeDriver, Server, assert_capacity, in_thread
from tests.servers.process import wait_until


class HangingDriver(FakeDriver):
    """A rollback lasts until it is let through."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.go_on = threading.Event()

    def tidy(self, connection: Any, timeout: float) -> None:
        assert self.go_on.wait(30)
        super().tidy(connection, timeout)


def die_with(pool: Pool, kept: list[Lease]) -> None:
    """Lease in a thread that ends within its transaction."""

    def work() -> None:
        lease = pool.acquire()
        lease.connection.in_transaction = True
        kept.append(lease)

    in_thread(work).join(10)


def dropped(kept: list[Lease]) -> None:
    """The garbage collector has found the leases."""
    kept.clear()
    gc.collect()


@pytest.mark.parametrize("drop", [lambda kept: None, dropped], ids=["kept", "dropped"])
def test_a_caller_waits_for_no_rollback_of_a_dead_thread(
    drop: Callable[[list[Lease]], None],
) -> None:
    server, keeper = Server(), Keeper()
    driver = HangingDriver(server)
    pool = Pool(PoolOptions(max_size=4, timeout=5), driver, keeper=keeper)
    kept: list[Lease] = []
    for _ in range(3):
        die_with(pool, kept)
    drop(kept)
    pool.acquire(timeout=1).release()
    driver.go_on.set()
    wait_until(lambda: not pool.stats().in_use, "all to be taken back")
    assert pool.stats().reclaimed_total == 3
    assert_capacity(pool, server)
    pool.close()


def test_without_a_thread_the_caller_rolls_back() -> None:
    server = Server()
    pool = Pool(PoolOptions(max_size=1, timeout=5), FakeDriver(server))
    kept: list[Lease] = []
    die_with(pool, kept)
    pool.acquire(timeout=1).release()
    assert_capacity(pool, server)
    pool.close()
