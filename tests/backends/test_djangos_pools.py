"""Configurations of Django's own pools for PostgreSQL and Oracle, under djpool.

Each key of the drivers' pools means what it meant, or is refused by name. The keys
are those of the installed drivers, so a release with another key fails here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracledb
import psycopg
import psycopg_pool
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, ProgrammingError, connections
from django.db.backends.postgresql.base import Cursor, ServerBindingCursor
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.test import override_settings

import djpool
from djpool.adapters.oracledb import adapter as oracle_adapter
from djpool.adapters.psycopg import PSYCOPG_POOL_KEYS
from djpool.adapters.psycopg import adapter as psycopg_adapter
from djpool.checks import check_pools
from djpool.core.options import (
    MAX_SIZE,
    NativeKey,
    Offer,
    PoolOptions,
    Problem,
    ProblemKind,
    parse,
)
from tests.backends.conftest import MakeAlias, raw_of
from tests.servers.oracle import OracleServer
from tests.servers.postgres import PostgresServer

BOTH = ("native", "fallback")
POSTGRESQL = psycopg_adapter.offer
ORACLE = oracle_adapter.offer


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


def refused(given: dict[str, Any], offer: Offer) -> list[Problem]:
    """What is wrong with options, none of which may be just unknown."""
    options, problems = parse(given, name="default", offer=offer)
    assert options is None, options
    assert all(each.kind is not ProblemKind.UNKNOWN for each in problems), problems
    return problems


def check_refusal(key: str, value: Any, told: str, offer: Offer) -> Problem:
    """It is refused by its name, with words that help."""
    (problem,) = refused({key: value}, offer)
    assert problem.option == key
    assert key in problem.message
    assert told in problem.message + (problem.hint or "")
    return problem


def taken(given: dict[str, Any], offer: Offer) -> dict[str, Any]:
    """Djpool's options, as far as they are not the defaults."""
    options, problems = parse(given, name="default", offer=offer)
    assert not problems, problems
    assert options is not None
    default = PoolOptions()
    return {
        option: getattr(options, option)
        for option in PoolOptions.__dataclass_fields__
        if getattr(options, option) != getattr(default, option)
    }


# Every key of psycopg_pool

PSYCOPG_TAKEN: list[tuple[str, Any, dict[str, Any]]] = [
    ("min_size", 4, {"min_size": 4}),
    ("min_size", 20, {"min_size": 20, "max_size": 20}),
    ("max_size", 4, {"max_size": 4}),
    ("max_size", None, {}),
    ("timeout", 10, {"timeout": 10.0}),
    ("max_waiting", 7, {"max_waiting": 7}),
    ("max_waiting", 0, {}),
    ("max_lifetime", 1800.0, {"max_lifetime": 1800.0}),
    ("max_idle", 300.0, {"max_idle": 300.0}),
    ("name", "shop", {"name": "shop"}),
    ("name", None, {}),
    ("num_workers", 5, {"native": {"num_workers": 5}}),
    ("check", psycopg_pool.ConnectionPool.check_connection, {"check": True}),
    ("check", psycopg_pool.NullConnectionPool.check_connection, {"check": True}),
    ("check", None, {"check": False}),
    # What these are when a configuration leaves them out.
    ("reset", None, {}),
    ("conninfo", "", {}),
    ("connection_class", psycopg.Connection, {}),
    ("close_returns", False, {}),
    ("reconnect_failed", None, {}),
    ("reconnect_timeout", 300.0, {}),
]
PSYCOPG_REFUSED: list[tuple[str, Any, str]] = [
    ("conninfo", "host=db", '"OPTIONS" itself'),
    ("kwargs", {"connect_timeout": 3}, '"OPTIONS" itself'),
    ("connection_class", type("Mine", (psycopg.Connection,), {}), "cursor_factory"),
    ("open", True, '"min_size"'),
    ("configure", print, "connection_created"),
    ("check", print, "knows how to check"),
    ("reset", print, "knows how to reset"),
    ("close_returns", True, "Leave it out"),
    ("reconnect_timeout", 60.0, '"timeout"'),
    ("reconnect_failed", print, "callers get the error"),
    ("max_lifetime", 0, "more than 0"),
    ("max_idle", float("inf"), "None is no limit"),
]


@pytest.mark.parametrize(("key", "value", "meant"), PSYCOPG_TAKEN)
def test_a_key_of_psycopg_pool_means_what_it_meant(
    key: str, value: Any, meant: dict[str, Any]
) -> None:
    assert taken({key: value}, POSTGRESQL) == meant


