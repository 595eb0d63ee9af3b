"""Servers that import the application, query, and fork: workers share no connection."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.commands import PRELOADED, Command, gunicorn, uwsgi
from tests.acceptance.server import Shop
from tests.backends.engines import engine_of, server_database, server_of
from tests.servers import mysql, postgres
from tests.servers.process import wait_until

pytestmark = pytest.mark.acceptance

MAX_SIZE = 4
WORKERS = 2
REQUESTS = 200
# As many as there are threads: a client of uWSGI has one to itself.
CLIENTS = 8
# What the application has open when the server forks.
PRELOADED_CONNECTIONS = 2

SERVERS: dict[str, Command] = {
    "gunicorn": gunicorn(
        "gthread", PRELOADED, "--preload", "--threads=4", workers=WORKERS
    ),
    "uwsgi": uwsgi(PRELOADED, "--enable-threads", "--threads=4", workers=WORKERS),
}
# mysqlclient's finaliser speaks to the server, SQLite's lets go of the file's locks.
CASES = [
    ("gunicorn", "postgresql-native"),
    ("gunicorn", "mysql@mariadb"),
    ("gunicorn", "sqlite3"),
    ("uwsgi", "mysql@mariadb"),
    ("gunicorn", "postgresql-native+transaction"),
    ("uwsgi", "mysql+transaction@mariadb"),
]


def sessions(server: Any) -> set[int]:
    """Return the numbers of the sessions that the shop has on a server."""
    find: Any = mysql.session_ids if server.name == "mariadb" else postgres.pids
    with server.admin() as admin:
        return set(find(admin, server.user))


def workers(master: int) -> set[int]:
    """Return the processes that a master has forked."""
    children = Path(f"/proc/{master}/task/{master}/children")
    return set(map(int, children.read_text().split()))


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_workers_share_no_connection(
    name: str, engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Every request gets its own data; also when workers have ended and others come.

    The master's connections are as alive as before: nobody said farewell on them.
    """
    server = server_of(engine, request)
    database: dict[str, Any] = {
        "ENGINE": f"djpool.backends.{engine_of(engine).backend}",
        "NAME": str(tmp_path / "shop.sqlite3"),
        "OPTIONS": {"pool": {"max_size": MAX_SIZE} | engine_of(engine).pool},
    }
    if server is not None:
        database |= server_database(server)
    with Shop(database, None, SERVERS[name]) as shop:
        kept: set[int] = set()
        if server is not None:
            wait_until(
                lambda: len(sessions(server)) == PRELOADED_CONNECTIONS,
                "the master's sessions to be the only ones",
            )
            kept = sessions(server)
        for _ in range(2):
            first = workers(shop.pid)
            outcome = shop.drive(
                "/echo/?number={}", "{}\n", requests=REQUESTS, concurrency=CLIENTS
            )
            told = shop.log_since(0)
            assert (outcome.errors, outcome.answered) == ({}, REQUESTS), told
            if server is not None:
                assert kept <= (seen := sessions(server))
                assert len(seen - kept) <= MAX_SIZE * WORKERS
            for worker in first:
                os.kill(worker, signal.SIGINT)
            wait_until(
                lambda gone=first: (  # type: ignore[misc]
                    len(workers(shop.pid) - gone) == WORKERS
                    and not workers(shop.pid) & gone
                ),
                "other workers to come",
            )
        if server is not None:
            assert kept <= sessions(server)
