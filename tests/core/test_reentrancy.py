"""The collector runs at each allocation inside the gate's critical sections.

A hook around the gate's lock sees to it. What is collected ends a lease, as a generator
does that somebody forgot.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import pytest

from djpool.core import Lease, Pool, PoolOptions
from djpool.core.collecting import is_collecting
from djpool.core.keeper import Keeper
from djpool.core.session import Change
from djpool.testing.watch import wait_until
from tests.core.fakes import FakeDriver, Server, assert_capacity, in_thread


class Collecting:
    """The gate's lock; while it is held, each allocation may begin a collection."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.sections = 0

    def __enter__(self) -> None:
        self.lock.acquire()
        self.sections += 1
        gc.set_threshold(1, 1, 1)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        gc.set_threshold(100_000, 50, 50)
        self.lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)


class Forgotten:
    """Garbage in a cycle, whose finaliser gives a lease back."""

    ended = 0

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.cycle = self

    def __del__(self) -> None:
        self.lease.release()
        type(self).ended += 1


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("change", [0, Change.SETTINGS, Change.LOCKS])
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_what_is_collected_inside_waits_for_no_lock(change: int, release: str) -> None:
    server = Server()
    pool = Pool(
        PoolOptions(max_size=3, timeout=30, release=release),
        FakeDriver(server),
        keeper=Keeper(),
    )
    lock = pool._gate.lock = Collecting(pool._gate.lock)  # type: ignore[assignment]
    Forgotten.ended = 0
    wrong: list[BaseException] = []

    def forget() -> None:
        lease = pool.acquire()
        lease.changed(change)
        Forgotten(lease)

    def work() -> None:
        try:
            for turn in range(60):
                forget()
                pool.stats()
                with pool.acquire() as lease:
                    lease.connection.use()
                if turn % 10 == 0:
                    pool.resize(min_size=turn // 10 % 3)
        except BaseException as error:  # noqa: BLE001 (shown at the end)
            wrong.append(error)

    threads = [in_thread(work) for _ in range(4)]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    gc.collect()
    assert wrong == []
    assert Forgotten.ended == 4 * 60
    assert lock.sections > Forgotten.ended
    wait_until(lambda: pool.stats().in_use == 0, "all to come back")
    assert_capacity(pool, server)
    pool.close()


def test_a_lease_that_a_finaliser_ends_inside_is_taken_back_outside() -> None:
    """Not by the thread that has the lock: that would speak to the server."""
    server = Server()
    driver = FakeDriver(server)
    threads: list[threading.Thread] = []
    driver.before_restore = lambda: threads.append(threading.current_thread())
    pool = Pool(PoolOptions(max_size=2), driver, keeper=Keeper())
    lease = pool.acquire()
    lease.changed(Change.LOCKS)
    Forgotten(lease)
    del lease
    with pool._gate.lock:
        gc.collect()
        assert not threads
    wait_until(lambda: pool.stats().in_use == 0, "it to come back")
    assert [thread.name for thread in threads] == ["djpool-upkeep"]
    assert_capacity(pool, server)
    pool.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_note_of_a_collection_that_was_interrupted_is_made_up_for() -> None:
    """The thread does not seem to be collecting for ever."""

    def strike(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code.co_name == "_note":
            if frame.f_locals["phase"] == "start":
                return
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(strike)
    try:
        gc.collect()
    finally:
        sys.setprofile(None)
    assert not is_collecting()
