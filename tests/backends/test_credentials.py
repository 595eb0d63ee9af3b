"""Connections that are made with what `credentials` gives, on every engine."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.core.management import call_command
from django.db import Error, connections
from psycopg import sql

import djpool
from djpool.checks import check_pools
from djpool.credentials import DRIVERS_WORDS
from tests.backends.conftest import MakeAlias
from tests.backends.engines import (
    MYSQL,
    POSTGRESQL,
    SERVERS,
    engine_of,
    server_of,
)
from tests.servers.postgres import PostgresServer

SECRET = "hunter2-of-the-tests"
# For how long the server's password changes once a second.
SECONDS = float(os.environ.get("DJPOOL_TESTS_ROTATION_SECONDS", "12"))


@pytest.fixture(params=SERVERS)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine that speaks to a server."""
    name: str = request.param
    return name


@pytest.fixture
def server(engine: str, request: pytest.FixtureRequest) -> Any:
    """The engine's server."""
    return server_of(engine, request)


class Provider:
    """Gives one answer after the other, and then the last one for ever."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.calls = 0

    def __call__(self) -> Mapping[str, Any]:
        self.calls += 1
        return self.answers[min(self.calls, len(self.answers)) - 1]


def ask(alias: str) -> None:
    """One request."""
    wrapper = connections[alias]
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"
            )
            assert cursor.fetchone()[0] == 1
    finally:
        wrapper.close()


def without_login(
    engine: str, make_alias: MakeAlias, provider: Callable[[], Any], **options: Any
) -> str:
    """An alias whose settings have neither user nor password."""
    pool = engine_of(engine).pool | {"credentials": provider, "max_size": 4} | options
    return make_alias(engine, pool=pool, USER="", PASSWORD="")


@pytest.mark.parametrize("words", ["Django's", "the driver's"])
def test_user_and_password_come_from_there(
    words: str, engine: str, make_alias: MakeAlias, server: Any
) -> None:
    user, password = "USER", "PASSWORD"
    if words == "the driver's":
        user, password = DRIVERS_WORDS["USER"][0], DRIVERS_WORDS["PASSWORD"][0]
    provider = Provider({user: server.user, password: server.password})
    alias = without_login(engine, make_alias, provider)
    for _ in range(2):
        ask(alias)
    assert provider.calls == 1  # one connection
    djpool.pool(alias).drain()
    ask(alias)
    assert provider.calls == 2


def test_who_connects_by_other_means_gets_them(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    """Loops that listen, and pools of one's own, take the parameters from Django."""
    provider = Provider({"USER": server.user, "PASSWORD": server.password})
    alias = without_login(engine, make_alias, provider)
    params = connections[alias].get_connection_params()
    # Oracle's backend passes these two on by itself.
    if connections[alias].vendor != "oracle":
        assert server.password in params.values()
    assert provider.calls == 1
    ask(alias)
    assert provider.calls == 2  # for the pool's connection, as ever


def test_dbshell_gets_them(engine: str, make_alias: MakeAlias, server: Any) -> None:
    provider = Provider({"USER": server.user, "PASSWORD": server.password})
    alias = without_login(engine, make_alias, provider)
    client = connections[alias].client
    command, env = client.settings_to_cmd_args_env(connections[alias].settings_dict, [])
    said = " ".join([*command, *(env or {}).values()])
    assert server.user in said
    assert server.password in said
    assert provider.calls == 1


def test_dbshell_logs_on(
    make_alias: MakeAlias, postgres: PostgresServer, capfd: pytest.CaptureFixture[str]
) -> None:
    provider = Provider({"USER": postgres.user, "PASSWORD": postgres.password})
    alias = without_login("postgresql-fallback", make_alias, provider)
    call_command("dbshell", "--", "-Atc", "SELECT 'it works'", database=alias)
    assert capfd.readouterr().out == "it works\n"


