"""Fixtures for all tests: the servers, started when first asked for."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.mariadb import MariaDBServer
    from tests.servers.mysql import MySQLServer
    from tests.servers.oracle import OracleServer
    from tests.servers.pgbouncer import PgBouncer


# What costs much, and is about other programs or drivers: see the marker "once".
ONCE = (
    "acceptance/test_gevent.py",
    "acceptance/test_preload.py",
    "acceptance/test_servers.py",
    "backends/test_fork.py",
    "backends/test_fork_handles.py",
    "backends/test_handlers.py",
    "backends/test_other_drivers.py",
    "backends/test_outages.py",
    "backends/test_sessions.py",
    "backends/test_unseen_transactions.py",
    "chaos/",
    "interruption/",
    "test_databases/",
    "workers/",
)


# What takes many minutes, and is run by hand: with DJPOOL_INTERRUPTED=600, say.
BY_HAND = ("interruption/test_calls.py", "interruption/test_threads.py")


# What needs packages that have an environment of their own: see tox.ini.
PACKAGES = Path(__file__).parent / "packages"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave that out, unless it is asked for."""
    here = Path(__file__).parent
    if collection_path == PACKAGES:
        named = (Path(name.partition("::")[0]).resolve() for name in config.args)
        return not any(path.is_relative_to(PACKAGES) for path in named) or None
    if "DJPOOL_INTERRUPTED" in os.environ or not collection_path.is_relative_to(here):
        return None
    return collection_path.relative_to(here).as_posix() in BY_HAND or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(ONCE):
            item.add_marker(pytest.mark.once)


@pytest.fixture(scope="session", autouse=True)
def _stats_folder() -> Iterator[None]:
    """Let what runs here, and what it starts, publish where nobody else looks."""
    with tempfile.TemporaryDirectory(prefix="djpool-tests-") as folder:
        os.environ["DJPOOL_STATS_DIR"] = folder
        yield
        del os.environ["DJPOOL_STATS_DIR"]


class MakeProxy(Protocol):
    """What the `proxy` fixture gives."""

    def __call__(self, host: str, port: int) -> Proxy:
        """Put a proxy in front of a server; it is closed after the test."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give the tests' PostgreSQL, running. Who stops it starts it again."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """Give a PgBouncer in transaction mode before the tests' PostgreSQL, running."""
    from tests.servers.pgbouncer import PgBouncer

    with PgBouncer(postgres) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """Give the tests' MariaDB, running. Who stops it starts it again."""
    from tests.servers.mariadb import MariaDBServer

    with MariaDBServer() as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[MySQLServer]:
    """Give the tests' MySQL, running. Who stops it starts it again."""
    from tests.servers.mysql import MySQLServer

    with MySQLServer() as server:
        yield server


@pytest.fixture(scope="session")
def oracle() -> Iterator[OracleServer]:
    """Give the tests' Oracle Database, running. Who stops it starts it again."""
    from tests.servers.oracle import OracleServer

    with OracleServer() as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[MakeProxy]:
    """Give `proxy(host, port)`, which puts a proxy in front of a server."""
    with ExitStack() as proxies:
        yield lambda host, port: proxies.enter_context(Proxy(host, port))
