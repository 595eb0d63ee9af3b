"""Five causes, five messages, each soon, and each the server's own words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import POSTGRESQL, SERVERS, engine_of, server_of
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
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


# What is wrong in the settings, and what each vendor's drivers say of it.
CAUSES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "wrong password": (
        {"PASSWORD": "wrong"},
        {
            "postgresql": 'password authentication failed for user "djpool"',
            "mysql": "1045.*Access denied for user 'djpool'",
            "oracle": "ORA-01017",
        },
    ),
    "unknown database": (
        {"NAME": "nowhere"},
        {
            "postgresql": 'database "nowhere" does not exist',
            "mysql": "1044.*Access denied|1049.*Unknown database",
            "oracle": 'DPY-6003: SID "nowhere" is not registered',
        },
    ),
    "unknown role": (
        {"USER": "nobody_here"},
        {
            "postgresql": 'password authentication failed for user "nobody_here"',
            "mysql": "1045.*Access denied for user 'nobody_here'",
            "oracle": "ORA-01017",
        },
    ),
    "unknown host": (
        {"HOST": "no-such-host.invalid"},
        {
            "postgresql": "failed to resolve host|could not translate host name",
            "mysql": "2003|2005",
            "oracle": "Name or service not known",
        },
    ),
    "nobody listens": (
        {"PORT": "free"},
        {
            "postgresql": "[Cc]onnection refused",
            "mysql": "2002|2003",
            "oracle": "DPY-6005(.|\n)*refused",
        },
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_server_s_own_words_reach_the_caller(
    cause: str, engine: str, make_alias: MakeAlias
) -> None:
    """Not "couldn't get a connection after 30 sec"."""
    changes, words = CAUSES[cause]
    if changes == {"PORT": "free"}:
        changes = {"PORT": str(free_port())}
    alias = make_alias(engine, pool=engine_of(engine).pool | {"timeout": 30}, **changes)
    wrapper = connections[alias]
    began = time.monotonic()
    # A name that cannot be resolved, python-oracledb tells as Python does.
    with pytest.raises((Error, OSError), match=words[wrapper.vendor]) as caught:
        wrapper.ensure_connection()
    # The deadline is 30 s; a bound as wide as this says "at once".
    assert time.monotonic() - began < 15
    assert not isinstance(caught.value, djpool.PoolError)
    stats = djpool.stats(alias)
    assert stats.open_errors_total == 1
    assert stats.size == stats.timeouts_total == 0


def test_exhaustion_is_told_from_all_of_these(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=2)
    held = connections.create_connection(alias)
    held.ensure_connection()
    with pytest.raises(djpool.PoolTimeout, match="no connection came free") as caught:
        connections[alias].ensure_connection()
    assert caught.value.__cause__ is None
    held.close()


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_too_many_connections_is_the_server_s_own_error(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    with postgres.admin() as admin:
        admin.execute("CREATE ROLE crowded LOGIN PASSWORD 'crowded' CONNECTION LIMIT 1")
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"max_size": 2},
        USER="crowded",
        PASSWORD="crowded",
    )
    first = connections.create_connection(alias)
    try:
        first.ensure_connection()
        with pytest.raises(Error, match="too many connections for role"):
            connections[alias].ensure_connection()
        assert djpool.stats(alias).size == 1
    finally:
        first.close()
        djpool.close_all()
        with postgres.admin() as admin:
            admin.execute("DROP ROLE crowded")


def test_a_server_that_accepts_and_says_nothing_costs_the_deadline(
    engine: str,
    make_alias: MakeAlias,
    server: Any,
    proxy: Callable[[str, int], Proxy],
) -> None:
    """Drivers count whole seconds, libpq not less than two."""
    middle = proxy(server.host, server.port)
    middle.black_hole()
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"timeout": 2},
        HOST=middle.host,
        PORT=str(middle.port),
    )
    with pytest.raises(Error, match=r"timeout|timed out|2013|2003|2055"):
        connections[alias].ensure_connection()
    assert djpool.stats(alias).size == 0


def test_idle_connections_that_the_server_closed_fail_no_request(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    alias = pooled(engine, make_alias, max_size=6)
    wrappers = [connections.create_connection(alias) for _ in range(6)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == 6
    assert server.kill_sessions() >= 6
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        wrapper.close()
    stats = djpool.stats(alias)
    assert stats.closed_total["broken"] == 6
    assert stats.opened_total == 7


def test_a_restart_fails_no_request(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    alias = pooled(engine, make_alias, max_size=10)
    wrappers = [connections.create_connection(alias) for _ in range(10)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    server.restart("immediate")
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        wrapper.close()


def test_a_connection_that_went_silent_costs_check_timeout(
    engine: str,
    make_alias: MakeAlias,
    server: Any,
    proxy: Callable[[str, int], Proxy],
) -> None:
    """It looks alive; only a ping can tell, and the ping has a deadline."""
    middle = proxy(server.host, server.port)
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"check": True, "check_timeout": 0.2},
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
