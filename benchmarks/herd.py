"""A herd of callers, and a pool that has no connection yet, or one slow to open.

200 threads ask at the same moment; each holds its connection for a while, once. What
counts is when the last of them was served, and how many connections that took. The
connections are dummies, and only opening and holding take time.

    python benchmarks/herd.py [--quick] [--markdown]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from types import SimpleNamespace
from typing import Any

from figures import (
    Spread,
    Table,
    Target,
    arguments,
    conditions,
    interleave,
    show,
    targets_table,
)
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from djpool.core import Driver, Pool, PoolOptions
from djpool.core.keeper import Keeper

CALLERS, SIZE = 200, 20
LEASTS = (0, 4)  # min_size: djpool's default, and psycopg_pool's
CONNECTS, HOLDS = (0.0, 0.05, 0.3, 1.0), (0.001, 0.02, 0.2)


@dataclass(frozen=True, slots=True)
class Case:
    """How long it takes to open a connection, and how long each is held; seconds."""

    connect: float
    hold: float
    least: int
    pool: str

    @property
    def name(self) -> str:
        return (
            f"connect {self.connect * 1000:g} ms, held {self.hold * 1000:g} ms, "
            f"min_size {self.least}"
        )


@dataclass(frozen=True, slots=True)
class Herd:
    """When the last of a herd was served, and with how many connections."""

    seconds: float
    opened: int


Use = Callable[[Callable[[], None]], None]


def dummies(seconds: float) -> type[Any]:
    """A class of connections that take so long to open, and counts them."""

    class Dummy:
        # psycopg_pool looks there when it takes one back; always at rest.
        pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        opened = 0

        @classmethod
        def connect(cls, *_args: Any, **_options: Any) -> Dummy:
            time.sleep(seconds)
            cls.opened += 1
            return cls()

        def commit(self) -> None: ...
        def rollback(self) -> None: ...
        def close(self) -> None: ...

    return Dummy


@contextmanager
def djpool(connection: type[Any], least: int) -> Iterator[Use]:
    def use(work: Callable[[], None]) -> None:
        lease = pool.acquire()
        work()
        lease.release()

    options = PoolOptions(min_size=least, max_size=SIZE, timeout=60)
    keeper = Keeper()
    with closing(Pool(options, Driver(connection.connect), keeper=keeper)) as pool:
        pool.begin()
        yield use


@contextmanager
def psycopg_pool(connection: type[Any], least: int) -> Iterator[Use]:
    def use(work: Callable[[], None]) -> None:
        connection = pool.getconn()
        work()
        pool.putconn(connection)

    pool = ConnectionPool(
        connection_class=connection,
        min_size=least,
        max_size=SIZE,
        timeout=60,
        open=False,
    )
    with closing(pool):
        pool.open()
        yield use


OURS, PSYCOPG = "djpool", "psycopg_pool"
POOLS = {OURS: djpool, PSYCOPG: psycopg_pool}


def measure(case: Case) -> Herd:
    """Let the herd loose, once. The pool begins at that moment, too."""
    connection, start = dummies(case.connect), threading.Event()

    def call() -> None:
        start.wait()
        use(lambda: time.sleep(case.hold))

    with ThreadPoolExecutor(CALLERS) as executor:
        calls = [executor.submit(call) for _ in range(CALLERS)]
        began = time.perf_counter()
        with POOLS[case.pool](connection, case.least) as use:
            start.set()
            for each in calls:
                each.result()
            seconds = time.perf_counter() - began
    return Herd(seconds, connection.opened)


def main() -> None:
    parser = arguments("a herd of callers and slow connects, beside psycopg_pool")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    connects = (0.05,) if options.quick else CONNECTS
    cases = [Case(*each) for each in product(connects, HOLDS, LEASTS, POOLS)]
    found = interleave(cases, rounds, measure)
    rows, targets = [], []
    for case, herds in found.items():
        if case.pool == PSYCOPG:
            continue
        theirs = found[replace(case, pool=PSYCOPG)]
        ratio = spread(herds).ratio(spread(theirs))
        rows.append(
            (
                case.name,
                f"{spread(herds).least:.2f}",
                f"{spread(theirs).least:.2f}",
                f"{ratio:.2f}",
                str(max(each.opened for each in herds)),
                str(max(each.opened for each in theirs)),
            )
        )
        targets.append(Target(case.name, "≤ 1.05", f"{ratio:.2f}", ratio <= 1.05))
    show(
        [
            Table(
                f"{CALLERS} callers at once, {SIZE} connections at most",
                ("case", OURS, PSYCOPG, "ratio", "opened", "by psycopg_pool"),
                tuple(rows),
                "Seconds until the last caller was served, the least of "
                f"{rounds} rounds; and the most connections that a round opened.",
            ),
            targets_table("seconds, of those of psycopg_pool", targets),
            conditions("psycopg", "psycopg-pool", "djpool"),
        ],
        markdown=options.markdown,
    )


def spread(herds: list[Herd]) -> Spread:
    return Spread(tuple(each.seconds for each in herds))


if __name__ == "__main__":
    main()
