"""Where no thread can be started, every query goes on as without a pool.

A process may have as many threads as it is allowed (`ulimit -u`, a container's limit of
pids), and one that comes to its end starts none.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from django.db import connections, transaction

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES
from tests.backends.kinds import run
from tests.backends.test_exit import database_of, execute
from tests.servers.postgres import PostgresServer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_queries_go_on_without_threads(
    engine: str, release: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with them, as soon as there can be some."""
    start, here = threading.Thread.start, threading.current_thread()

    def refuse(thread: threading.Thread) -> None:
        if threading.current_thread() is not here:
            start(thread)  # for the server in this process that stands in for Oracle
            return
        raise RuntimeError("can't start new thread")

    alias = pooled(engine, make_alias, max_size=2, release=release, min_size=1)
    wrapper = connections[alias]
    select = "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"

    def work() -> None:
        run(wrapper, select)
        with transaction.atomic(alias):
            run(wrapper, select)
        wrapper.close()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            work()
    figures = djpool.stats(alias)
    assert (figures.opened_total, figures.in_use, figures.idle) == (1, 0, 1)
    djpool.pool(alias).resize(min_size=2)
    wait_until(lambda: djpool.stats(alias).idle == 2, "the upkeep to begin")
    work()


SCRIPT = """
    import threading, time
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    from djpool import channel
    start = threading.Thread.start
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    connection.ensure_connection()
    assert channel.publisher.path is None
    threading.Thread.start = start
    connection.copy().ensure_connection()
    end = time.monotonic() + 10
    while channel.publisher.path is None and time.monotonic() < end:
        time.sleep(0.01)
    print(channel.publisher.path is not None)
"""


def test_poolstats_finds_the_process_as_soon_as_there_can_be_threads(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """One warning tells of the upkeep, and one of the monitor."""
    database = database_of("sqlite3", tmp_path, postgres, max_size=2)
    run = execute(SCRIPT.format(database=database))
    assert run.stdout == "True\n"
    assert run.stderr.count("can't start new thread") == 2