def test_it_is_asked_again_when_the_login_is_refused(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    wrong = {"USER": server.user, "PASSWORD": SECRET, "expires_in": 3600}
    right = {"USER": server.user, "PASSWORD": server.password, "expires_in": 3600}
    provider = Provider(wrong, right)
    alias = without_login(engine, make_alias, provider)
    ask(alias)
    assert provider.calls == 2
    assert djpool.stats(alias).open_errors_total == 1
    djpool.pool(alias).drain()
    ask(alias)
    assert provider.calls == 2  # the right one was kept


def test_it_is_asked_again_once(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    """A wrong password tried again and again has the account locked."""
    provider = Provider({"USER": server.user, "PASSWORD": SECRET})
    alias = without_login(engine, make_alias, provider)
    with pytest.raises(Error) as caught:
        connections[alias].ensure_connection()
    assert not isinstance(caught.value, djpool.PoolError)
    assert provider.calls == 2
    stats = djpool.stats(alias)
    assert (stats.open_errors_total, stats.size) == (2, 0)


def test_other_errors_are_no_reason_to_ask_again(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    provider = Provider({"USER": server.user, "HOST": "127.0.0.1", "PORT": 1})
    alias = without_login(engine, make_alias, provider)
    with pytest.raises(Error):
        connections[alias].ensure_connection()
    assert provider.calls == 1


def test_secrets_are_never_shown(
    engine: str,
    make_alias: MakeAlias,
    server: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in logs, errors, statistics, checks or reprs."""
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = []

    def provider() -> dict[str, Any]:
        return {"USER": server.user, "PASSWORD": SECRET, "expires_in": 60}

    def fails() -> dict[str, Any]:
        raise LookupError

    def wrong() -> Any:
        return [SECRET]

    def nonsense() -> dict[str, Any]:
        return {"USER": server.user, "PASSWORD": SECRET, "djpool_nonsense": 1}

    for each in (provider, fails, wrong, nonsense, SECRET, f"{SECRET}.{SECRET}"):
        # A name of its own: pytest's own output has the source of what fails.
        alias = without_login(engine, make_alias, each)  # type: ignore[arg-type]
        try:
            connections[alias].ensure_connection()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is looked at)
            shown += [str(error), repr(error), *map(repr, error.args)]
            shown += traceback.format_exception(error)
        else:
            # python-oracledb does not mind words it does not know... but the rest.
            pytest.fail("a connection was opened with a wrong password")
        shown += [check.msg for check in check_pools() if alias in check.msg]
        if callable(each):
            pool = djpool.pool(alias)
            shown += [repr(pool), str(pool.stats()), pool.stats().as_dict()]
            shown += [repr(vars(pool))]
    shown += [record.getMessage() for record in caplog.records] + [caplog.text]
    assert len(shown) > 30
    # The source lines of a traceback say SECRET, not what it is.
    assert [each for each in shown if SECRET in str(each)] == []


def test_other_parameters_reach_the_driver(make_alias: MakeAlias) -> None:
    provider = Provider({"application_name": "from there"})
    alias = make_alias("postgresql", pool={"credentials": provider})
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW application_name")
        assert cursor.fetchone() == ("from there",)


def test_backends_of_others_have_them_too(
    make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """Those of `djpool.pooled()`."""
    wrong = {"user": postgres.user, "password": SECRET}
    provider = Provider(wrong, {"user": postgres.user, "password": postgres.password})
    alias = make_alias(
        "postgresql",
        pool={"credentials": provider},
        ENGINE="tests.third_party.engines.prometheus_postgresql",
        USER="",
        PASSWORD="",
    )
    ask(alias)
    assert provider.calls == 2


def test_on_sqlite_its_parameters_are_the_driver_s(make_alias: MakeAlias) -> None:
    provider = Provider({"PASSWORD": SECRET, "USER": "x", "cached_statements": 7})
    alias = make_alias("sqlite3", pool={"credentials": provider})
    ask(alias)
    assert provider.calls == 1


@pytest.mark.parametrize("engine", [*POSTGRESQL, *MYSQL])
def test_what_is_not_pooled_has_them_too(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    """As when the test database is created."""
    provider = Provider({"USER": server.user, "PASSWORD": server.password})
    alias = without_login(engine, make_alias, provider)
    with connections[alias]._nodb_cursor() as cursor:
        cursor.execute("SELECT 1")
    assert provider.calls == 1
    assert djpool.pool(alias).stats().size == 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "credentials must be a callable, the dotted path of one, or None"),
        ("tests.nowhere.hunter2", "credentials: a str that is not the dotted path of"),
        ("tests.backends.test_credentials.SECONDS", "a float, which cannot be called"),
    ],
)
def test_the_checks_say_what_is_wrong(
    value: Any, told: str, make_alias: MakeAlias
) -> None:
    alias = make_alias("sqlite3", pool={"credentials": value})
    (message,) = (check for check in check_pools() if f"'{alias}'" in check.msg)
    assert message.id == "djpool.E002"
    assert told in message.msg
    assert "hunter2" not in message.msg
    with pytest.raises(djpool.OptionsError, match=told):
        connections[alias].ensure_connection()


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_password_that_changes_every_second_fails_no_request(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    current = {"USER": "rotated", "PASSWORD": "the first", "expires_in": 3600}
    calls = []

    def provider() -> Mapping[str, Any]:
        calls.append(1)
        return dict(current)

    alias = without_login(
        engine, make_alias, provider, max_size=8, timeout=30, max_lifetime=0.4
    )
    failed: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                ask(alias)
            except Exception as error:  # noqa: BLE001 (the test shows it)
                failed.append(error)

    with postgres.admin() as admin:
        admin.execute("CREATE ROLE rotated LOGIN PASSWORD 'the first'")
        threads = [threading.Thread(target=work, daemon=True) for _ in range(20)]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + SECONDS
        rotations = 0
        while time.monotonic() < ends:
            time.sleep(1)
            password = secrets.token_urlsafe(12)
            change = sql.SQL("ALTER ROLE rotated PASSWORD {}")
            admin.execute(change.format(sql.Literal(password)))
            current["PASSWORD"] = password
            rotations += 1
        over.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        stats = djpool.stats(alias)
        djpool.close_all()
        admin.execute("DROP ROLE rotated")
    assert failed == []
    assert stats.opened_total > rotations
    assert stats.open_errors_total > 0
    assert len(calls) > 1
