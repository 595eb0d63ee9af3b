"""Requests, one after the other, at once, or by many threads for a while."""

from __future__ import annotations

import threading
import time

from django.db import connections

import djpool
from tests.servers.process import wait_until

# Longer than anything here takes, on a machine that is busy with something else.
LONG = 60.0


def ask(alias: str) -> None:
    """One request, on a Django connection of its own, as under ASGI."""
    wrapper = connections.create_connection(alias)
    try:
        with wrapper.cursor() as cursor:
            oracle = wrapper.vendor == "oracle"
            cursor.execute("SELECT 1 FROM DUAL" if oracle else "SELECT 1")
            assert cursor.fetchone()[0] == 1
    finally:
        wrapper.close()


class Request:
    """When a request began, how long it took, and what became of it."""

    def __init__(self, alias: str) -> None:
        self.began = time.monotonic()
        self.error: Exception | None = None
        try:
            ask(alias)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            self.error = error
        self.seconds = time.monotonic() - self.began


def at_once(alias: str, count: int) -> list[Request]:
    """So many requests at the same time, each in a thread of its own."""
    done: list[Request] = []
    threads = [
        threading.Thread(target=lambda: done.append(Request(alias)), daemon=True)
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    return done


class Load:
    """Threads that send one request after the other until the block ends.

    Or until one of them meets an error of the kind that it `ends_with`.
    """

    def __init__(
        self, alias: str, threads: int, ends_with: type[Exception] | None = None
    ) -> None:
        self._ends_with = ends_with
        self.done: list[Request] = []
        self._alias = alias
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(threads)
        ]

    def _work(self) -> None:
        while not self._over.is_set():
            self.done.append(Request(self._alias))
            if self._ends_with and isinstance(self.done[-1].error, self._ends_with):
                return

    @property
    def errors(self) -> list[Request]:
        return [each for each in list(self.done) if each.error is not None]

    def goes_on(self, count: int = 50) -> None:
        """Wait until so many more requests have been answered."""
        good = len(self.done) - len(self.errors) + count
        wait_until(
            lambda: len(self.done) - len(self.errors) >= good,
            "requests to be answered",
            timeout=LONG,
        )

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LONG)
            assert not thread.is_alive()


def with_idle_ones(alias: str, count: int) -> None:
    """Have so many connections lie idle."""
    wrappers = [connections.create_connection(alias) for _ in range(count)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == count


def count_out(alias: str) -> None:
    """All of max_size can be had."""
    wait_until(lambda: djpool.stats(alias).in_use == 0, "all to come back")
    with_idle_ones(alias, djpool.stats(alias).max_size)