@pytest.mark.parametrize(("key", "value", "told"), PSYCOPG_REFUSED)
def test_a_key_of_psycopg_pool_is_refused_by_name(
    key: str, value: Any, told: str
) -> None:
    check_refusal(key, value, told, POSTGRESQL)


def test_every_key_of_psycopg_pool_is_taken_or_refused() -> None:
    parameters = parameters_of(psycopg_pool.ConnectionPool.__init__)
    said = {key for key, *_ in [*PSYCOPG_TAKEN, *PSYCOPG_REFUSED]}
    assert parameters.keys() - said == set()  # a new one needs a decision and a test


# Every key of oracledb

ORACLE_TAKEN: list[tuple[str, Any, dict[str, Any]]] = [
    ("min", 4, {"min_size": 4}),
    ("min", 20, {"min_size": 20, "max_size": 20}),
    ("max", 2, {"max_size": 2}),
    ("increment", 1, {}),
    ("getmode", oracledb.POOL_GETMODE_WAIT, {}),
    ("getmode", oracledb.POOL_GETMODE_TIMEDWAIT, {}),
    ("homogeneous", True, {}),
    ("wait_timeout", 2500, {"timeout": 2.5}),
    ("max_lifetime_session", 600, {"max_lifetime": 600.0}),
    ("max_lifetime_session", 0, {"max_lifetime": None}),
    ("ping_interval", 60, {"check_after": 60.0}),
    ("ping_interval", 0, {"check": True}),
    ("ping_interval", -1, {"check": False}),
    ("ping_timeout", 1500, {"check_timeout": 1.5}),
    ("pool_alias", "shop", {"name": "shop"}),
    # What these are when a configuration leaves them out.
    ("connectiontype", None, {}),
    ("session_callback", None, {}),
    ("max_sessions_per_shard", 0, {}),
    ("soda_metadata_cache", False, {}),
    ("params", None, {}),
    ("pool_class", oracledb.ConnectionPool, {}),
    ("pool_alias", None, {}),
]
ORACLE_REFUSED: list[tuple[str, Any, str]] = [
    ("connectiontype", oracledb.Connection, '"conn_class"'),
    ("getmode", oracledb.POOL_GETMODE_NOWAIT, '"timeout"'),
    ("getmode", oracledb.POOL_GETMODE_FORCEGET, "max_size"),
    ("homogeneous", False, "the same user's"),
    ("session_callback", print, "connection_created"),
    ("max_sessions_per_shard", 3, "Leave it out"),
    ("soda_metadata_cache", True, "Leave it out"),
    ("wait_timeout", 0, "milliseconds"),
    ("params", oracledb.PoolParams(), '"OPTIONS" itself'),
    ("pool_class", dict, "Leave it out"),
    ("dsn", "db/shop", "NAME"),
    ("user", "shop", "USER"),
    ("password", "secret", "PASSWORD"),
    ("host", "db", "HOST"),
    ("port", 1521, "PORT"),
    ("service_name", "shop", "NAME"),
    ("sid", "shop", "NAME"),
    ("max", 0, "max_size must be 1 or more, not 0"),
    ("min", -1, "min_size must be 0 or more, not -1"),
    ("ping_timeout", 0, "check_timeout must be more than 0"),
]
# In this case the word is one of djpool's: see below.
TIMEOUT = {"timeout"}


@pytest.mark.parametrize(("key", "value", "meant"), ORACLE_TAKEN)
def test_a_key_of_create_pool_means_what_it_meant(
    key: str, value: Any, meant: dict[str, Any]
) -> None:
    assert taken({key: value}, ORACLE) == meant


@pytest.mark.parametrize(("key", "value", "told"), ORACLE_REFUSED)
def test_a_key_of_create_pool_is_refused_by_name(
    key: str, value: Any, told: str
) -> None:
    problem = check_refusal(key, value, told, ORACLE)
    assert "secret" not in problem.message


@pytest.mark.parametrize("key", parameters_of(oracledb.ConnectParams))
def test_a_connection_parameter_in_the_pool_is_refused_by_name(key: str) -> None:
    (problem,) = refused({key: "x"}, ORACLE)
    assert (problem.option, problem.kind) == (key, ProblemKind.REFUSED)
    assert "OPTIONS" in (problem.hint or "") or "DATABASES" in (problem.hint or "")


@pytest.mark.parametrize("function", [oracledb.create_pool, oracledb.PoolParams])
def test_every_key_of_create_pool_is_taken_or_refused(
    function: Callable[..., Any],
) -> None:
    said = {key for key, *_ in [*ORACLE_TAKEN, *ORACLE_REFUSED]} | TIMEOUT
    parameters = parameters_of(function).keys()
    connection = parameters_of(oracledb.ConnectParams).keys()
    assert parameters - (connection | said) == set()  # a new one needs a decision


