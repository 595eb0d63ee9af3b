"""An exception of a signal's handler loses no place and adds no connection, anywhere.

As in tests/backends/test_interrupted.py, on every engine, and with the drivers' own
pools: the exception also strikes in their files. It is kept until the end, and with it
the frames that it went through, with all that they refer to.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import oracledb
import psycopg_pool
import pytest
from django.core.signals import request_finished, request_started
from django.db import connections, transaction
from mysql.connector.pooling import MySQLConnectionPool

import djpool
from djpool.core.lease import Lease
from djpool.core.pool import Pool
from djpool.core.session import Change
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.kinds import run
from tests.interruption.places import count_places, interrupted
from tests.interruption.requests import FILES, count_sockets

DJPOOL = str(Path(djpool.__file__).parent)
MAX_SIZE = 2
# Seconds until what is on its way must be back.
PATIENCE = 5.0
# Places to strike at in each case, evenly spread over those that there are. All of them
# take long: DJPOOL_INTERRUPTED=100000.
PLACES = int(os.environ.get("DJPOOL_INTERRUPTED", "8"))


def find_files() -> tuple[str, ...]:
    """Return how the names of those files begin in which exceptions strike."""
    return (
        DJPOOL,
        str(Path(psycopg_pool.__file__).parent),
        inspect.getfile(oracledb.ConnectionPool),
        inspect.getfile(MySQLConnectionPool),
    )


def ask(alias: str) -> None:
    """Query."""
    wrapper = connections[alias]
    suffix = wrapper.features.bare_select_suffix
    assert run(wrapper, f"SELECT 1{suffix}") == [(1,)]


def open_one(alias: str) -> None:
    """Query for the first time, and end the request."""
    ask(alias)
    connections[alias].close_if_unusable_or_obsolete()


def in_requests(alias: str) -> None:
    """Query in a request, and in its thread after that."""
    request_started.send(sender=None, environ={"PATH_INFO": "/"})
    ask(alias)
    request_finished.send(sender=None)


def in_a_block(alias: str) -> None:
    """Have a transaction."""
    with transaction.atomic(using=alias):
        ask(alias)
    connections[alias].close_if_unusable_or_obsolete()


def anew(alias: str) -> None:
    """Replace the connection, and query."""
    djpool.pool(alias).drain()
    ask(alias)
    connections[alias].close_if_unusable_or_obsolete()


def after_a_change(alias: str) -> None:
    """Leave a session that is to be restored."""
    ask(alias)
    wrapper: Any = connections[alias]
    wrapper.djpool_changed(Change.SETTINGS)
    connections[alias].close_if_unusable_or_obsolete()


def upkeep(alias: str) -> None:
    """Look after the pool, which has something to close and something to open."""
    pool = djpool.pool(alias)
    pool.drain()
    pool.maintain()


Use = Callable[[str], None]
# What is interrupted, and whether there was a connection before.
USES: list[tuple[Use, bool]] = [
    (open_one, False),
    (open_one, True),
    (in_requests, False),
    (in_a_block, True),
    (anew, True),
    (after_a_change, True),
    (upkeep, True),
]


def name_of(value: Any) -> str:
    """Return a parameter's name."""
    return str(getattr(value, "__name__", "idle" if value else "none"))


@pytest.fixture
def other_thread() -> Iterator[ThreadPoolExecutor]:
    """Give a thread that leases beside the test's."""
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.mark.skipif(not FILES.is_dir(), reason="nobody can count what is open")
@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize(("use", "warm"), USES, ids=name_of)
def test_no_place_is_lost(  # noqa: PLR0917 (fixtures)
    use: Use,
    warm: bool,
    release: str,
    engine: str,
    make_alias: MakeAlias,
    other_thread: ThreadPoolExecutor,
) -> None:
    """All connections can be had again, and there is no other one."""
    files = find_files()
    # What the upkeep is to open again.
    options = {"max_size": MAX_SIZE, "min_size": int(use is upkeep)}

    places = 0
    kept: list[BaseException] = []
    failed: list[str] = []

    def attempt(at: int) -> None:
        nonlocal places
        alias = pooled(engine, make_alias, release=release, timeout=5, **options)
        before = open_ones(alias)
        if warm:
            open_one(alias)
        if not at:
            places = count_places(functools.partial(use, alias), files)
        elif (
            error := interrupted(functools.partial(use, alias), at, files)
        ) is not None:
            kept.append(error)
        try:
            request_finished.send(sender=None)
            assert_all_can_be_had(alias, other_thread, before)
        except (AssertionError, djpool.PoolError) as failure:
            failed.append(f"{kept[-1:]}: {failure}".partition("\nassert")[0])
        finally:
            connections[alias].close()
            del connections[alias]
            djpool.pool(alias).close()

    attempt(0)  # strikes nowhere, and counts the places
    for at in spread(places, PLACES, first=len(release)):
        attempt(at)
    assert not failed, "\n".join([f"{len(failed)} of {len(kept)}", *failed])
    assert kept


def spread(places: int, count: int, first: int) -> Iterator[int]:
    """Give so many of the places 1 to `places`, or all, at even distances."""
    step = max(places / count, 1.0)
    start = first % step
    while start < places:
        yield int(start) + 1
        start += step


def assert_all_can_be_had(
    alias: str, other_thread: ThreadPoolExecutor, before: int
) -> None:
    """Fail unless the pool has as much room as in the beginning. Closes it.

    There were `before` connections to the same database when it was made.
    """
    pool = djpool.pool(alias)
    pool.maintain()
    deadline = time.monotonic() + PATIENCE
    while is_moving(pool):
        assert time.monotonic() < deadline, "a place is lost"
        time.sleep(0.001)
    assert open_ones(alias) - before <= MAX_SIZE, "more than max_size are open"
    others: list[Lease] = []
    try:
        with transaction.atomic(using=alias):
            ask(alias)
            raw = raw_of(connections[alias])
            others += other_thread.submit(lease_rest, pool).result()
            leased = {raw, *(lease.connection for lease in others)}
            assert len(leased) == MAX_SIZE, "a place is lost"
            assert leased == {entry.connection for entry in pool.connections.books}
            assert open_ones(alias) - before == MAX_SIZE, "more are open than leased"
            with pytest.raises(djpool.PoolTimeout):
                pool.acquire(timeout=0)
    finally:
        for lease in others:
            lease.release()
        connections[alias].close()
    stats = pool.stats()
    assert (stats.size, stats.idle) == (MAX_SIZE, MAX_SIZE), "the books are wrong"
    pool.close()
    assert (pool.stats().size, len(pool.connections.books)) == (0, 0)
    assert open_ones(alias) == before, "one stays open"


def lease_rest(pool: Pool) -> list[Lease]:
    """Lease all but one of the connections."""
    return [pool.acquire(timeout=2) for _ in range(MAX_SIZE - 1)]


def is_moving(pool: Pool) -> bool:
    """Return True if the pool has a connection that is neither idle nor to be had."""
    stats = pool.stats()
    return stats.in_use + stats.opening > 0


def open_ones(alias: str) -> int:
    """Return how many connections this process has to the database of an alias."""
    described = connections.settings[alias]
    if "sqlite3" not in described["ENGINE"]:
        sockets = count_sockets(described["HOST"], int(described["PORT"]))
        assert sockets is not None
        return sockets
    name = str(described["NAME"])
    return sum(os.path.realpath(each) == name for each in FILES.iterdir())
