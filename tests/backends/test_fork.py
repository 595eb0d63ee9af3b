"""A forked child leaves its parent's connections alone, and opens its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import ENGINES, engine_of, server_database, server_of

# The parent has a connection in use and one that is idle, and says after each child
# that both live, and that neither was opened again.
SCRIPT = """
    import gc, os, sys
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection, connections, transaction
    import djpool

    def one(wrapper, number):
        with wrapper.cursor() as cursor:
            cursor.execute(f"SELECT {{number}}{dual}")
            assert cursor.fetchone()[0] == number

    def raw():
        # Not by `connection.connection`, which counts as a change of the session.
        lease = connection.djpool_lease
        return None if lease is None else lease.connection

    def queries():
        inherited = raw()
        for _ in range(3):
            one(connection, 3)
            assert raw() is not inherited
            connection.close()
            one(other, 4)
            other.close()
            gc.collect()
        assert djpool.stats("default").opened_total == 1

    def does_nothing():
        pass

    def closes_everything():
        connections.close_all()
        djpool.close_all()
        gc.collect()

    def forks_again():
        one(connection, 3)
        kept = raw()
        run(queries, finalise=True)
        one(connection, 3)
        assert raw() is kept
        connection.close()

    def run(case, finalise):
        child = os.fork()
        if not child:
            case()
            if finalise:
                sys.exit()
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, (case, status)

    other = connection.copy()
    one(connection, 1)
    one(other, 2)
    other.close()
    for case in (queries, does_nothing, closes_everything, forks_again):
        for finalise in (True, False):
            kept = raw()
            run(case, finalise)
            assert raw() is kept
            one(connection, 5)
            connection.close()
            for wrapper in (other, connection):
                one(wrapper, 7)
            other.close()

    # In a transaction, with a cursor that is not read to its end.
    def ends_the_transaction():
        cursor.close()
        connection.close()
        one(connection, 3)

    transaction.set_autocommit(False)
    cursor = connection.cursor()
    cursor.execute("SELECT 1{dual}")
    run(ends_the_transaction, finalise=True)
    assert cursor.fetchone()[0] == 1
    transaction.rollback()
    transaction.set_autocommit(True)
    one(connection, 8)

    stats = djpool.stats("default")
    assert stats.opened_total == 2, stats
    assert stats.check_failures_total == 0, stats
    print("fine")
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_fork(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = server_of(engine, request)
    database: dict[str, Any] = {
        "ENGINE": f"djpool.backends.{engine_of(engine).backend}",
        "NAME": str(tmp_path / "database.sqlite3"),
        "OPTIONS": {"pool": {"max_size": 4} | engine_of(engine).pool},
    }
    if server is not None:
        database |= server_database(server)
    script = textwrap.dedent(SCRIPT).format(
        database=database, dual=" FROM DUAL" if engine.startswith("oracle") else ""
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
