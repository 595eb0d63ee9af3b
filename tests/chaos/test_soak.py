"""Everything goes wrong, at random, under load; what djpool promises holds throughout.

`DJPOOL_CHAOS_SECONDS` is how long it takes for each engine, `DJPOOL_CHAOS_SEED` the
seed of what is to happen; both are printed. Threads are the system's, so the same seed
gives the same events at about the same times, and not the same race.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from django.db import connections

import djpool
from djpool.core.session import Irreparable
from tests.backends.conftest import MakeAlias, make_alias, pooled  # noqa: F401
from tests.backends.engines import engine_of, server_of
from tests.chaos.load import Ledger, Load
from tests.chaos.plan import Event, make_plan
from tests.chaos.servers import Server, watched
from tests.chaos.watch import Watch
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy

SECONDS = float(os.environ.get("DJPOOL_CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("DJPOOL_CHAOS_SEED") or random.randrange(2**32))

ENGINES = [
    *("postgresql-native", "postgresql-fallback+transaction"),
    *("mysql@mariadb", "mysql+transaction@mariadb"),
]
# The first one warms up; what comes after may not cost more memory.
ROUNDS = 3
MAX_SIZE, CALLERS, TIMEOUT = 6, 16, 3.0
# Seconds beyond TIMEOUT that a caller may wait on a busy machine.
SLACK = 12.0
# Bytes that djpool and the drivers may have more than after the first round. One that
# was lost for each request, or each failure, would be many times as much.
MORE_MEMORY = 64 * 1024


class Chaos:
    """Makes things go wrong, and right again."""

    def __init__(self, server: Server, between: Proxy, pool: Any) -> None:
        self._server = server
        self._between = between
        self._pool = pool

    def happen(self, event: Event) -> None:
        """Let one thing happen, from beginning to end."""
        time.sleep(event.pause)
        with getattr(self, "_" + event.kind.replace(" ", "_"))(event):
            time.sleep(event.seconds)

    @contextmanager
    def _kill_one_session(self, event: Event) -> Iterator[None]:
        self._kill(1)
        yield

    @contextmanager
    def _kill_some_sessions(self, event: Event) -> Iterator[None]:
        self._kill(1 + int(event.share * MAX_SIZE))
        yield

    @contextmanager
    def _kill_all_sessions(self, event: Event) -> Iterator[None]:
        self._kill(MAX_SIZE)
        yield

    def _kill(self, count: int) -> None:
        for session in self._server.sessions()[:count]:
            self._server.kill(session)

    @contextmanager
    def _freeze_the_server(self, event: Event) -> Iterator[None]:
        self._server.server.freeze()
        try:
            yield
        finally:
            self._server.server.thaw()

    @contextmanager
    def _hold_back_the_network(self, event: Event) -> Iterator[None]:
        self._between.pause()
        yield
        self._between.resume()

    @contextmanager
    def _lose_what_is_sent(self, event: Event) -> Iterator[None]:
        self._between.black_hole()
        yield
        self._between.stop()
        self._between.cut()
        self._between.resume()

    @contextmanager
    def _reset_connections(self, event: Event) -> Iterator[None]:
        self._between.cut()
        yield

    @contextmanager
    def _refuse_connects(self, event: Event) -> Iterator[None]:
        self._between.stop()
        yield
        self._between.resume()

    @contextmanager
    def _crash_the_network(self, event: Event) -> Iterator[None]:
        self._between.stop()
        self._between.cut()
        yield
        self._between.resume()

    @contextmanager
    def _exhaust_max_connections(self, event: Event) -> Iterator[None]:
        with self._server.exhausted():
            self._kill(1 + int(event.share * MAX_SIZE))
            yield

    @contextmanager
    def _close_slowly(self, event: Event) -> Iterator[None]:
        driver = self._pool._connections.driver
        close: Callable[[Any], None] = driver.close

        def slowly(connection: Any) -> None:
            time.sleep(event.share / 2)
            close(connection)

        with mock.patch.object(driver, "close", slowly):
            self._kill(2)
            yield

    @contextmanager
    def _fail_to_reset(self, event: Event) -> Iterator[None]:
        driver = self._pool._connections.driver
        restore: Callable[..., None] = driver.restore
        draw = random.Random(event.share)

        def perhaps(*args: Any) -> None:
            if draw.random() < event.share:
                raise Irreparable("chaos")
            restore(*args)

        with mock.patch.object(driver, "restore", perhaps):
            yield

    @contextmanager
    def _drain(self, event: Event) -> Iterator[None]:
        self._pool.drain()
        yield

    @contextmanager
    def _resize(self, event: Event) -> Iterator[None]:
        self._pool.resize(max_size=1 + int(event.share * MAX_SIZE))
        yield
        self._pool.resize(max_size=MAX_SIZE)

    @contextmanager
    def _suspend(self, event: Event) -> Iterator[None]:
        self._pool.suspend()
        yield
        self._pool.resume()


@pytest.mark.stress
@pytest.mark.timeout(SECONDS * 4 + 300)
@pytest.mark.parametrize("engine", ENGINES)
def test_everything_that_is_promised_holds_whatever_goes_wrong(
    engine: str,
    make_alias: MakeAlias,  # noqa: F811 (the fixture)
    request: pytest.FixtureRequest,
    proxy: Callable[[str, int], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sys.stdout.write(f"DJPOOL_CHAOS_SEED={SEED} DJPOOL_CHAOS_SECONDS={SECONDS:g}\n")
    # Warnings go to standard error, and not to pytest, which would keep them all.
    monkeypatch.setattr(logging.getLogger("djpool"), "propagate", False)
    faulthandler.cancel_dump_traceback_later()  # a long run is no test that hangs
    started = server_of(engine, request)
    between = proxy(started.host, started.port)
    ledger = Ledger()
    with ExitStack() as stack:
        server = stack.enter_context(watched(started))
        watcher = stack.enter_context(watched(started))
        stack.callback(started.thaw)
        # Before the pool: what it learns of the server with its first connection is
        # as large when it learns it again, and must count in both cases.
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        alias = make_alias(
            engine,
            pool=engine_of(engine).pool
            | {
                "max_size": MAX_SIZE,
                "timeout": TIMEOUT,
                "check_after": 0.5,
                "check_timeout": 1,
                "max_idle": 1.5,
                "max_lifetime": 4,
            },
            HOST=between.host,
            PORT=str(between.port),
        )
        stack.enter_context(table(alias))
        chaos = Chaos(server, between, djpool.pool(alias))
        after: list[Left] = []
        for number in range(ROUNDS):
            watch = Watch(alias, watcher, between.port, MAX_SIZE, ledger.wrong)
            load = Load(alias, server, ledger, SEED + number, CALLERS)
            try:
                for event in make_plan(SEED + number, SECONDS / ROUNDS):
                    if ledger.wrong:
                        break
                    sys.stdout.write(f"{event}\n")
                    chaos.happen(event)
            finally:
                load.stop(TIMEOUT + SLACK)
                watch.stop()
            assert ledger.wrong == []
            assert watch.looks > 0
            assert ledger.longest < TIMEOUT + SLACK
            assert_capacity(alias)
            assert_rows(alias, server, ledger)
            after.append(what_is_left(alias))
        sys.stdout.write(
            f"{len(ledger.committed)} committed, {len(ledger.rolled_back)} rolled "
            f"back, {ledger.failed} failed; waited {ledger.longest:.2f} s at most; "
            f"bytes after each round: {[left.bytes for left in after]}, threads: "
            f"{[left.threads for left in after]}; {djpool.stats(alias)}\n"
        )
        for each in after[-1].memory.compare_to(after[0].memory, "lineno")[:10]:
            sys.stdout.write(f"{each}\n")
        assert len(ledger.committed) > SECONDS
        assert after[-1].bytes - after[0].bytes < MORE_MEMORY
        assert after[-1].threads <= after[0].threads


@contextmanager
def table(alias: str) -> Iterator[None]:
    """Make the table that all write into."""
    wrapper = connections[alias]
    with wrapper.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS chaos")
        cursor.execute("CREATE TABLE chaos (token BIGINT NOT NULL, part INT NOT NULL)")
        cursor.execute("CREATE INDEX chaos_token ON chaos (token)")
    wrapper.close()
    yield
    with wrapper.cursor() as cursor:
        cursor.execute("DROP TABLE chaos")
    wrapper.close()


def assert_capacity(alias: str) -> None:
    """After all of it: as many connections as ever, and each works."""
    pool = djpool.pool(alias)
    wait_until(lambda: pool.stats().in_use == 0, "every lease to have ended")
    # What was opened beside a caller may come when that has gone.
    wait_until(lambda: pool.stats().opening == 0, "every connect to have ended")
    stats = pool.stats()
    assert (stats.waiting, stats.opening) == (0, 0)
    assert stats.max_size == MAX_SIZE
    with ExitStack() as stack:
        for _ in range(MAX_SIZE):
            wrapper = connections.create_connection(alias)
            stack.callback(wrapper.close)
            # Kept open, so that the connection is not given back before the others.
            cursor = stack.enter_context(wrapper.cursor())
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        assert pool.stats().in_use == MAX_SIZE


def assert_rows(alias: str, server: Server, ledger: Ledger) -> None:
    """What was acknowledged is there, what was rolled back is not, nothing is half."""
    wrapper = connections[alias]
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT token, count(*) FROM chaos GROUP BY token")
        there = dict(cursor.fetchall())
        if server.mingled is not None:
            cursor.execute(server.mingled)
            assert cursor.fetchall() == [], "two owners wrote in one transaction"
    wrapper.close()
    assert ledger.committed - there.keys() == set(), "acknowledged, and lost"
    assert ledger.rolled_back & there.keys() == set(), "rolled back, and there"
    half = {
        token: rows for token, rows in there.items() if rows != ledger.rows.get(token)
    }
    assert half == {}, "half a transaction"


@dataclass(frozen=True)
class Left:
    """What there is when nothing goes on: memory of djpool, Django and drivers."""

    memory: tracemalloc.Snapshot
    threads: int  # without those of the proxy

    @property
    def bytes(self) -> int:
        """How much it is."""
        return sum(each.size for each in self.memory.statistics("filename"))


def what_is_left(alias: str) -> Left:
    """Wait until nothing goes on, and look."""
    wait_until(lambda: djpool.stats(alias).size == 0, "idle connections to be closed")
    gc.collect()
    files = ("*/djpool/*", "*/django/*", "*/psycopg*", "*/MySQLdb/*")
    memory = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(True, pattern) for pattern in files]
    )
    # Those of the upkeep end when they have long had nothing to do, but for two.
    wait_until(lambda: len(threads("djpool-upkeep")) <= 2, "threads to end")
    wait_until(lambda: not threads("djpool-log"), "all to be told")
    proxies = ("(_serve)", "(_pump)", "(_accept)")
    apart = [
        each for each in threads() if not each.endswith((*proxies, "djpool-upkeep"))
    ]
    sys.stdout.write(f"{apart}\n")
    return Left(memory, len(apart))


def threads(prefix: str = "") -> list[str]:
    """Return the names of threads that begin like this."""
    return [each.name for each in threading.enumerate() if each.name.startswith(prefix)]
