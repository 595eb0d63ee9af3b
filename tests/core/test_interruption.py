"""An exception of a signal's handler costs a connection at most, wherever it strikes.

These tests raise at each place in djpool's core where Python runs such a handler. They
keep the exception, and with it the frames that it went through.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import djpool.core
from djpool.core import Lease, Pool, PoolOptions
from djpool.core.aside import Aside
from djpool.core.keeper import Keeper
from djpool.core.session import Change
from djpool.core.slot import Slot
from djpool.testing import watch
from tests.core.fakes import FakeDriver, Server
from tests.interruption.places import interrupted

CORE = str(Path(djpool.core.__file__).parent)
MAX_SIZE = 2


class KeepingPool:
    """A native pool that keeps what it is given, and nothing else."""

    native = None
    capacity: int | None = None

    def __init__(self) -> None:
        self.idle: set[Any] = set()

    def join(self, slot: Slot) -> None:
        """Enter the new connection of `slot` into the books."""

    def take(self, slot: Slot) -> None:
        """Lend the connection of `slot`."""
        assert slot.entry is not None
        self.idle.remove(slot.entry.connection)

    def give(self, slot: Slot) -> None:
        """Take back the connection of `slot`."""
        assert slot.entry is not None
        self.idle.add(slot.entry.connection)

    def drop(self, connection: Any) -> None:
        """Strike a connection off."""
        self.idle.discard(connection)

    def close(self) -> None:
        """Nothing to close."""


Leases = list[Lease]


def lend(pool: Pool, leases: Leases) -> Lease:
    lease = pool.acquire()
    leases.append(lease)
    return lease


def give_back(pool: Pool, leases: Leases) -> None:
    lend(pool, leases).release()


def roll_back(pool: Pool, leases: Leases) -> None:
    lease = lend(pool, leases)
    lease.connection.in_transaction = True
    lease.release()


def restore(pool: Pool, leases: Leases) -> None:
    lease = lend(pool, leases)
    lease.changed(Change.SETTINGS)
    lease.connection.state = "changed"
    lease.release()


def give_up(pool: Pool, leases: Leases) -> None:
    lend(pool, leases).discard()


def replace_a_dead_one(pool: Pool, leases: Leases) -> None:
    lease = lend(pool, leases)
    lease.connection.dead = True
    lease.release()
    lend(pool, leases).release()


def open_beside(pool: Pool, leases: Leases) -> None:
    """With a keeper, another thread opens the second one."""
    lend(pool, leases)
    pool._gate._takes = 1.0
    lend(pool, leases)


def is_moving(pool: Pool) -> bool:
    stats = pool.stats()
    return stats.in_use + stats.opening > 0


def assert_all_can_be_had(pool: Pool, server: Server) -> None:
    """Fail unless the pool has as much room as in the beginning, and no more."""
    leases = [pool.acquire(timeout=5) for _ in range(MAX_SIZE)]
    assert {lease.connection for lease in leases} == server.connections
    for lease in leases:
        assert lease.connection.state is None
        lease.release()
    assert (pool.stats().idle, pool.stats().size) == (MAX_SIZE, MAX_SIZE)
    assert server.most <= MAX_SIZE


@pytest.mark.parametrize("kept", [True, False], ids=["keeper", "alone"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize(
    ("warm", "use"),
    [
        (False, give_back),
        (True, give_back),
        (True, roll_back),
        (True, restore),
        (True, give_up),
        (True, replace_a_dead_one),
        (True, open_beside),
    ],
    ids=lambda value: getattr(value, "__name__", "idle" if value else "opened"),
)
def test_capacity_survives(
    warm: bool, use: Callable[[Pool, Leases], None], native: bool, kept: bool
) -> None:
    exceptions: list[BaseException] = []
    keeper = Keeper() if kept else None
    while True:
        server = Server()
        pool = Pool(
            PoolOptions(max_size=MAX_SIZE, timeout=5),
            FakeDriver(server),
            KeepingPool() if native else None,
            keeper=keeper,
        )
        if warm:
            pool.acquire().release()
        leases: Leases = []
        error = interrupted(
            lambda: use(pool, leases),  # noqa: B023
            len(exceptions) + 1,
            CORE,
        )
        for lease in leases:
            lease.release()  # as its holder does, which was told of the exception
        pool.maintain()
        # Shown by pytest if the test fails.
        print(repr(error))  # noqa: T201
        watch.wait_until(lambda: not is_moving(pool), "what was on its way")  # noqa: B023
        assert_all_can_be_had(pool, server)
        pool.close()
        if error is None:
            break
        exceptions.append(error)
    assert len(exceptions) > 10


def test_a_thread_that_was_not_given_its_work_is_not_busy() -> None:
    aside = Aside()
    for at in itertools.count(1):
        done: list[str] = []
        error = interrupted(lambda: aside.do(lambda: done.append("first")), at, CORE)  # noqa: B023
        watch.wait_until(lambda: not aside._at, "the thread to be idle")
        assert aside.do(lambda: done.append("second"))  # noqa: B023
        watch.wait_until(lambda: not aside._at, "the thread to be idle")
        assert done in (["first", "second"], ["second"])
        if error is None:
            break
    assert at > 3
    aside.end()
