"""Servers that become read-only, or shut down, and the way to the next one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import Error, connections
from psycopg import sql

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import (
    CONNECTOR,
    MYSQL,
    ORACLE,
    POSTGRESQL,
    engine_of,
    server_of,
)
from tests.servers.mysql import MySQLFamilyServer
from tests.servers.oracle import OracleServer
from tests.servers.oracle_emulator.errors import OracleError
from tests.servers.postgres import PostgresServer
from tests.servers.process import HOST, free_port, wait_until


def run(alias: str, statement: str) -> Any:
    """One request with one statement; its row, if there is one."""
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connections[alias].close()


def with_idle_ones(alias: str, count: int = 3) -> None:
    """Have so many connections lie idle."""
    wrappers = [connections.create_connection(alias) for _ in range(count)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == count


def is_left(alias: str, count: int = 3) -> None:
    """All connections were replaced, or will be before they are lent again."""
    wait_until(
        lambda: djpool.stats(alias).closed_total["evicted"] == count,
        "all connections to be closed",
    )


# -- PostgreSQL --------------------------------------------------------------------


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[str]:
    """A table with one column."""
    with postgres.admin(postgres.database) as admin:
        admin.execute("CREATE TABLE moved (n integer)")
        admin.execute("GRANT ALL ON moved TO PUBLIC")
    yield "moved"
    with postgres.admin(postgres.database) as admin:
        admin.execute("DROP TABLE moved")


def set_read_only(server: PostgresServer, read_only: bool) -> None:
    """Have a server refuse writes, and say so to who connects."""
    with server.admin() as admin:
        state = sql.Literal("on" if read_only else "off")
        admin.execute(
            sql.SQL("ALTER SYSTEM SET default_transaction_read_only = {}").format(state)
        )
        admin.execute("SELECT pg_reload_conf()")
    with server.admin() as admin:
        wanted = "on" if read_only else "off"

        def is_so() -> bool:
            row = admin.execute("SHOW default_transaction_read_only").fetchone()
            return row == (wanted,)

        wait_until(is_so, "the server to know")


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_postgresql_that_became_read_only_is_left(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer, table: str
) -> None:
    alias = pooled(engine, make_alias, max_size=4)
    with_idle_ones(alias)
    set_read_only(postgres, True)
    try:
        with pytest.raises(Error, match="read-only transaction"):
            run(alias, f"INSERT INTO {table} VALUES (1)")
        is_left(alias)
    finally:
        set_read_only(postgres, False)
    run(alias, f"INSERT INTO {table} VALUES (1)")


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_session_that_is_ended_with_a_word_takes_the_others_with_it(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """57P01 in the middle of a statement: the server shuts down, most often."""
    alias = pooled(engine, make_alias, max_size=4)
    with_idle_ones(alias)
    with pytest.raises(Error, match="terminating connection"):
        run(alias, "SELECT pg_terminate_backend(pg_backend_pid())")
    wait_until(
        lambda: djpool.stats(alias).closed_total["evicted"] >= 2,
        "the idle ones to be closed",
    )
    assert run(alias, "SELECT 1") == (1,)


@pytest.fixture
def second(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Another PostgreSQL, with the same role and password, that takes no writes."""
    with PostgresServer() as server:
        with server.admin() as admin:
            admin.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(server.user), sql.Literal(postgres.password)
                )
            )
        with server.admin(server.database) as admin:
            admin.execute("CREATE TABLE moved (n integer)")
            admin.execute("GRANT ALL ON moved TO PUBLIC")
        set_read_only(server, True)
        yield server


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_failover_between_two_postgresqls(
    engine: str,
    make_alias: MakeAlias,
    postgres: PostgresServer,
    second: PostgresServer,
    table: str,
) -> None:
    """Libpq's own settings say where they are; which one it is, each connect asks."""
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | {"max_size": 4, "timeout": 20},
        HOST=f"{postgres.host},{second.host}",
        PORT=f"{postgres.port},{second.port}",
        OPTIONS={"target_session_attrs": "read-write"},
    )
    with_idle_ones(alias)
    where = "SELECT current_setting('port')"
    assert run(alias, where) == (str(postgres.port),)
    try:
        set_read_only(second, False)
        set_read_only(postgres, True)
        with pytest.raises(Error, match="read-only transaction"):
            run(alias, f"INSERT INTO {table} VALUES (1)")
        run(alias, f"INSERT INTO {table} VALUES (1)")
        assert run(alias, where) == (str(second.port),)
        is_left(alias)
    finally:
        set_read_only(postgres, False)


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_of_several_hosts_one_that_is_down_is_passed_over(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool,
        HOST=f"{HOST},{postgres.host}",
        PORT=f"{free_port()},{postgres.port}",
    )
    assert run(alias, "SELECT 1") == (1,)


