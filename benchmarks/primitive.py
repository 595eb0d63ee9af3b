"""Acquire and release, and nothing else: djpool's pool beside other pools.

Dummy connections cost nothing, so what is left is the pool. Each pool has 4 of them
and its default options otherwise; djpool's statistics are on, as always.

    python benchmarks/primitive.py [--quick] [--markdown]
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import psycopg
from dbutils.pooled_db import PooledDB, PooledDedicatedDBConnection
from figures import (
    Spread,
    Table,
    Target,
    arguments,
    conditions,
    interleave,
    postgres_server,
    quantile,
    show,
    targets_table,
)
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool
from sqlalchemy.pool import QueuePool

from djpool.adapters.psycopg import adapter
from djpool.core import Driver, Lease, Pool, PoolOptions
from djpool.core.adapter import Connector

SIZE = 4
OURS, ALCHEMY, PSYCOPG = "djpool", "SQLAlchemy QueuePool", "psycopg_pool"
NATIVE = "djpool, native"


@dataclass(frozen=True, slots=True)
class Peer:
    """A pool, seen as two calls. `release` takes what `acquire` returns.

    Both are the pool's own functions: nothing of ours is measured with them.
    """

    acquire: Callable[[], Any]
    release: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many threads that acquire, hold for so many seconds, release, again."""

    threads: int
    hold: float

    @property
    def name(self) -> str:
        held = f"{self.hold * 1000:g} ms held" if self.hold else "nothing held"
        return f"{self.threads} threads, {held}"


CROWDS = (Crowd(4, 0.0), Crowd(16, 0.001), Crowd(64, 0.001), Crowd(256, 0.0))


@dataclass(frozen=True, slots=True)
class Service:
    """How a crowd was served in one round."""

    p50: float
    p99: float
    longest: float
    fairness: float  # operations of the thread that had the fewest, over the mean
    rate: float  # operations per second of all threads


# -- the pools -----------------------------------------------------------------


class Dummy:
    """A connection to nowhere, with what the pools ask of one."""

    # psycopg_pool looks there when it takes one back; always at rest.
    pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)

    @classmethod
    def connect(cls, *_args: Any, **_options: Any) -> Dummy:
        return cls()

    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


# DBUtils wants a DB-API module.
dummy_module = SimpleNamespace(
    connect=Dummy,
    threadsafety=1,
    OperationalError=OSError,
    InterfaceError=OSError,
    InternalError=OSError,
)


@contextmanager
def djpool() -> Iterator[Peer]:
    with closing(Pool(PoolOptions(max_size=SIZE), Driver(Dummy.connect))) as pool:
        yield Peer(pool.acquire, Lease.release)


@contextmanager
def sqlalchemy() -> Iterator[Peer]:
    creator: Any = Dummy
    pool = QueuePool(creator, pool_size=SIZE, max_overflow=0)
    first = pool.connect()
    first.close()
    yield Peer(pool.connect, type(first).close)
    pool.dispose()


@contextmanager
def dbutils() -> Iterator[Peer]:
    with closing(PooledDB(dummy_module, maxconnections=SIZE, blocking=True)) as pool:
        yield Peer(pool.connection, PooledDedicatedDBConnection.close)


@contextmanager
def psycopg_pool() -> Iterator[Peer]:
    with ConnectionPool(
        connection_class=Dummy,  # type: ignore[type-var]  # has what is asked of it
        min_size=SIZE,
        open=True,
    ) as pool:
        yield Peer(pool.getconn, pool.putconn)


@contextmanager
def standard_queue() -> Iterator[Peer]:
    connections: queue.Queue[Dummy] = queue.Queue()
    for _ in range(SIZE):
        connections.put(Dummy())
    yield Peer(connections.get, connections.put)


DUMMY_PEERS = {
    OURS: djpool,
    ALCHEMY: sqlalchemy,
    "DBUtils PooledDB": dbutils,
    PSYCOPG: psycopg_pool,
    "queue.Queue": standard_queue,
}


@contextmanager
def real_djpool(parameters: Mapping[str, Any], implementation: str) -> Iterator[Peer]:
    def connect(_timeout: float) -> psycopg.Connection[Any]:
        return psycopg.connect(**parameters, autocommit=True)

    options = PoolOptions(max_size=SIZE, implementation=implementation)
    driver, native = adapter.build(options, Connector(connect))
    with closing(Pool(options, driver, native)) as pool:
        yield Peer(pool.acquire, Lease.release)


@contextmanager
def real_psycopg_pool(parameters: Mapping[str, Any]) -> Iterator[Peer]:
    with ConnectionPool(
        kwargs={**parameters, "autocommit": True}, min_size=SIZE, open=True
    ) as pool:
        pool.wait()
        yield Peer(pool.getconn, pool.putconn)


# -- measuring -----------------------------------------------------------------


def warm(peer: Peer) -> None:
    """Have all connections opened."""
    held = [peer.acquire() for _ in range(SIZE)]
    for each in held:
        peer.release(each)


def alone(peer: Peer, operations: int) -> float:
    """Nanoseconds per acquire and release in one thread."""
    acquire, release = peer.acquire, peer.release
    started = time.perf_counter_ns()
    for _ in repeat(None, operations):
        release(acquire())
    return (time.perf_counter_ns() - started) / operations