@pytest.mark.parametrize("beside", [{"min": 1, "max": 4}, {"increment": 1}])
def test_oracledb_s_idle_time_is_not_taken_for_a_deadline(
    beside: dict[str, Any],
) -> None:
    """`timeout` is a word of both; a configuration of oracledb's means its own."""
    (problem,) = refused({**beside, "timeout": 300}, ORACLE)
    assert problem.option == "timeout"
    assert "300" in problem.message
    assert "max_idle" in (problem.hint or "")
    assert "wait_timeout" in (problem.hint or "")
    # Two words that only djpool has, and so djpool's third.
    mine = {"max_size": 4, "max_idle": 60, "timeout": 5}
    assert taken(mine, ORACLE) == {"max_size": 4, "max_idle": 60.0, "timeout": 5.0}
    assert taken({"timeout": 5}, ORACLE) == {"timeout": 5.0}


def test_what_the_documents_say_of_the_drivers_totals() -> None:
    """docs/migrating.md has these numbers."""
    parameters = parameters_of(psycopg_pool.ConnectionPool.__init__)
    assert parameters["min_size"].default == 4
    assert parameters["max_size"].default is None  # that is min_size
    params = oracledb.PoolParams()
    assert (params.min, params.max) == (1, 2)
    assert (taken({}, POSTGRESQL), MAX_SIZE) == ({}, 10)


def test_the_documents_name_every_key() -> None:
    docs = Path(__file__).parents[2] / "docs"
    configuration = (docs / "configuration.md").read_text()
    for key in parameters_of(psycopg_pool.ConnectionPool.__init__):
        assert re.search(rf"`{key}[`=]", configuration), key
    oracle = (docs / "oracle.md").read_text()
    for key in (
        parameters_of(oracledb.create_pool).keys()
        - parameters_of(oracledb.ConnectParams).keys()
    ):
        assert f"`{key}`" in oracle, key


# Two words for one thing


@pytest.mark.parametrize(
    ("given", "offer", "told"),
    [
        ({"max": 4, "max_size": 8}, ORACLE, "max_size (8) and max (4)"),
        ({"max_size": 8, "max": 4}, ORACLE, "max (4) and max_size (8)"),
        ({"ping_interval": 0, "check": False}, ORACLE, "check (False)"),
        (
            {"native": {"num_workers": 2}, "num_workers": 3},
            POSTGRESQL,
            "num_workers (3)",
        ),
    ],
)
def test_two_words_for_one_option_must_agree(
    given: dict[str, Any], offer: Offer, told: str
) -> None:
    (problem,) = refused(given, offer)
    assert told in problem.message


def test_two_words_for_one_option_may_agree() -> None:
    assert taken({"max": 4, "max_size": "4"}, ORACLE) == {"max_size": 4}


@pytest.mark.parametrize("turned", [False, True])
def test_a_key_that_is_passed_on_stands_beside_others(turned: bool) -> None:
    """In either order, one does not replace the other."""
    offer = Offer(
        implementations=BOTH,
        keys={
            **PSYCOPG_POOL_KEYS,
            "another": NativeKey(
                translate=lambda value: {"native": {"another": value}}
            ),
        },
    )
    given = [("num_workers", 5), ("another", 1), ("native", {"third": 2})]
    passed_on = {"num_workers": 5, "another": 1, "third": 2}
    assert taken(dict(given[:: -1 if turned else 1]), offer) == {"native": passed_on}


def test_sizes_are_named_as_they_were_written() -> None:
    (problem,) = refused({"min": 5, "max": 2}, ORACLE)
    assert problem.message == "min must be from 0 to max (2), not 5"


# In a project


@pytest.fixture
def make(make_alias: MakeAlias, request: pytest.FixtureRequest) -> MakeAlias:
    """`make_alias`, which names Oracle's service as these tests do."""

    def make(engine: str, pool: Any = True, **changes: Any) -> str:
        if engine == "oracle":
            oracle: OracleServer = request.getfixturevalue("oracle")
            changes = oracle.databases() | changes
        return make_alias(engine, pool=pool, **changes)

    return make


def pid(wrapper: Any) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        found: int = cursor.fetchone()[0]
        return found


