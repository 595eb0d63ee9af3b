"""PostgreSQL's connect-time state: what a role has, and what receivers set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from psycopg import sql

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import POSTGRESQL
from tests.backends.kinds import run

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

PREFIX = "djpool_tests_"


@pytest.fixture(params=POSTGRESQL)
def engine(request: pytest.FixtureRequest) -> str:
    """PostgreSQL's engines."""
    name: str = request.param
    return name


@pytest.fixture
def roles(postgres: PostgresServer) -> Iterator[dict[str, Any]]:
    """Settings for an account that acts as another one from the logon on."""
    account, owner, other = (PREFIX + name for name in ("account", "owner", "other"))
    with postgres.admin() as admin:
        for statement in (
            f"CREATE ROLE {owner}",
            f"CREATE ROLE {other}",
            f"CREATE ROLE {account} LOGIN PASSWORD 'secret' IN ROLE {owner}, {other}",
            f"ALTER ROLE {account} SET role = {owner}",
            f"ALTER ROLE {account} SET statement_timeout = '55s'",
            f"ALTER ROLE {account} SET shop.tenant = '5'",
        ):
            admin.execute(sql.SQL(statement))
    yield {"USER": account, "PASSWORD": "secret"}
    djpool.close_all()
    with postgres.admin() as admin:
        for role in (account, owner, other):
            admin.execute(sql.SQL(f"DROP ROLE {role}"))


@pytest.fixture
def receiver() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Connects a receiver of connection_created for one test."""
    connected: list[Callable[..., None]] = []

    def connect(receive: Callable[..., None]) -> None:
        connection_created.connect(receive)
        connected.append(receive)

    yield connect
    for receive in connected:
        connection_created.disconnect(receive)


def state(alias: str) -> tuple[str, ...]:
    """Who the session is, and two settings."""
    statement = (
        "SELECT session_user, current_user, current_setting('statement_timeout'),"
        " current_setting('shop.tenant', true)"
    )
    ((*found,),) = run(connections[alias], statement)
    return tuple(found)


def end(alias: str) -> None:
    """Give the connection back, and wait until it was restored."""
    connections[alias].close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "the connection to be back")


def test_what_the_role_has_by_default_is_there_again(
    engine: str, make_alias: MakeAlias, roles: dict[str, Any]
) -> None:
    """RESET ALL forgets the role; DISCARD ALL would leave it out as well."""
    alias = make_alias(engine, pool={"max_size": 1}, **roles)
    wanted = (PREFIX + "account", PREFIX + "owner", "55s", "5")
    assert state(alias) == wanted
    run(connections[alias], f"SET ROLE {PREFIX}other")
    run(connections[alias], "SET statement_timeout = 0; SET shop.tenant = '6'")
    assert state(alias) == (PREFIX + "account", PREFIX + "other", "0", "6")
    end(alias)
    assert state(alias) == wanted
    run(connections[alias], "RESET ROLE; RESET ALL")
    end(alias)
    assert state(alias) == wanted
    run(connections[alias], "DISCARD ALL")
    end(alias)
    assert state(alias) == wanted
    assert djpool.stats(alias).opened_total == 1


def test_django_s_assume_role(
    engine: str, make_alias: MakeAlias, roles: dict[str, Any]
) -> None:
    options = {"assume_role": PREFIX + "other"}
    alias = make_alias(engine, pool={"max_size": 1}, OPTIONS=options, **roles)
    wanted = (PREFIX + "account", PREFIX + "other", "55s", "5")
    assert state(alias) == wanted
    run(connections[alias], f"SET ROLE {PREFIX}owner")
    end(alias)
    assert state(alias) == wanted
    assert djpool.stats(alias).opened_total == 1


def test_a_superuser_who_was_another_is_itself_again(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    alias = make_alias(
        engine,
        pool={"max_size": 1},
        USER=postgres.superuser,
        PASSWORD=postgres.superuser_password,
    )
    before = state(alias)
    run(connections[alias], f"SET SESSION AUTHORIZATION {postgres.user}")
    assert state(alias) != before
    end(alias)
    assert state(alias) == before
    assert djpool.stats(alias).opened_total == 1


@pytest.mark.parametrize("raw", [False, True], ids=["cursor", "driver"])
def test_what_receivers_set_when_it_was_connected_is_there_again(
    engine: str,
    make_alias: MakeAlias,
    receiver: Callable[[Callable[..., None]], None],
    raw: bool,
) -> None:
    def receive(connection: Any, **kwargs: Any) -> None:
        if raw:
            with connection.connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '44s'")
        else:
            run(connection, "SET statement_timeout = '44s'")
        run(connection, "SELECT set_config(%s, %s, false)", ["shop.tenant", "4'\\"])

    receiver(receive)
    alias = pooled(engine, make_alias, max_size=1)
    before = state(alias)
    assert before[2:] == ("44s", "4'\\")
    run(connections[alias], "SET statement_timeout = 0; SET shop.tenant = '6'")
    end(alias)
    assert state(alias) == before
    assert djpool.stats(alias).opened_total == 1


def test_what_receivers_made_beyond_settings_cannot_be_made_again(
    engine: str,
    make_alias: MakeAlias,
    receiver: Callable[[Callable[..., None]], None],
) -> None:
    """So a session that was changed is closed, and a clean one kept."""

    def receive(connection: Any, **kwargs: Any) -> None:
        run(connection, "CREATE TEMP TABLE mine AS SELECT 7 AS n")

    receiver(receive)
    alias = pooled(engine, make_alias, max_size=1)
    for _ in range(2):
        assert run(connections[alias], "SELECT n FROM mine") == [(7,)]
        end(alias)
    assert djpool.stats(alias).opened_total == 1
    run(connections[alias], "SET statement_timeout = 0")
    end(alias)
    assert djpool.stats(alias).closed_total["reset"] == 1
    assert run(connections[alias], "SELECT n FROM mine") == [(7,)]


def test_statements_that_the_driver_prepared_stay(
    engine: str, make_alias: MakeAlias
) -> None:
    """Only what was prepared with PREPARE goes; the driver goes on using its own."""
    if engine == "postgresql":
        pytest.skip("psycopg2 prepares nothing")
    options = {"prepare_threshold": 0, "server_side_binding": True}
    alias = make_alias(engine, pool={"max_size": 1}, OPTIONS=options)
    for _ in range(3):
        for _ in range(3):
            assert run(connections[alias], "SELECT %s + 1", [1]) == [(2,)]
        run(connections[alias], "PREPARE mine AS SELECT 1")
        end(alias)
    found = run(connections[alias], "SELECT name FROM pg_prepared_statements")
    assert found
    assert all(name.startswith("_pg3_") for (name,) in found)
    assert djpool.stats(alias).closed_total["reset"] == 0


def test_a_new_type_is_learnt_by_all_connections(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=2)
    first = connections.create_connection(alias)
    run(first, "SELECT 1")
    run(connections[alias], "CREATE TYPE mood AS ENUM ('so', 'so so')")
    connections[alias].close()
    first.close()
    wait_until(lambda: djpool.stats(alias).size == 0, "all to be replaced")
    run(connections[alias], "DROP TYPE mood")
    assert djpool.stats(alias).closed_total["evicted"] == 2
