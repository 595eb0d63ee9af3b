"""Ages and idle times, on a machine that sleeps."""

from __future__ import annotations

import time

import pytest

from djpool.core import Pool, PoolOptions
from djpool.core.clock import passed
from tests.core.fakes import FakeDriver, Server, assert_capacity


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux has that clock")
def test_what_was_idle_while_the_machine_slept_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server's firewall did not sleep, and the wall clock is of no concern."""
    server = Server()
    driver = FakeDriver(server)
    pool = Pool(PoolOptions(max_size=1, max_lifetime=3600), driver)
    first = pool.acquire()
    number = first.connection.number
    first.release()
    clock_gettime = time.clock_gettime

    def after(seconds: float) -> None:
        def slept(number: int) -> float:
            sleep = seconds if number == time.CLOCK_BOOTTIME else 0.0
            return clock_gettime(number) + sleep

        monkeypatch.setattr(time, "clock_gettime", slept)
        monkeypatch.setattr(time, "time", lambda: 0.0)

    after(60.0)  # longer than check_after
    with pool.acquire() as lease:
        assert (lease.connection.number, driver.pings) == (number, 1)
    after(2 * 3600.0)
    with pool.acquire() as lease:
        assert lease.connection.number != number
    assert_capacity(pool, server)


def test_the_clock_goes_on() -> None:
    before = passed()
    assert passed() >= before