def one(alias: str, sql: str) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("pool", "sizes"),
    [
        ({"min_size": 20}, (20, 20)),
        ({"min_size": 4}, (4, MAX_SIZE)),
        ({"min_size": 0, "max_size": 2, "timeout": 5}, (0, 2)),
        ({"min_size": 2, "max_size": None}, (2, MAX_SIZE)),
        (True, (0, MAX_SIZE)),
    ],
)
def test_postgresql_s_sizes_on_a_server(
    pool: Any, sizes: tuple[int, int], make: MakeAlias
) -> None:
    alias = make("postgresql", pool=pool)
    assert not [each for each in check_pools() if repr(alias) in each.msg]
    assert one(alias, "SELECT 1") == 1
    stats = djpool.stats(alias)
    assert (stats.min_size, stats.max_size) == sizes


@pytest.mark.parametrize("engine", ["postgresql", "oracle"])
def test_an_empty_dict_is_a_pool(engine: str, make: MakeAlias) -> None:
    """Other than with Django's own pools, to which it is none; the docs say so."""
    alias = make(engine, pool={})
    connections[alias].ensure_connection()
    assert djpool.stats(alias).max_size == MAX_SIZE


@pytest.mark.parametrize("engine", ["postgresql", "oracle"])
@pytest.mark.parametrize("pool", [False, None])
def test_off_is_the_stock_backend(engine: str, pool: Any, make: MakeAlias) -> None:
    alias = make(engine, pool=pool, CONN_MAX_AGE=60)
    connections[alias].ensure_connection()
    assert alias not in djpool.stats()


@pytest.mark.parametrize("engine", ["postgresql", "oracle"])
@pytest.mark.parametrize("age", [10, None])
def test_persistent_connections_are_improperly_configured(
    engine: str, age: int | None, make: MakeAlias
) -> None:
    alias = make(engine, CONN_MAX_AGE=age)
    with pytest.raises(
        ImproperlyConfigured,
        match=rf"\['{alias}'\]: CONN_MAX_AGE must be 0 with a pool, not {age}",
    ):
        connections[alias].ensure_connection()


@pytest.mark.parametrize("engine", ["postgresql", "oracle"])
def test_no_connection_is_opened_in_an_atomic_block(
    engine: str, make: MakeAlias
) -> None:
    wrapper = connections[make(engine)]
    wrapper.in_atomic_block = wrapper.closed_in_transaction = True
    try:
        with pytest.raises(ProgrammingError, match="in an atomic block"):
            wrapper.ensure_connection()
    finally:
        wrapper.in_atomic_block = wrapper.closed_in_transaction = False


@pytest.mark.parametrize(
    ("engine", "pool"),
    [
        ("postgresql", {"min_size": 0, "max_size": 2, "timeout": 0.2}),
        ("oracle", {"min": 0, "max": 2, "wait_timeout": 200}),
    ],
)
def test_two_are_lent_and_a_third_waits(
    engine: str, pool: dict[str, Any], make: MakeAlias
) -> None:
    alias = make(engine, pool=pool)
    first, second, third = (connections.create_connection(alias) for _ in range(3))
    try:
        for wrapper in (first, second):
            wrapper.ensure_connection()
        lent = raw_of(first)
        assert raw_of(second) is not lent
        with pytest.raises(OperationalError):
            third.ensure_connection()
        first.close()
        third.ensure_connection()
        assert raw_of(third) is lent
        assert djpool.stats(alias).opened_total == 2
    finally:
        for wrapper in (first, second, third):
            wrapper.close()


@pytest.mark.parametrize("checks", [False, True])
def test_conn_health_checks_changes_nothing(checks: bool, make: MakeAlias) -> None:
    alias = make("postgresql", pool={"max_size": 1}, CONN_HEALTH_CHECKS=checks)
    before = pid(connections[alias])
    connections[alias].close()
    with psycopg.connect(
        **{
            name: connections[alias].settings_dict[key]
            for name, key in (
                *(("dbname", "NAME"), ("user", "USER"), ("password", "PASSWORD")),
                *(("host", "HOST"), ("port", "PORT")),
            )
        },
        autocommit=True,
    ) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    assert pid(connections[alias]) != before


def test_a_new_time_zone_reaches_pooled_connections(make: MakeAlias) -> None:
    alias = make("postgresql")
    assert one(alias, "SHOW TIMEZONE") != "Africa/Nairobi"
    connections[alias].close()
    with override_settings(USE_TZ=False, TIME_ZONE="Africa/Nairobi"):
        assert one(alias, "SHOW TIMEZONE") == "Africa/Nairobi"
        connections[alias].close()
    assert one(alias, "SHOW TIMEZONE") != "Africa/Nairobi"


