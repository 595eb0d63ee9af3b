"""gevent, and eventlet: greenlets in place of threads.

Under gunicorn's gevent worker with load from outside, and from within a process: see
`greenlets`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.commands import WSGI, gunicorn
from tests.acceptance.server import Shop, postgres_count, postgres_settings
from tests.acceptance.shop import ITEMS
from tests.backends.engines import engine_of, server_database, server_of

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.acceptance

MAX_SIZE = 4
CLIENTS = 32
REQUESTS = 64

VIEWS = {
    "/sync/": f"{ITEMS}\n",
    "/atomic/": f"{ITEMS}\n",
    "/sync_stream/": f"{ITEMS}\n" * 2,
}


@pytest.mark.parametrize("implementation", ["native", "fallback"])
def test_gunicorn_s_gevent_worker(
    implementation: str, postgres: PostgresServer
) -> None:
    """Bounded, no error, nothing left; also of clients that hang up."""
    settings = postgres_settings(postgres) | {"ENGINE": "djpool.backends.postgresql"}
    settings["OPTIONS"]["pool"] = {
        "max_size": MAX_SIZE,
        "implementation": implementation,
    }
    command = gunicorn("gevent", WSGI)
    with Shop(settings, postgres_count(postgres), command) as shop:
        for view, right in VIEWS.items():
            with shop.watched() as watch:
                outcome = shop.drive(
                    f"{view}?pause=0.001", right, requests=REQUESTS, concurrency=CLIENTS
                )
                gone = shop.hang_up(
                    f"{view}?pause=0.01", right, requests=REQUESTS, concurrency=CLIENTS
                )
                shop.wait_until_at_rest()
            assert (outcome.errors, outcome.answered) == ({}, REQUESTS), view
            assert (gone.errors, gone.hung_up) == ({}, REQUESTS), view
            assert 1 <= watch.most <= MAX_SIZE, view
        stats = shop.stats()
        # Greenlets do wait for each other here: it is no worker that blocks.
        assert stats.waited_total > 0
        assert stats.reclaimed_total == stats.timeouts_total == 0


@pytest.mark.parametrize(
    ("library", "engine"),
    [
        ("gevent", "postgresql-native"),
        ("gevent", "postgresql-fallback"),
        ("gevent", "mysql@mariadb"),
        ("eventlet", "postgresql-native"),
    ],
)
def test_greenlets(library: str, engine: str, request: pytest.FixtureRequest) -> None:
    """They wait in order, are interrupted anywhere, end without a word, and fork."""
    database: dict[str, Any] = {
        "ENGINE": f"djpool.backends.{engine_of(engine).backend}",
        "OPTIONS": {"pool": {"max_size": 3} | engine_of(engine).pool},
        **server_database(server_of(engine, request)),
    }
    # eventlet warns of itself: it is deprecated.
    command = [sys.executable, "-W", "ignore", "-m", "tests.acceptance.greenlets"]
    run = subprocess.run(
        [*command, library, json.dumps(database)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (0, "fine\n"), run.stderr
