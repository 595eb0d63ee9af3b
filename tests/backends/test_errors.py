"""Five causes, five messages, each soon, and each the server's own words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.servers.proxy import Proxy

IMPLEMENTATIONS = ["postgresql-native", "postgresql-fallback"]

CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": (
        {"PASSWORD": "wrong"},
        'password authentication failed for user "djpool"',
    ),
    "unknown database": (
        {"NAME": "nowhere"},
        'database "nowhere" does not exist',
    ),
    "unknown role": (
        {"USER": "nobody_here"},
        'password authentication failed for user "nobody_here"',
    ),
    "unknown host": (
        {"HOST": "no-such-host.invalid"},
        "failed to resolve host|could not translate host name",
    ),
    "nobody listens": (
        {"PORT": "free"},
        "[Cc]onnection refused",
    ),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cause", CAUSES)
def test_the_server_s_own_words_reach_the_caller(
    cause: str, implementation: str, make_alias: MakeAlias
) -> None:
    """Not "couldn't get a connection after 30 sec"."""
    changes, words = CAUSES[cause]
    if changes == {"PORT": "free"}:
        changes = {"PORT": str(free_port())}
    alias = make_alias(
        "postgresql",
        pool={"implementation": implementation.split("-")[1], "timeout": 30},
        **changes,
    )
    began = time.monotonic()
    with pytest.raises(OperationalError, match=words) as caught:
        connections[alias].ensure_connection()
    # The deadline is 30 s; a bound as wide as this says "at once".
    assert time.monotonic() - began < 15
    assert not isinstance(caught.value, djpool.PoolError)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    stats = djpool.stats(alias)
    assert stats.open_errors_total == 1
    assert stats.size == stats.timeouts_total == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_exhaustion_is_told_from_all_of_these(
    implementation: str, make_alias: MakeAlias
) -> None:
    alias = pooled(implementation, make_alias, max_size=1, timeout=0.05)
    held = connections.create_connection(alias)
    held.ensure_connection()
    with pytest.raises(djpool.PoolTimeout, match=r"came free in 0\.05 s") as caught:
        connections[alias].ensure_connection()
    assert caught.value.__cause__ is None
    held.close()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_too_many_connections_is_the_server_s_own_error(
    implementation: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    with postgres.admin() as admin:
        admin.execute("CREATE ROLE crowded LOGIN PASSWORD 'crowded' CONNECTION LIMIT 1")
    alias = make_alias(
        "postgresql",
        pool={"implementation": implementation.split("-")[1], "max_size": 2},
        USER="crowded",
        PASSWORD="crowded",
    )
    first = connections.create_connection(alias)
    try:
        first.ensure_connection()
        with pytest.raises(OperationalError, match="too many connections for role"):
            connections[alias].ensure_connection()
        assert djpool.stats(alias).size == 1
    finally:
        first.close()
        djpool.close_all()
        with postgres.admin() as admin:
            admin.execute("DROP ROLE crowded")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_server_that_accepts_and_says_nothing_costs_the_deadline(
    implementation: str,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    proxy: Callable[[str, int], Proxy],
) -> None:
    """Libpq counts whole seconds, and not less than two."""
    middle = proxy(postgres.host, postgres.port)
    middle.black_hole()
    alias = make_alias(
        "postgresql",
        pool={"implementation": implementation.split("-")[1], "timeout": 2},
        HOST=middle.host,
        PORT=str(middle.port),
    )
    with pytest.raises(OperationalError, match="timeout"):
        connections[alias].ensure_connection()
    assert djpool.stats(alias).size == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_idle_connections_that_the_server_closed_fail_no_request(
    implementation: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    alias = pooled(implementation, make_alias, max_size=6)
    wrappers = [connections.create_connection(alias) for _ in range(6)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == 6
    assert postgres.kill_sessions() >= 6
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        wrapper.close()
    stats = djpool.stats(alias)
    assert stats.closed_total["broken"] == 6
    assert stats.opened_total == 7


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_restart_fails_no_request(
    implementation: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    alias = pooled(implementation, make_alias, max_size=10)
    wrappers = [connections.create_connection(alias) for _ in range(10)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    postgres.restart("immediate")
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        wrapper.close()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_connection_that_went_silent_costs_check_timeout(
    implementation: str,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    proxy: Callable[[str, int], Proxy],
) -> None:
    """It looks alive; only a ping can tell, and the ping has a deadline."""
    middle = proxy(postgres.host, postgres.port)
    alias = make_alias(
        "postgresql",
        pool={
            "implementation": implementation.split("-")[1],
            "check": True,
            "check_timeout": 0.2,
        },
        HOST=middle.host,
        PORT=str(middle.port),
    )
    wrapper = connections[alias]
    wrapper.ensure_connection()
    wrapper.close()
    middle.black_hole()  # what is open now stays silent for good
    middle.resume()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    stats = djpool.stats(alias)
    assert stats.check_failures_total == 1
    assert stats.closed_total["broken"] == 1
    assert stats.opened_total == 2
