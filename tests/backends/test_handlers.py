"""A signal's handler, and the garbage collector, come at any moment and find no lock.

A handler runs in the main thread between any two calls of Python's, also while djpool
counts. So each case is a process of its own, whose handler queries on SQLite, where the
stock backend lets it do so at any time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SECONDS = 4

START = """
    import faulthandler, gc, logging, os, random, signal, threading, time
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {{
        "ENGINE": "djpool.backends.sqlite3",
        "NAME": {name!r},
        "OPTIONS": {{"pool": {pool!r}}},
    }}}})
    django.setup()
    from django.db import connection
    import djpool

    def run(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()

    def whole():
        connection.close()
        end = time.monotonic() + 10
        while djpool.stats("default").in_use and time.monotonic() < end:
            time.sleep(0.01)
        leases = [djpool.pool().acquire(timeout=5) for _ in range({pool!r}["max_size"])]
        for lease in leases:
            lease.release()
        stats = djpool.stats("default")
        assert stats.size == stats.idle <= stats.max_size, stats
        assert stats.timeouts_total == 0, stats

    faulthandler.dump_traceback_later(60, exit=True)
    run("SELECT 1")
    began = time.perf_counter()
    for _ in range(100):
        run("SELECT 1")
        connection.close()
    span = (time.perf_counter() - began) / 100
    end = time.monotonic() + {seconds}
"""

HANDLER = """
    done, errors = [0, 0], []

    def handler(*_args):
        try:
            run("SELECT 1")
            done[0] += 1
        except Exception as error:
            errors.append(repr(error))

    signal.signal(signal.SIGALRM, handler)
    while time.monotonic() < end:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, span))
        try:
            run({statement!r})
            connection.close()
        except Exception as error:
            errors.append(repr(error))
        done[1] += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert not errors, (len(errors), errors[:3])
    assert min(done) > 100, done
    whole()
"""

# An iteration that was forgotten in a cycle, as an exception leaves one.
COLLECTOR = """
    stop, served, errors = threading.Event(), [0], []

    def rows():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
            for row in cursor:
                yield row

    def forget():
        generator = rows()
        next(generator)
        cycle = [generator]
        cycle.append(cycle)

    def other():
        try:
            while not stop.is_set():
                assert run("SELECT 42") == (42,)
                connection.close()
                served[0] += 1
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    calls = 0
    while time.monotonic() < end:
        gc.disable()
        forget()
        # The next collection is due somewhere in what follows.
        gc.set_threshold(gc.get_count()[0] + random.randint(1, 80))
        gc.enable()
        djpool.stats("default")
        run("SELECT 1")
        if calls % 3 == 0:
            connection.close()
        gc.set_threshold(2000)
        calls += 1
    gc.collect()
    connection.close()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not errors, errors
    assert calls > 100 and served[0] > 100, (calls, served)
    whole()
"""


def run(script: str, tmp_path: Path, statement: str = "", **pool: object) -> None:
    text = textwrap.dedent(START + script + '\n    print("fine")\n')
    pool = {"timeout": 20, **pool}
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c"),
            text.format(
                name=str(tmp_path / "database.sqlite3"),
                pool=pool,
                seconds=SECONDS,
                statement=statement,
            ),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("check", ["auto", True])
@pytest.mark.parametrize("statement", ["SELECT 1", "PRAGMA foreign_keys=ON"])
def test_a_handler_that_queries(
    statement: str, check: object, release: str, tmp_path: Path
) -> None:
    """It always gets its answer, and so does what it interrupts."""
    run(HANDLER, tmp_path, statement, max_size=3, release=release, check=check)


@pytest.mark.parametrize(
    ("max_size", "release"), [(3, "request"), (3, "transaction"), (1, "transaction")]
)
def test_the_collector(max_size: int, release: str, tmp_path: Path) -> None:
    """It ends leases from inside djpool's own critical sections, and waits for none."""
    run(COLLECTOR, tmp_path, max_size=max_size, release=release)
