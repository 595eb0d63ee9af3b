"""A clean request costs its own statements, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy

IMPLEMENTATIONS = ["postgresql-native", "postgresql-fallback"]


@pytest.fixture(params=IMPLEMENTATIONS)
def middle(
    request: pytest.FixtureRequest,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    proxy: Callable[[str, int], Proxy],
) -> Iterator[tuple[str, Proxy]]:
    """An alias, and the proxy that all it says goes through."""
    between = proxy(postgres.host, postgres.port)
    alias = make_alias(
        "postgresql",
        pool={"implementation": request.param.split("-")[1], "max_size": 2},
        HOST=between.host,
        PORT=str(between.port),
    )
    yield alias, between
    djpool.close_all()


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
    middle: tuple[str, Proxy], postgres: PostgresServer, new: bool
) -> None:
    alias, between = middle
    request(alias, new=new)
    mark, before = postgres.mark(), bytes_of(between)
    for _ in range(10):
        request(alias, new=new)
    spoken = bytes_of(between) - before

    def logged() -> list[str]:
        lines = postgres.log_since(mark).splitlines()
        return [line for line in lines if "statement:" in line or "execute" in line]

    wait_until(lambda: len(logged()) >= 10, "the log to be written")
    assert len(logged()) == 10
    assert all("SELECT 'mine'" in line for line in logged())
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
    make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    alias = pooled("postgresql-native", make_alias, check_after=0.01)
    request(alias)
    time.sleep(0.05)
    mark = postgres.mark()
    request(alias)
    assert djpool.stats(alias).checks_total == 1
    wait_until(lambda: "SELECT 'mine'" in postgres.log_since(mark), "the log")
    statements: list[Any] = [
        line for line in postgres.log_since(mark).splitlines() if "statement:" in line
    ]
    assert len(statements) <= 2
