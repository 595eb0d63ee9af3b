"""An exception of a signal's handler costs a connection at most, wherever it strikes.

Python runs such a handler when a function begins, and after a call of a function in C.
These tests raise at each such place in djpool's core. They keep the exception, and with
it the frames that it went through.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import djpool.core
from djpool.core import Pool, PoolOptions
from djpool.core.aside import Aside
from djpool.core.keeper import Keeper
from djpool.core.session import Change
from djpool.core.slot import Slot
from djpool.testing.watch import wait_until
from tests.core.fakes import FakeDriver, Server, assert_capacity

CORE = str(Path(djpool.core.__file__).parent)
MAX_SIZE = 2


class Stop(BaseException):
    """A time limit, or ^C."""


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


def interrupted(call: Callable[[], object], at: int) -> BaseException | None:
    """Call, and raise at place `at`; return what came of it."""
    left = at

    def note(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal left
        if event not in {"call", "c_return"}:
            return
        if frame.f_code.co_filename.startswith(CORE):
            left -= 1
            if not left:
                sys.setprofile(None)
                raise Stop(f"{event} at {frame.f_code.co_name}:{frame.f_lineno}")

    try:
        sys.setprofile(note)
        try:
            call()
        finally:
            sys.setprofile(None)
    except Stop as error:
        return error
    return None


def open_one(pool: Pool) -> None:
    with pool.acquire():
        pass


def lend_an_idle_one(pool: Pool) -> None:
    pool.acquire().release()


def roll_back(pool: Pool) -> None:
    lease = pool.acquire()
    lease.connection.in_transaction = True
    lease.release()


def restore(pool: Pool) -> None:
    lease = pool.acquire()
    lease.changed(Change.SETTINGS)
    lease.connection.state = "changed"
    lease.release()


def give_up(pool: Pool) -> None:
    pool.acquire().discard()


def replace_a_dead_one(pool: Pool) -> None:
    lease = pool.acquire()
    lease.connection.dead = True
    lease.release()
    pool.acquire().release()


def is_moving(pool: Pool) -> bool:
    stats = pool.stats()
    return stats.in_use + stats.opening > 0


@pytest.mark.parametrize("kept", [True, False], ids=["keeper", "alone"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize(
    ("warm", "use"),
    [
        (False, open_one),
        (True, lend_an_idle_one),
        (True, roll_back),
        (True, restore),
        (True, give_up),
        (True, replace_a_dead_one),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_capacity_survives(
    warm: bool, use: Callable[[Pool], None], native: bool, kept: bool
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
        error = interrupted(lambda: use(pool), len(exceptions) + 1)  # noqa: B023
        pool.maintain()
        # Shown by pytest if the test fails.
        print(repr(error))  # noqa: T201
        wait_until(lambda: not is_moving(pool), "what was on its way")  # noqa: B023
        assert_capacity(pool, server)
        pool.close()
        if error is None:
            break
        exceptions.append(error)
    assert len(exceptions) > 10


def test_a_thread_that_was_not_given_its_work_is_not_busy() -> None:
    done: list[int] = []
    aside, at = Aside(), 0
    while interrupted(lambda: aside.do(lambda: done.append(at)), at := at + 1):
        wait_until(lambda: not aside._at, "the thread to be idle")
        assert aside.do(lambda: done.append(0))
        wait_until(lambda: not aside._at, "the thread to be idle")
    assert done.count(0) == at - 1
    assert len(set(done)) == len(done) - (at - 2)  # none was done twice
    aside.end()
