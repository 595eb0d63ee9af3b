"""What was kept from before a fork does not lead the child to its parent's connections.

In both modes of `release`: a Django connection that is between two statements, one with
an open cursor, that cursor, a Django cursor made anew around the driver's, a pool, and
a lease.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import ENGINES, engine_of, server_database, server_of

SCRIPT = """
    import gc, multiprocessing, os, sys
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import InterfaceError, ProgrammingError
    from django.db import connection, connections, transaction
    import djpool

    def one(wrapper, number):
        with wrapper.cursor() as cursor:
            cursor.execute(f"SELECT {{number}}{dual}")
            assert cursor.fetchone()[0] == number

    def raises(error, call):
        try:
            call()
        except error:
            return
        raise AssertionError(f"no {{error.__name__}}")

    def opened_here(wrapper):
        wrapper.ensure_connection()
        return id(wrapper.djpool_lease.connection) not in parents

    def queries():
        for wrapper in (between, connection):
            for number in range(3):
                one(wrapper, number)
            assert opened_here(wrapper)
            wrapper.close()
        raises(InterfaceError, lambda: cursor.execute("SELECT 2{dual}"))
        raises(InterfaceError, lambda: cursor.fetchone())
        raises(InterfaceError, lambda: anew.execute("SELECT 2{dual}"))
        raises(InterfaceError, lambda: list(anew))
        cursor.close()
        anew.close()
        assert (lease.connection, lease.ended) == (None, True)
        lease.release()
        lease.discard()
        raises(djpool.PoolClosed, pool.acquire)
        stats = pool.stats()
        assert (stats.size, stats.in_use, stats.idle) == (0, 0, 0), stats
        pool.drain()
        pool.close()
        assert djpool.pool() is not pool
        assert djpool.stats("default").opened_total <= 2
        djpool.close_all()
        gc.collect()

    def of_a_worker(number):
        one(between, number)
        one(connection, number)
        assert opened_here(between) and opened_here(connection)
        return number, os.getpid()

    # They have queried, and remember where their connections came from.
    between = connection.copy()
    one(between, 1)
    one(connection, 2)
    if {early}:
        assert between.djpool_lease is None
    cursor = connection.cursor()
    cursor.execute("SELECT 1{dual}")
    anew = type(cursor)(cursor.cursor, connection)
    pool = djpool.pool()
    lease = pool.acquire()
    # Django connections keep their address; those of a child are made after the fork,
    # while all of these are alive.
    parents = {{id(entry.connection) for entry in pool._connections.books}}
    assert len(parents) >= 2

    for finalise in (True, False):
        child = os.fork()
        if not child:
            queries()
            if finalise:
                sys.exit()
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
    with multiprocessing.get_context("fork").Pool(2) as workers:
        done = workers.map(of_a_worker, range(20), chunksize=1)
    assert [number for number, _pid in done] == list(range(20))

    # An atomic block goes on in the parent. In the child nothing that is done in it
    # would be one transaction, and so nothing is done.
    connection.close()
    child = None
    try:
        with transaction.atomic():
            one(connection, 3)
            child = os.fork()
            if not child:
                raises(ProgrammingError, lambda: one(connection, 4))
                raises(ProgrammingError, connection.ensure_connection)
                with transaction.atomic():
                    one(connection, 4)
            one(connection, 4)
    except ProgrammingError:
        if not child:
            one(connection, 5)  # the block is over
            os._exit(3)
        raise
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3, status
    cursor = connection.cursor()
    cursor.execute("SELECT 1{dual}")

    # The parent has not noticed.
    assert cursor.fetchone()[0] == 1
    one(connection, 5)
    one(between, 6)
    assert lease.connection is not None
    lease.release()
    cursor.close()
    anew.close()
    connections.close_all()
    between.close()
    stats = djpool.stats("default")
    assert djpool.pool() is pool
    assert stats.opened_total == 3, stats
    assert stats.in_use == 0, stats
    assert stats.check_failures_total == 0, stats
    print("fine")
"""


@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("engine", ENGINES)
def test_handles(
    engine: str, release: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = server_of(engine, request)
    options = {"max_size": 4, "release": release} | engine_of(engine).pool
    database: dict[str, Any] = {
        "ENGINE": f"djpool.backends.{engine_of(engine).backend}",
        "NAME": str(tmp_path / "database.sqlite3"),
        "OPTIONS": {"pool": options},
    }
    if server is not None:
        database |= server_database(server)
    script = textwrap.dedent(SCRIPT).format(
        database=database,
        dual=" FROM DUAL" if engine.startswith("oracle") else "",
        early=release == "transaction",
    )
    run = subprocess.run(
        # Python 3.12 warns of forks in a process with threads, of which ours has some.
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (0, "fine\n"), run.stderr
    assert run.stderr == ""
