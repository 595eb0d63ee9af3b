"""Tracers that put proxies around the driver's connections change nothing.

Each tracer runs in a process of its own, for what it patches stays patched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import server_database, server_of
from tests.packages.drivers import DRIVERS
from tests.packages.tracers import TRACERS

ROOT = Path(__file__).parents[2]

#: What was seen of one engine in one way.
Seen = dict[str, Any]
Told = dict[str, Seen]

CASES = [
    pytest.param(tracer, which, engine, id=f"{tracer}-{engine}-{driver}")
    for tracer in TRACERS
    if tracer != "untraced"
    for which, drivers in DRIVERS.items()
    for engine, driver in drivers.items()
]

KNOWS_ORACLE = ("opentelemetry", "newrelic")

pytestmark = pytest.mark.parametrize(("tracer", "which", "engine"), CASES)


@pytest.fixture(scope="module")
def tell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Told]:
    """Give what a tracer's process told; each process runs once."""
    made: dict[tuple[str, str], Told | BaseException] = {}

    def told(tracer: str, which: str) -> Told:
        key = tracer, which
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{tracer}-{which}")
            try:
                made[key] = run(tracer, which, request, folder)
            except BaseException as error:  # noqa: BLE001 (raised for each test)
                made[key] = error
        found = made[key]
        if isinstance(found, BaseException):
            raise found
        return found

    return told


def run(tracer: str, which: str, request: pytest.FixtureRequest, folder: Path) -> Told:
    """Run the process, and do to the servers what it asks for."""
    servers = {engine: server_of(engine, request) for engine in DRIVERS[which]}
    databases = {
        engine: {"NAME": str(folder / "database.sqlite3")}
        if server is None
        else server_database(server)
        for engine, server in servers.items()
    }
    results = folder / "results.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.packages.traced", tracer, which, str(results)],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PACKAGES_DATABASES": json.dumps(databases),
        },
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    running = {id(server): server for server in servers.values() if server is not None}
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            what, _, engine = line.strip().partition(" ")
            if what == "kill":
                servers[engine].kill_sessions()
            elif what == "restart":
                with ThreadPoolExecutor() as threads:
                    list(threads.map(lambda each: each.restart(), running.values()))
            else:
                continue  # a tracer's own words
            process.stdin.write("done\n")
            process.stdin.flush()
    assert process.returncode == 0, f"{tracer} with the {which} drivers"
    told: Told = json.loads(results.read_text())
    return told


Tell = Callable[[str, str], Told]


@pytest.fixture
def stock(tell: Tell, tracer: str, which: str, engine: str) -> Seen:
    """What the stock backend did."""
    return tell(tracer, which)[f"{engine}/stock"]


@pytest.fixture(params=["request", "transaction"])
def release(request: pytest.FixtureRequest) -> str:
    """Both modes."""
    mode: str = request.param
    return mode


@pytest.fixture
def pooled(tell: Tell, tracer: str, which: str, engine: str, release: str) -> Seen:
    """What djpool's backend did."""
    return tell(tracer, which)[f"{engine}/{release}"]


@pytest.fixture
def untraced(tell: Tell, which: str, engine: str, release: str) -> Seen:
    """What djpool's backend did without a tracer."""
    return tell("untraced", which)[f"{engine}/{release}"]


@pytest.fixture
def stock_untraced(tell: Tell, which: str, engine: str) -> Seen:
    """What the stock backend did without a tracer."""
    return tell("untraced", which)[f"{engine}/stock"]


def test_everything_is_as_untraced(pooled: Seen, untraced: Seen) -> None:
    """A transaction, an error, a killed session, a restart, and the statistics."""
    values = dict(pooled["values"])
    assert values.get("broken") is None, values["broken"]
    names = {"query", "transaction", "chunks", "error", "see", "seen", "restarted"}
    assert set(values) >= names
    for name in (set(values) | set(untraced["values"])) - {"bytes", "stats"}:
        assert values[name] == untraced["values"][name], name
    assert values["seen"] == values["see"]


def test_one_connection_is_opened_and_one_session_restored(
    pooled: Seen,
) -> None:
    """By the steps before a session is killed."""
    stats = pooled["values"]["stats"]
    assert (stats["opened_total"], stats["resets_total"]) == (1, 1)
    assert not any(stats["closed_total"].values())


def test_a_tracer_adds_no_bytes_that_it_does_not_add_to_the_stock_backend(
    stock: Seen, stock_untraced: Seen, pooled: Seen, untraced: Seen
) -> None:
    """So there is no other round trip either.

    With OpenTelemetry, Connector/Python sends trace ids. Elastic APM asks Connector for
    the database's name before each statement, and the stock backend pings once more.
    """
    added, stock_added = (
        traced["values"]["bytes"] - without["values"]["bytes"]
        for traced, without in ((pooled, untraced), (stock, stock_untraced))
    )
    assert added <= stock_added


def test_the_spans_are_those_of_the_stock_backend(
    tracer: str, engine: str, stock: Seen, pooled: Seen
) -> None:
    is_traced = not engine.startswith("oracle") or tracer in KNOWS_ORACLE
    assert bool(stock["spans"]["query"]) == is_traced
    for step in ("query", "transaction", "chunks", "error", "see", "set", "seen"):
        assert pooled["spans"][step] == stock["spans"][step], step
