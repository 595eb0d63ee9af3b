"""When the database goes away, and when it is back: every engine, real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connections

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import (
    CONNECTOR,
    MYSQL,
    ORACLE,
    POSTGRESQL,
    SERVERS,
    engine_of,
    server_database,
    server_of,
)
from tests.backends.load import LONG, Load, Request, at_once, count_out, with_idle_ones
from tests.servers.mysql import MySQLFamilyServer
from tests.servers.oracle import OracleServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy

MakeProxy = Callable[[str, int], Proxy]


@pytest.fixture(params=SERVERS)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine that speaks to a server."""
    name: str = request.param
    return name


@pytest.fixture
def server(engine: str, request: pytest.FixtureRequest) -> Any:
    """The engine's server."""
    return server_of(engine, request)


def behind(middle: Proxy, engine: str, make_alias: MakeAlias, **options: Any) -> str:
    """An alias whose server is on the other side of a proxy."""
    pool = engine_of(engine).pool | options
    return make_alias(engine, pool=pool, HOST=middle.host, PORT=str(middle.port))


# -- restarts and kills ------------------------------------------------------------


def test_after_a_restart_no_request_fails(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    """Ten idle connections, ten requests one after the other, ten at once."""
    alias = pooled(engine, make_alias, max_size=10)
    with_idle_ones(alias, 10)
    server.restart("immediate")
    assert [Request(alias).error for _ in range(10)] == [None] * 10
    with_idle_ones(alias, 10)
    server.restart("immediate")
    assert [each.error for each in at_once(alias, 10)] == [None] * 10
    count_out(alias)


@pytest.mark.parametrize("killed", [1, 5])
def test_after_some_sessions_were_killed_no_request_fails(
    killed: int, engine: str, make_alias: MakeAlias, server: Any
) -> None:
    alias = pooled(engine, make_alias, max_size=10)
    with_idle_ones(alias, killed)
    server.kill_sessions()
    assert [each.error for each in at_once(alias, 10) if each.error] == []
    count_out(alias)


def test_where_sockets_stay_open_a_ping_finds_dead_sessions(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    middle = proxy(server.host, server.port)
    alias = behind(
        middle, engine, make_alias, max_size=3, check=True, check_timeout=0.3
    )
    with_idle_ones(alias, 3)
    middle.black_hole()  # what is open stays silent for good
    middle.resume()
    assert [each.error for each in at_once(alias, 6) if each.error] == []
    middle.cut()
    count_out(alias)


@pytest.mark.parametrize("engine", ORACLE)
def test_sessions_of_oracle_that_were_killed_behind_open_sockets(
    engine: str, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    alias = pooled(engine, make_alias, max_size=10, check=True)
    with_idle_ones(alias, 10)
    assert oracle.emulated.kill_all("error") >= 10
    assert [Request(alias).error for _ in range(10)] == [None] * 10
    with_idle_ones(alias, 10)
    oracle.emulated.kill_all("error")
    assert [each.error for each in at_once(alias, 10) if each.error] == []


@pytest.mark.parametrize("engine", ORACLE)
def test_of_sessions_dead_behind_open_sockets_one_request_finds_all(
    engine: str, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    """Without a ping each time the first one fails; the others are pinged then."""
    alias = pooled(engine, make_alias, max_size=10)
    with_idle_ones(alias, 10)
    oracle.emulated.kill_all("error")
    errors = [Request(alias).error for _ in range(10)]
    assert "ORA-00028" in str(errors.pop(0))
    assert errors == [None] * 9
    count_out(alias)


def test_kills_under_load_fail_what_is_in_flight_only(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    killed = 0
    with Load(alias, 12) as load:
        for _ in range(3):
            load.goes_on()
            # The other way waits until there are none, of which this load sees to it
            # that there never are.
            emulator = getattr(server, "emulated", None)
            killed += emulator.kill_all() if emulator else server.kill_sessions()
        load.goes_on()
    # Each that was killed had at most one request; what was opened meanwhile, and
    # killed in the same moment, is among them.
    assert len(load.errors) <= killed
    count_out(alias)


def test_a_restart_under_load_fails_what_is_in_flight_only(
    engine: str, make_alias: MakeAlias, server: Any
) -> None:
    """And what asks for a connection while there is no server."""
    alias = pooled(engine, make_alias, max_size=5, timeout=LONG)
    with Load(alias, 12) as load:
        load.goes_on()
        server.restart("immediate")
        accepts = time.monotonic()
        load.goes_on()
    late = [each for each in load.errors if each.began > accepts]
    assert [each.error for each in late] == []
    count_out(alias)


# -- lifetimes -------------------------------------------------------------------


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
def test_sessions_that_the_server_ends_when_they_are_idle_fail_no_request(
    engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest
) -> None:
    """Each request comes after the server's wait_timeout is over."""
    server: MySQLFamilyServer = server_of(engine, request)
    with server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.wait_timeout")
        (before,) = cursor.fetchone() or (28800,)
        cursor.execute("SET GLOBAL wait_timeout = 1")
        try:
            alias = pooled(engine, make_alias, max_size=2)
            for count in (1, 2, 3):
                assert [each.error for each in at_once(alias, 2)] == [None] * 2
                assert djpool.stats(alias).opened_total >= count
                wait_until(lambda: server.sessions() == 0, "the sessions to be ended")
        finally:
            cursor.execute("SET GLOBAL wait_timeout = %s", [before])


# -- a server that is down -----------------------------------------------------------


def test_a_server_that_is_down_fails_all_callers_at_once(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    """With the driver's own error; and the first request after it is answered."""
    middle = proxy(server.host, server.port)
    alias = behind(middle, engine, make_alias, max_size=4, timeout=LONG)
    with_idle_ones(alias, 4)
    middle.stop()
    middle.cut()
    done = at_once(alias, 32)
    assert all(isinstance(each.error, Error) for each in done)
    assert not any(isinstance(each.error, djpool.PoolError) for each in done)
    assert max(each.seconds for each in done) < LONG / 2
    middle.resume()
    assert Request(alias).error is None
    count_out(alias)


def test_in_a_black_hole_the_deadline_is_the_deadline(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    """For who connects and for who waits; and the first request after it is answered.

    Drivers count whole seconds, libpq not less than two.
    """
    middle = proxy(server.host, server.port)
    alias = behind(middle, engine, make_alias, max_size=2, timeout=2)
    middle.black_hole()
    done = at_once(alias, 8)
    assert all(isinstance(each.error, Error) for each in done)
    assert max(each.seconds for each in done) < 15
    middle.resume()
    assert Request(alias).error is None
    count_out(alias)


def test_what_cannot_be_rolled_back_in_time_is_closed(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    """A request that leaves a transaction to a server which is silent then."""
    middle = proxy(server.host, server.port)
    alias = behind(middle, engine, make_alias, max_size=1, check_timeout=0.3)
    wrapper = connections[alias]
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE unfinished (a INT)")
    try:
        wrapper.set_autocommit(False)
        wrapper.cursor().execute("INSERT INTO unfinished VALUES (1)")
        middle.black_hole()
        wrapper.close()
        assert djpool.stats(alias).closed_total["broken"] == 1
        middle.stop()
        middle.cut()
        middle.resume()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM unfinished")
            assert cursor.fetchone() == (0,)
    finally:
        with wrapper.cursor() as cursor:
            cursor.execute("DROP TABLE unfinished")
        wrapper.close()


def test_behind_a_connect_in_a_black_hole_others_are_opened(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    """Long before that one gives up."""
    middle = proxy(server.host, server.port)
    alias = behind(middle, engine, make_alias, max_size=4, timeout=LONG)
    middle.black_hole()
    lost = threading.Thread(target=lambda: Request(alias), daemon=True)
    lost.start()
    wait_until(lambda: djpool.stats(alias).opening == 1, "a connect to begin")
    wait_until(lambda: middle.connections == 1, "it to be lost")
    middle.resume()
    assert Request(alias).error is None
    assert lost.is_alive()
    middle.cut()
    lost.join(LONG)
    count_out(alias)


def test_a_server_that_pauses_is_waited_for(
    engine: str, make_alias: MakeAlias, server: Any, proxy: MakeProxy
) -> None:
    middle = proxy(server.host, server.port)
    alias = behind(middle, engine, make_alias, max_size=4, timeout=LONG)
    middle.pause()
    callers = threading.Thread(target=at_once, args=[alias, 8], daemon=True)
    callers.start()
    wait_until(lambda: djpool.stats(alias).opening >= 1, "a connect to begin")
    wait_until(lambda: djpool.stats(alias).waiting >= 1, "somebody to wait")
    middle.resume()
    callers.join(LONG)
    stats = djpool.stats(alias)
    assert (stats.timeouts_total, stats.open_errors_total) == (0, 0)
    assert stats.acquired_total == 8
    count_out(alias)


# -- a server that is full, or starts --------------------------------------------------


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_beside_others_that_fill_the_server_a_pool_does_with_what_it_has(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """Three connections are all there are, and twelve callers want ten."""
    with postgres.admin() as admin:
        admin.execute("CREATE ROLE crowd LOGIN PASSWORD 'crowd' CONNECTION LIMIT 3")
    pool = engine_of(engine).pool | {"max_size": 10, "timeout": LONG}
    alias = make_alias(engine, pool=pool, USER="crowd", PASSWORD="crowd")
    try:
        with Load(alias, 12) as load:
            load.goes_on(500)
        assert [each.error for each in load.errors] == []
        assert djpool.stats(alias).opened_total == 3
    finally:
        djpool.close_all()
        wait_until(lambda: postgres.sessions("crowd") == 0, "its sessions to end")
        with postgres.admin() as admin:
            admin.execute("DROP ROLE crowd")


@pytest.mark.parametrize("engine", MYSQL)
def test_a_full_mysql_is_told_of_in_its_own_words(
    engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest
) -> None:
    server: MySQLFamilyServer = server_of(engine, request)
    with server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_connections")
        (before,) = cursor.fetchone() or (151,)
        cursor.execute("SET GLOBAL max_connections = 10")
        alias = pooled(engine, make_alias, max_size=20, timeout=LONG)
        wrappers = [connections.create_connection(alias) for _ in range(20)]

        def take_all() -> None:
            for wrapper in wrappers:
                wrapper.ensure_connection()

        try:
            with pytest.raises(Error, match="Too many connections"):
                take_all()
            assert djpool.stats(alias).in_use < 20
        finally:
            for wrapper in wrappers:
                wrapper.close()
            cursor.execute("SET GLOBAL max_connections = %s", [before])
    assert Request(alias).error is None


def test_an_oracle_without_room_is_told_of_in_its_own_words(
    make_alias: MakeAlias, oracle: OracleServer
) -> None:
    alias = pooled("oracle", make_alias, max_size=4, timeout=LONG)
    oracle.emulated.max_sessions = 0
    try:
        error = Request(alias).error
    finally:
        oracle.emulated.max_sessions = None
    assert "ORA-00018" in str(error)
    assert Request(alias).error is None


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_postgresql_that_starts_is_waited_for_a_little(
    engine: str, make_alias: MakeAlias
) -> None:
    """A standby that takes no sessions says what a starting server says."""
    with PostgresServer() as server:
        alias = make_alias(
            engine,
            pool=engine_of(engine).pool | {"timeout": LONG},
            **server_database(server),
        )
        assert Request(alias).error is None
        server.stop()
        server.start_cold()
        error = Request(alias).error
        assert error is not None
        assert "the database system is" in str(error)
        assert not isinstance(error, djpool.PoolError)
        waiting = threading.Thread(target=lambda: done.append(Request(alias)))
        done: list[Request] = []
        failures = djpool.stats(alias).open_errors_total
        waiting.start()
        wait_until(
            lambda: djpool.stats(alias).open_errors_total > failures, "it to try"
        )
        server.promote()
        waiting.join(LONG)
        assert [each.error for each in done] == [None]
        djpool.close_all()
