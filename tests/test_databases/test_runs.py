"""A project's tests pass, and leave no database, connection or thread behind.

Each run is a process of its own, as `manage.py test` or `pytest` is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import (
    CONNECTOR,
    MYSQL,
    POSTGRESQL,
    engine_of,
    server_database,
    server_of,
)
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until

NAME = "tests.test_databases.project"
CASES = Path(__file__).parent / "project" / "cases.py"
DJANGO = ["-m", "tests.test_databases.command", "test", "--noinput", f"{NAME}.cases"]
# Of pytest's settings only what a project has: nothing of this repository's.
PYTEST_INI = """
[pytest]
addopts = -p django -p xdist -p no:cacheprovider --noconftest
markers = fresh
"""
WARNINGS = [
    *("-W", "error::ResourceWarning"),
    # Python 3.12 says so of every process that has threads, as pools have.
    *("-W", "ignore:This process (pid=:DeprecationWarning"),
]
# What nobody wants to read at the end of their tests.
UNWELCOME = ["accessed by other users", "Traceback", "Exception ignored", "Warning"]


class Project:
    """The project on one engine; runs its tests and looks at what is left."""

    def __init__(self, engine: str, server: Any, folder: Path) -> None:
        self._server = server
        self._folder = folder
        parts = engine_of(engine)
        database: dict[str, Any] = {
            "ENGINE": f"djpool.backends.{parts.backend}",
            "OPTIONS": {"pool": {"max_size": 5, "timeout": 20, **parts.pool}},
        }
        if server is None:
            # A file, because a database in memory is not pooled.
            database["TEST"] = {"NAME": str(folder / "test_djpool")}
        else:
            database |= server_database(server)
        self._database = json.dumps(database)
        self._ini = folder / "pytest.ini"
        self._ini.write_text(PYTEST_INI)

    def django(self, *options: str) -> None:
        """Run the tests with Django's test runner."""
        self._run([*DJANGO, *options])

    def pytest(self, *options: str) -> None:
        """Run the tests with pytest-django."""
        settings = [
            "-c",
            self._ini,
            f"--rootdir={self._folder}",
            f"--ds={NAME}.settings",
        ]
        self._run(["-m", "pytest", "-q", *settings, *options, CASES])

    def _run(self, command: list[Any]) -> None:
        done = subprocess.run(
            [sys.executable, *WARNINGS, *command],
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": f"{NAME}.settings",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "DJPOOL_TESTED_DATABASE": self._database,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        assert not [each for each in UNWELCOME if each in done.stdout], done.stdout
        if self._server is not None:
            wait_until(lambda: self._server.sessions() == 0, "the connections to end")

    def databases(self) -> list[str]:
        """The test databases that there are."""
        if self._server is None:
            return [path.name for path in self._folder.glob("test_*")]
        if isinstance(self._server, PostgresServer):
            query = "SELECT datname FROM pg_database WHERE datname LIKE 'test_%'"
            with self._server.admin() as postgres:
                return [name for (name,) in postgres.execute(query)]
        with self._server.admin() as admin, admin.cursor() as cursor:
            cursor.execute(r"SHOW DATABASES LIKE 'test\_%'")
            return [name for (name,) in cursor]


# Those whose databases are real; Oracle's only answers what a pool asks.
@pytest.fixture(params=["sqlite3", *POSTGRESQL, *MYSQL, *CONNECTOR])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """The project, on each engine."""
    return Project(request.param, server_of(request.param, request), tmp_path)


def test_django_s_runner(project: Project) -> None:
    """What `--keepdb` keeps serves the next run, and a run without it drops it."""
    project.django("--keepdb")
    assert project.databases() == ["test_djpool"]
    project.django("--keepdb", "--exclude-tag=fresh")
    assert project.databases() == ["test_djpool"]
    project.django()
    assert project.databases() == []


def test_django_s_runner_in_parallel(project: Project) -> None:
    """The databases are cloned, which PostgreSQL refuses while anybody is in them."""
    project.django("--parallel=2")
    assert project.databases() == []


def test_pytest_django(project: Project) -> None:
    project.pytest()
    assert project.databases() == []


def test_pytest_xdist(project: Project) -> None:
    """Each worker makes a database of its own."""
    project.pytest("-n2")
    assert project.databases() == []
