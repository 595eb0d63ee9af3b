"""A clean request costs its own statements, and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import SERVERS, engine_of, server_of
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy


@pytest.fixture(params=SERVERS)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine that speaks to a server."""
    name: str = request.param
    return name


@pytest.fixture
def server(engine: str, request: pytest.FixtureRequest) -> Any:
    """The engine's server."""
    return server_of(engine, request)


@pytest.fixture
def middle(
    engine: str,
    make_alias: MakeAlias,
    server: Any,
    proxy: Callable[[str, int], Proxy],
) -> Iterator[tuple[str, Proxy]]:
    """An alias, and the proxy that all it says goes through."""
    between = proxy(server.host, server.port)
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"max_size": 2},
        HOST=between.host,
        PORT=str(between.port),
    )
    yield alias, between
    djpool.close_all()


def statements(log: str) -> list[str]:
    """The lines of a server's log that tell of a statement."""
    return [line for line in log.splitlines() if STATEMENT.search(line)]


# PostgreSQL's and MySQL's.
STATEMENT = re.compile(r"(?:statement|execute)\b.*:|\b(?:Query|Prepare|Execute)\t")


def bytes_of(between: Proxy) -> int:
    """How much went either way so far."""
    return between.bytes_to_server + between.bytes_to_client


def request(alias: str, statements: int = 1, *, new: bool = True) -> None:
    """A request of Django's, on a Django connection of its own as under ASGI."""
    wrapper = connections.create_connection(alias) if new else connections[alias]
    request_started.send(sender=None)
    for _ in range(statements):
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 'mine'")
            cursor.fetchone()
    request_finished.send(sender=None)
    wrapper.close()


@pytest.mark.parametrize("new", [True, False], ids=["new", "same"])
def test_a_clean_request_says_its_own_statement_to_the_server(
    middle: tuple[str, Proxy], server: Any, new: bool
) -> None:
    alias, between = middle
    request(alias, new=new)
    mark, before = server.mark(), bytes_of(between)
    for _ in range(10):
        request(alias, new=new)
    spoken = bytes_of(between) - before
    wait_until(lambda: len(statements(server.log_since(mark))) >= 10, "the log")
    logged = statements(server.log_since(mark))
    assert len(logged) == 10
    assert all("SELECT 'mine'" in line for line in logged)
    # Nothing that a log does not show: ten statements weigh ten times one.
    single = bytes_of(between)
    request(alias, new=new)
    assert spoken == 10 * (bytes_of(between) - single)


def test_getting_and_giving_back_says_nothing_at_all(
    middle: tuple[str, Proxy],
) -> None:
    alias, between = middle
    request(alias)
    before = bytes_of(between)
    for _ in range(10):
        request(alias, statements=0)
        connections[alias].ensure_connection()
        connections[alias].close()
    assert bytes_of(between) == before
    assert djpool.stats(alias).checks_total == 0


def test_a_ping_is_one_round_trip_after_check_after(
    make_alias: MakeAlias, engine: str, server: Any
) -> None:
    alias = pooled(engine, make_alias, check_after=0.01)
    request(alias)
    time.sleep(0.05)
    mark = server.mark()
    request(alias)
    assert djpool.stats(alias).checks_total == 1
    wait_until(lambda: "SELECT 'mine'" in server.log_since(mark), "the log")
    # Some drivers ping with a statement.
    assert len(statements(server.log_since(mark))) <= 2
