"""A process with open pools ends as fast as one without, and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import server_database
from tests.servers.postgres import PostgresServer

SCRIPT = """
    import sys, threading, time
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    {ending}
    sys.stdout.write(repr(time.time()))
    sys.stdout.flush()
"""

ENDINGS = {
    "lease given back": "connection.close()",
    "lease out": "",
    "in a transaction": "connection.set_autocommit(False)",
    "a module keeps a cursor": "django.kept = connection.cursor()",
    "the script keeps a cursor": "kept = connection.cursor()",
    "a thread has one": (
        "t = threading.Thread(target=lambda: (connection.copy().ensure_connection(),"
        " time.sleep(60)), daemon=True); t.start(); time.sleep(0.2)"
    ),
}


def database_of(
    engine: str, folder: Path, postgres: PostgresServer, **pool: Any
) -> dict[str, Any]:
    """The entry of DATABASES for an engine, with these options of the pool."""
    if engine == "sqlite3":
        database = {"ENGINE": "djpool.backends.sqlite3", "NAME": str(folder / "db")}
    else:
        database = {
            "ENGINE": "djpool.backends.postgresql",
            **server_database(postgres),
        }
        pool["implementation"] = engine
    return {**database, "OPTIONS": {"pool": pool}}


def execute(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, which must end well."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("engine", ["sqlite3", "native", "fallback"])
def test_exit(
    engine: str, ending: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    """psycopg_pool's own threads take 20 s of it on Python 3.13.0."""
    database = database_of(engine, tmp_path, postgres, max_size=4, min_size=2)
    run = execute(SCRIPT.format(database=database, ending=ENDINGS[ending]))
    took = time.time() - float(run.stdout)
    assert run.stderr == ""
    # Half a second is what a pool may cost; a busy machine needs more for any
    # process. psycopg_pool's threads would cost ten.
    assert took < 5


LATE = """
    import atexit, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    def query(where):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            # In one piece, as threads do not wait for each other's lines.
            sys.stdout.write(f"{{where}} {{cursor.fetchone()[0]}}\\n")
            sys.stdout.flush()
        if where != "atexit":
            connection.close()
    atexit.register(query, "atexit")
    if {early}:
        query("main")
    def late(where):
        time.sleep(0.2)
        query(where)
    threading.Thread(target=late, args=["thread"]).start()
    ThreadPoolExecutor(1).submit(late, "executor")
"""


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("engine", ["sqlite3", "native", "fallback"])
def test_queries_after_the_main_thread_s_end(
    engine: str, release: str, early: bool, tmp_path: Path, postgres: PostgresServer
) -> None:
    """Threads, jobs of an executor and atexit's functions query as with any backend.

    Perhaps for the first time in this process, when Python starts no thread any more.
    """
    database = database_of(engine, tmp_path, postgres, max_size=2, release=release)
    run = execute(LATE.format(database=database, early=early))
    said = sorted(run.stdout.split("\n"))
    assert said == sorted(
        ["", "atexit 1", "executor 1", "thread 1", *(["main 1"] if early else [])]
    )
    assert run.stderr == ""


UPKEEP = """
    import atexit, sys, threading, time
    def tell():
        names = sorted(thread.name for thread in threading.enumerate())
        sys.stdout.write(" ".join(name for name in names if "djpool" in name))
    atexit.register(tell)  # to run after djpool's own
    import django
    from django.conf import settings
    from django.db.backends.sqlite3.base import Database
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    connect, begun = Database.connect, threading.Event()
    def slow(*args, **options):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            time.sleep({seconds})
        return connect(*args, **options)
    Database.connect = slow
    connection.ensure_connection()
    connection.close()
    assert begun.wait(10)
"""


@pytest.mark.parametrize(
    ("seconds", "left"), [(0.1, ""), (60, "djpool-upkeep")], ids=["slow", "silent"]
)
def test_no_upkeep_runs_beside_the_interpreter_s_end(
    seconds: float, left: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    """Threads that run then can crash the process, and did on Python 3.11.

    What a server that does not answer keeps busy is left alone.
    """
    database = database_of("sqlite3", tmp_path, postgres, max_size=4, min_size=4)
    began = time.monotonic()
    run = execute(UPKEEP.format(database=database, seconds=seconds))
    assert run.stdout == left
    assert run.stderr == ""
    assert time.monotonic() - began < 10