def test_a_role_that_does_not_exist_is_the_server_s_own_error(
    make: MakeAlias,
) -> None:
    alias = make("postgresql", OPTIONS={"assume_role": "djpool_nobody"})
    with pytest.raises(Exception, match='role "djpool_nobody" does not exist'):
        connections[alias].ensure_connection()
    assert djpool.stats(alias).size == 0


@pytest.mark.parametrize("implementation", BOTH)
def test_the_isolation_level_is_that_of_each_lease(
    implementation: str, make: MakeAlias
) -> None:
    alias = make(
        "postgresql",
        pool={"implementation": implementation, "max_size": 1},
        OPTIONS={"isolation_level": IsolationLevel.SERIALIZABLE},
    )
    for _ in range(2):
        wrapper: Any = connections.create_connection(alias)
        wrapper.set_autocommit(False)
        with wrapper.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("serializable",)
        assert wrapper.isolation_level == IsolationLevel.SERIALIZABLE
        wrapper.rollback()
        wrapper.close()
    assert djpool.stats(alias).opened_total == 1


def test_an_isolation_level_that_is_none_is_improperly_configured(
    make: MakeAlias,
) -> None:
    alias = make("postgresql", OPTIONS={"isolation_level": -1})
    with pytest.raises(ImproperlyConfigured, match="isolation level -1 specified"):
        connections[alias].ensure_connection()


class MyCursor(Cursor):
    """One that a project configures."""


@pytest.mark.parametrize(
    ("options", "factory"),
    [
        ({}, Cursor),
        ({"server_side_binding": True}, ServerBindingCursor),
        ({"cursor_factory": MyCursor}, MyCursor),
    ],
)
def test_cursors_are_those_of_the_settings(
    options: dict[str, Any], factory: type, make: MakeAlias
) -> None:
    alias = make("postgresql", pool={"max_size": 1}, OPTIONS=options)
    for _ in range(2):
        assert one(alias, "SELECT 1") == 1
        assert raw_of(connections[alias]).cursor_factory is factory
        connections[alias].close()


def test_the_client_s_encoding_stays_utf_8(make: MakeAlias) -> None:
    alias = make("postgresql", OPTIONS={"client_encoding": "iso-8859-2"})
    assert one(alias, "SHOW client_encoding") == "UTF8"


def test_a_service_in_place_of_name_and_host(
    make: MakeAlias,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "services.conf"
    file.write_text(
        "[djpool_shop]\n"
        f"host={postgres.host}\nport={postgres.port}\ndbname={postgres.database}\n"
        f"user={postgres.user}\npassword={postgres.password}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    alias = make(
        "postgresql",
        **dict.fromkeys(("NAME", "USER", "PASSWORD", "HOST", "PORT"), ""),
        OPTIONS={"service": "djpool_shop"},
    )
    assert one(alias, "SELECT current_database()") == postgres.database


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("min", 1), ("max", 4), ("timeout", 300), ("wait_timeout", 2500)),
        *(("session_callback", print), ("max_lifetime_session", 60)),
    ],
)
@pytest.mark.parametrize("implementation", BOTH)
def test_oracledb_s_keys_beside_the_pool_are_refused_by_name(
    implementation: str,
    key: str,
    value: Any,
    make: MakeAlias,
) -> None:
    """Django passes `OPTIONS` itself to create_pool(), too."""
    pool = {"implementation": implementation}
    alias = make("oracle", pool=pool, OPTIONS={key: value})
    (message,) = (each for each in check_pools() if repr(alias) in each.msg)
    assert message.id == "djpool.E005"
    place = f"DATABASES['{alias}']['OPTIONS']['{key}']"
    assert place in message.msg
    assert f"DATABASES['{alias}']['OPTIONS']['pool']" in message.msg
    with pytest.raises(djpool.OptionsError) as caught:
        connections[alias].ensure_connection()
    assert place in str(caught.value)


class MyConnection(oracledb.Connection):
    """One that a project configures."""


@pytest.mark.parametrize("implementation", BOTH)
def test_a_connection_parameter_moves_out_of_the_pool(
    implementation: str, make: MakeAlias
) -> None:
    pool = {"implementation": implementation, "max": 4}
    wrong = make("oracle", pool=pool | {"connectiontype": MyConnection})
    with pytest.raises(
        djpool.OptionsError, match=r'connectiontype .*"conn_class" into'
    ):
        connections[wrong].ensure_connection()
    right = make("oracle", pool=pool, OPTIONS={"conn_class": MyConnection})
    connections[right].ensure_connection()
    assert isinstance(raw_of(connections[right]), MyConnection)