# -- MySQL and MariaDB -------------------------------------------------------------


@pytest.fixture
def account(request: pytest.FixtureRequest, engine: str) -> MySQLFamilyServer:
    """The engine's server."""
    server: MySQLFamilyServer = server_of(engine, request)
    return server


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
def test_a_mysql_that_became_read_only_is_left(
    engine: str, make_alias: MakeAlias, account: MySQLFamilyServer
) -> None:
    """1290, and what a failover looks like on most managed servers."""
    alias = pooled(engine, make_alias, max_size=4)
    run(alias, "CREATE TABLE IF NOT EXISTS moved (n integer)")
    djpool.pool(alias).drain()
    before = djpool.stats(alias).closed_total["evicted"]
    with_idle_ones(alias)
    with account.admin() as admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(Error, match="read-only"):
                run(alias, "INSERT INTO moved VALUES (1)")
            is_left(alias, before + 3)
        finally:
            cursor.execute("SET GLOBAL read_only = 0")
    run(alias, "INSERT INTO moved VALUES (1)")
    run(alias, "DROP TABLE moved")


@pytest.mark.parametrize("engine", CONNECTOR)
def test_connector_s_failover_passes_over_a_server_that_is_down(
    engine: str, make_alias: MakeAlias, account: MySQLFamilyServer
) -> None:
    servers = (
        {"host": HOST, "port": free_port(), "priority": 100},
        {"host": account.host, "port": account.port, "priority": 50},
    )
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool,
        HOST="",
        PORT="",
        OPTIONS={"failover": servers},
    )
    assert run(alias, "SELECT 1") == (1,)


# -- Oracle ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ORACLE)
def test_an_oracle_that_shuts_down_is_left(
    engine: str, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    alias = pooled(engine, make_alias, max_size=4)
    with_idle_ones(alias)
    holder = connections.create_connection(alias)
    with holder.cursor() as cursor:
        for session in oracle.emulated.sessions():
            session.doom = OracleError(1089)
        with pytest.raises(Error, match="ORA-01089"):
            cursor.execute("SELECT 1 FROM DUAL")
    holder.close()
    wait_until(
        lambda: djpool.stats(alias).closed_total["evicted"] >= 2,
        "the idle ones to be closed",
    )
    assert run(alias, "SELECT 1 FROM DUAL") == (1,)


@pytest.mark.parametrize("engine", ORACLE)
def test_oracle_s_address_list_passes_over_a_server_that_is_down(
    engine: str, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    addresses = "".join(
        f"(ADDRESS=(PROTOCOL=TCP)(HOST={oracle.host})(PORT={port}))"
        for port in (free_port(), oracle.port)
    )
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool,
        NAME=f"(DESCRIPTION=(ADDRESS_LIST={addresses})"
        f"(CONNECT_DATA=(SERVICE_NAME={oracle.database})))",
        HOST="",
        PORT="",
    )
    assert run(alias, "SELECT 1 FROM DUAL") == (1,)


# -- names -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [*CONNECTOR, *ORACLE])
def test_each_connect_resolves_the_name_again(
    engine: str,
    make_alias: MakeAlias,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For the drivers that do it in Python, where it can be seen."""
    server = server_of(engine, request)
    resolve = socket.getaddrinfo
    names: list[Any] = []

    def noted(host: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    changes: dict[str, Any] = {"HOST": "localhost"}
    if engine in CONNECTOR:
        changes["OPTIONS"] = {"use_pure": True}
    if engine in ORACLE:
        changes = {
            "NAME": f"localhost:{server.port}/{server.database}",
            "HOST": "",
            "PORT": "",
        }
    alias = make_alias(engine, pool=engine_of(engine).pool, **changes)
    for count in (1, 2):
        connections[alias].ensure_connection()
        connections[alias].close()
        djpool.pool(alias).drain()
        assert names.count("localhost") >= count
    assert djpool.stats(alias).opened_total == 2
