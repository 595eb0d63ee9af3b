"""`manage.py poolstats` beside real workers with real pools on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.projects import make_project, manage, start
from tests.servers.postgres import PostgresServer

# Leases some connections, says so, and waits to be told to end.
WORKER = """
    import sys
    import django
    django.setup()
    from django.db import connections
    held = [connections.create_connection("default") for _ in range(int(sys.argv[1]))]
    for wrapper in held:
        wrapper.ensure_connection()
    connections["cache"].ensure_connection()
    connections["cache"].close()
    print("ready", flush=True)
    sys.stdin.read()
    for wrapper in held:
        wrapper.close()
"""


@pytest.fixture
def project(tmp_path: Path, postgres: PostgresServer) -> dict[str, str]:
    """The environment of a project's processes."""
    return make_project(tmp_path, postgres)


@pytest.fixture
def workers(project: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Two workers, with one and with two connections in use."""
    started = [start(project, WORKER, str(count)) for count in (1, 2)]
    yield started
    for worker in started:
        worker.communicate(timeout=30)


def poolstats(
    project: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as an administrator does."""
    return manage(project, "poolstats", *arguments)


def test_the_running_workers_are_shown_and_what_the_server_says(
    project: dict[str, str], workers: list[subprocess.Popen[str]]
) -> None:
    told: dict[str, Any] = json.loads(poolstats(project, "--format", "json").stdout)
    by_pid = {process["pid"]: process["pools"] for process in told["processes"]}
    assert set(by_pid) == {worker.pid for worker in workers}
    in_use = [by_pid[worker.pid]["default"]["in_use"] for worker in workers]
    assert in_use == [1, 2]
    assert told["totals"]["default"]["in_use"] == 3
    assert told["totals"]["default"]["max_size"] == 8
    assert told["totals"]["cache"]["idle"] == 2
    assert told["server"]["default"]["connections"] >= 3
    assert told["server"]["default"]["max_connections"] == 100
    assert told["server"]["cache"] is None
    assert told["notes"] == []


def test_the_table_has_a_row_for_each_worker_and_alias(
    project: dict[str, str], workers: list[subprocess.Popen[str]]
) -> None:
    done = poolstats(project)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [str(workers[0].pid), "default", "native", "1/4"] in [
        row[:4] for row in rows
    ]
    assert [str(workers[1].pid), "default", "native", "2/4"] in [
        row[:4] for row in rows
    ]
    assert ["all", "default", "native", "3/8"] in [row[:4] for row in rows]
    assert "of at most 100" in done.stdout


def test_a_full_pool_can_be_an_exit_status(
    project: dict[str, str], workers: list[subprocess.Popen[str]]
) -> None:
    assert poolstats(project, "--fail-above", "50").returncode == 0
    done = poolstats(project, "--fail-above", "49")
    assert done.returncode == 1
    assert f"default of process {workers[1].pid}: 2 of 4 in use" in done.stderr


def test_a_killed_worker_is_gone(
    project: dict[str, str], workers: list[subprocess.Popen[str]]
) -> None:
    workers[0].kill()
    workers[0].wait()
    told = json.loads(poolstats(project, "--format", "json").stdout)
    assert [process["pid"] for process in told["processes"]] == [workers[1].pid]
    assert told["notes"] == []


def test_an_application_whose_folder_cannot_be_written_goes_on(
    project: dict[str, str], tmp_path: Path
) -> None:
    """It says once what is wrong and where."""
    blocked = tmp_path / "a file"
    blocked.touch()
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORKER), "1"],
        env=project | {"DJPOOL_STATS_DIR": str(blocked)},
        text=True,
        capture_output=True,
        input="",
        check=True,
        timeout=60,
    )
    assert run.stdout == "ready\n"
    assert run.stderr.count(str(blocked)) == 1
    assert "poolstats" in run.stderr
