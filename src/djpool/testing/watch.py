"""Tools of the suites: a clock to turn, drivers that are watched, bounded waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from djpool.core import Driver, Lease, Pool

# Seconds that nothing here takes, on a machine that is busy with something else.
LONG = 30.0
# What the suites create, and drop again.
TABLE = "djpool_conformance"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition()` is true; fail if it is not within `LONG` seconds."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"waited {LONG:g} s in vain: {what}"
        time.sleep(0.002)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let so many seconds have passed."""
        self.now += seconds


class Watch:
    """Counts the connections that drivers open, and can have connects fail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.driver: Driver  # the last one
        self.open: list[Any] = []  # connections need not be hashable
        self.most = 0
        self.timeouts: list[float] = []  # the seconds that connects were given
        self.error: Exception | None = None  # what connects raise

    def over(self, driver: Driver) -> None:
        """Watch this driver from now on."""
        self.driver = driver
        connect, close = driver.connect, driver.close

        def watched_connect(timeout: float) -> Any:
            self.timeouts.append(timeout)
            if self.error is not None:
                raise self.error
            connection = connect(timeout)
            with self._lock:
                self.open.append(connection)
                self.most = max(self.most, len(self.open))
            return connection

        def watched_close(connection: Any) -> None:
            try:
                close(connection)
            finally:
                with self._lock:
                    self.open = [each for each in self.open if each is not connection]

        driver.connect = watched_connect
        driver.close = watched_close  # type: ignore[method-assign]


@contextlib.contextmanager
def waiting(pool: Pool, count: int = 1) -> Iterator[list[Lease | Exception]]:
    """Have `count` callers queue, one after the other.

    Gives a list of what became of each, complete after the block.
    """
    became: list[Lease | Exception] = []

    def wait() -> None:
        try:
            became.append(pool.acquire(timeout=LONG))
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            became.append(error)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(count)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until_waiting(pool, number)
    yield became
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def until_waiting(pool: Pool, count: int) -> None:
    """Wait until so many callers queue."""
    wait_until(lambda: pool.stats().waiting == count, f"{count} to be waiting")