def crowded(peer: Peer, crowd: Crowd, seconds: float) -> Service:
    """Have a crowd use the pool for so many seconds."""
    acquire, release, hold = peer.acquire, peer.release, crowd.hold
    clock, sleep = time.perf_counter, time.sleep
    deadline = 0.0
    waits: list[list[float]] = [[] for _ in range(crowd.threads)]
    served = [0] * crowd.threads

    def begin() -> None:
        nonlocal deadline
        deadline = clock() + seconds

    gate = threading.Barrier(crowd.threads, action=begin)

    def use(number: int) -> None:
        add = waits[number].append
        gate.wait()
        now = clock()
        while now < deadline:
            held = acquire()
            done = clock()
            if hold:
                sleep(hold)
            release(held)
            add(done - now)
            # Who was let in only because the others had gone home was not served.
            served[number] += done < deadline
            now = clock()

    threads = [
        threading.Thread(target=use, args=[number]) for number in range(crowd.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = sorted(wait for of_thread in waits for wait in of_thread)
    return Service(
        p50=quantile(every, 0.50),
        p99=quantile(every, 0.99),
        longest=every[-1],
        fairness=min(served) / statistics.mean(served),
        rate=sum(served) / seconds,
    )


# -- tables --------------------------------------------------------------------


def time_alone(
    peers: Mapping[str, Peer], *, rounds: int, operations: int
) -> dict[str, Spread]:
    found = interleave(peers, rounds, lambda name: alone(peers[name], operations))
    return {name: Spread(tuple(values)) for name, values in found.items()}


def serve(
    peers: Mapping[str, Peer], crowd: Crowd, *, rounds: int, seconds: float
) -> dict[str, Service]:
    found = interleave(peers, rounds, lambda name: crowded(peers[name], crowd, seconds))
    return {name: typical(each) for name, each in found.items()}


def alone_table(title: str, found: Mapping[str, Spread], note: str = "") -> Table:
    ours = found[OURS]
    rows = tuple(
        (
            name,
            f"{spread.least:,.0f}",
            f"{spread.median:,.0f}",
            "" if name == OURS else f"{ours.ratio(spread):.2f}",
        )
        for name, spread in found.items()
    )
    header = ("pool", "minimum, ns", "median, ns", f"{OURS} / this (minima)")
    return Table(title, header, rows, note)


def crowd_table(crowd: Crowd, found: Mapping[str, Service]) -> Table:
    rows = tuple(
        (
            name,
            _milliseconds(service.p50),
            _milliseconds(service.p99),
            _milliseconds(service.longest),
            f"{service.fairness:.2f}",
            f"{service.rate:,.0f}",
        )
        for name, service in found.items()
    )
    header = ("pool", "wait p50, ms", "p99", "max", "least / mean", "per second")
    return Table(crowd.name, header, rows)


def typical(rounds: list[Service]) -> Service:
    """Of each figure, the median of the rounds."""
    figures = zip(*map(astuple, rounds), strict=True)
    return Service(*map(statistics.median, figures))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.2f}"


def targets(
    single: Mapping[str, Spread], crowds: Mapping[Crowd, Mapping[str, Service]]
) -> Iterator[Target]:
    for peer, limit in ((ALCHEMY, 0.30), (PSYCOPG, 0.60)):
        ratio = single[OURS].ratio(single[peer])
        yield Target(
            f"one thread, time / {peer}",
            f"≤ {limit:.2f}",
            f"{ratio:.2f}",
            ratio <= limit,
        )
    held = crowds[Crowd(64, 0.001)]
    fairness = held[OURS].fairness
    yield Target(
        "64 threads, 1 ms held: least / mean",
        "≥ 0.95",
        f"{fairness:.2f}",
        fairness >= 0.95,
    )
    ours, theirs = held[OURS].p99, held[PSYCOPG].p99
    yield Target(
        f"64 threads, 1 ms held: p99 wait, ms; limit is {PSYCOPG}'s",
        f"≤ {_milliseconds(theirs)}",
        _milliseconds(ours),
        ours <= theirs,
    )
    free = crowds[Crowd(256, 0.0)]
    ours, theirs = free[OURS].rate, free[PSYCOPG].rate
    yield Target(
        f"256 threads, nothing held: per second; limit is {PSYCOPG}'s",
        f"≥ {theirs:,.0f}",
        f"{ours:,.0f}",
        ours >= theirs,
    )


def main() -> None:
    options = arguments("Acquire and release, beside other pools.").parse_args()
    quick = options.quick
    rounds, operations = (20, 300) if quick else (400, 300)
    crowd_rounds, seconds = (1, 0.3) if quick else (7, 1.5)
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server())
        parameters = server.connection_parameters()
        peers = {
            name: stack.enter_context(make()) for name, make in DUMMY_PEERS.items()
        }
        real = {
            OURS: stack.enter_context(real_djpool(parameters, "fallback")),
            NATIVE: stack.enter_context(real_djpool(parameters, "native")),
            PSYCOPG: stack.enter_context(real_psycopg_pool(parameters)),
        }
        for peer in (*peers.values(), *real.values()):
            warm(peer)
        single = time_alone(peers, rounds=rounds, operations=operations)
        single_real = time_alone(real, rounds=rounds, operations=operations)
        crowds = {
            crowd: serve(peers, crowd, rounds=crowd_rounds, seconds=seconds)
            for crowd in CROWDS
        }
    show(
        [
            conditions("psycopg-pool", "sqlalchemy", "DBUtils"),
            alone_table("One thread, dummy connections", single),
            alone_table("One thread, PostgreSQL connections", single_real),
            *(crowd_table(crowd, found) for crowd, found in crowds.items()),
            targets_table("acquire and release", targets(single, crowds)),
        ],
        markdown=options.markdown,
    )


if __name__ == "__main__":
    main()
