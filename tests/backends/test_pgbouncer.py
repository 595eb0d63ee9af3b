"""Behind PgBouncer, which pools by transaction what djpool pools by request."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, Protocol

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, connections, transaction

import djpool
from djpool import poolers
from tests.backends.conftest import MakeAlias
from tests.backends.engines import OTHER_DRIVERS, POSTGRESQL, engine_of
from tests.backends.test_round_trips import request, statements
from tests.servers.pgbouncer import SETTINGS, PgBouncer, version
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.proxy import Proxy

PAGE = Path(__file__).parents[2] / "docs" / "pgbouncer.md"
INI = re.compile(r"^```ini\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Behind(Protocol):
    """What the `behind` fixture gives."""

    def __call__(
        self, server: PgBouncer | Proxy, /, *, pool: Any = None, **options: Any
    ) -> str:
        """Make an alias that goes through a PgBouncer, set up as documented."""


@pytest.fixture(params=POSTGRESQL)
def engine(request: pytest.FixtureRequest) -> str:
    """PostgreSQL's engines."""
    name: str = request.param
    return name


@pytest.fixture
def behind(make_alias: MakeAlias, engine: str) -> Behind:
    """Give a function that makes an alias."""
    return lambda server, /, *, pool=None, **options: make_alias(
        engine,
        pool=engine_of(engine).pool | {"timeout": 20, "reset": "never"} | (pool or {}),
        HOST=server.host,
        PORT=str(server.port),
        DISABLE_SERVER_SIDE_CURSORS=True,
        OPTIONS=options,
    )


def ask(alias: str, sql: str = "SELECT 1") -> Any:
    """Ask on a Django connection of one's own, as each ASGI request has it."""
    wrapper = connections.create_connection(alias)
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]
    finally:
        wrapper.close()


def serves(pgbouncer: PgBouncer) -> bool:
    """Whether a client without a pool is served."""
    try:
        pgbouncer.ask("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    """Have that many threads do it at the same time; return what they got."""
    barrier = Barrier(count)

    def begin() -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(count) as threads:
        return [done.result() for done in [threads.submit(begin) for _ in range(count)]]


def one_by_one(count: int, work: Callable[[], Any]) -> list[Any]:
    """Do it that many times; return what came of it."""
    return [work() for _ in range(count)]


def fill(alias: str, size: int) -> None:
    """Have a pool open that many connections, idle then."""
    wrappers = [connections.create_connection(alias) for _ in range(size)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == size


def test_a_clean_request_costs_no_other_statement(
    behind: Behind, pgbouncer: PgBouncer, postgres: PostgresServer
) -> None:
    """Neither of djpool's nor of PgBouncer's."""
    alias = behind(pgbouncer)
    request(alias)
    mark = postgres.mark()
    for _ in range(10):
        request(alias)
    wait_until(lambda: len(statements(postgres.log_since(mark))) >= 10, "the log")
    logged = statements(postgres.log_since(mark))
    assert len(logged) == 10
    assert all("SELECT 'mine'" in line for line in logged)


def test_many_connections_share_few_sessions(
    behind: Behind, postgres: PostgresServer
) -> None:
    """What PgBouncer is for: none fails, and the server has no more than it allows."""
    with PgBouncer(postgres, SETTINGS | {"default_pool_size": "3"}) as pgbouncer:
        alias = behind(pgbouncer, pool={"max_size": 12})

        def work() -> set[Any]:
            return {
                ask(alias, "SELECT pg_backend_pid() FROM pg_sleep(0.01)")
                for _ in range(10)
            }

        sessions = set().union(*at_once(12, work))
        assert len(sessions) == 3
        told = pgbouncer.pools()
        assert told["cl_active"] == djpool.stats(alias).size > 3
        djpool.close_all()


def test_a_transaction_stays_in_its_session(
    behind: Behind, pgbouncer: PgBouncer
) -> None:
    """While others come and go, and for as long as Django says."""
    alias = behind(pgbouncer, pool={"max_size": 8})
    begun = Barrier(8)

    def work() -> set[Any]:
        with transaction.atomic(alias):
            pids = set()
            for number in range(10):
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid() FROM pg_sleep(0.002)")
                    pids.add(cursor.fetchone()[0])
                if number == 0:
                    begun.wait()  # all are in transactions now
        connections[alias].close()
        return pids

    everyone = at_once(8, work)
    assert all(len(pids) == 1 for pids in everyone)
    assert len(set().union(*everyone)) == 8


@pytest.mark.parametrize("what", ["pgbouncer", "postgres"])
def test_idle_connections_survive_a_restart(
    what: str, behind: Behind, pgbouncer: PgBouncer, postgres: PostgresServer
) -> None:
    """Of either: no request fails that begins when it is up again."""
    alias = behind(pgbouncer, pool={"max_size": 10})
    for requests in (at_once, one_by_one):
        fill(alias, 10)
        if what == "pgbouncer":
            pgbouncer.restart()
        else:
            postgres.restart("immediate")
            # It does not try at once, if it tried too early: server_login_retry.
            wait_until(lambda: serves(pgbouncer), "PgBouncer to see the server again")
        assert requests(10, lambda: ask(alias)) == [1] * 10
    assert djpool.stats(alias).size <= 10


def test_a_pgbouncer_that_is_away_is_its_own_error(
    behind: Behind, pgbouncer: PgBouncer
) -> None:
    """At once; and it is found again without a pause."""
    alias = behind(pgbouncer)
    assert ask(alias) == 1
    pgbouncer.end()
    with pytest.raises(DatabaseError, match="refused"):
        ask(alias)
    pgbouncer.start()
    assert ask(alias) == 1


def test_rows_can_be_iterated_over_without_cursors_on_the_server(
    behind: Behind, pgbouncer: PgBouncer
) -> None:
    """DISABLE_SERVER_SIDE_CURSORS: others have the session between two pieces."""
    from django.contrib.contenttypes.models import ContentType

    alias = behind(pgbouncer)
    with connections[alias].schema_editor() as editor:
        editor.create_model(ContentType)
    try:
        rows = ContentType.objects.using(alias)
        rows.bulk_create(
            ContentType(app_label="shop", model=str(number)) for number in range(500)
        )
        seen = 0
        for _row in rows.iterator(chunk_size=100):
            seen += 1
            if seen % 100 == 0:
                assert ask(alias) == 1
        assert seen == 500
    finally:
        with connections[alias].schema_editor() as editor:
            editor.delete_model(ContentType)
        connections[alias].close()


# ---- prepared statements ---------------------------------------------------------

needs_psycopg3 = pytest.mark.skipif(
    OTHER_DRIVERS, reason="psycopg2 prepares no statements"
)


@needs_psycopg3
def test_without_prepared_statements_any_connection_serves_any_statement(
    behind: Behind, pgbouncer: PgBouncer, postgres: PostgresServer
) -> None:
    """Django's default, said out loud; also with parameters bound by the server."""
    alias = behind(pgbouncer, prepare_threshold=None, server_side_binding=True)
    mark = postgres.mark()

    def work() -> list[int]:
        wrapper = connections.create_connection(alias)
        with wrapper.cursor() as cursor:
            answers = []
            for number in range(20):
                cursor.execute("SELECT %s::int", [number])
                answers.append(cursor.fetchone()[0])
        wrapper.close()
        return answers

    assert at_once(5, work) == [list(range(20))] * 5
    assert "_pg3_" not in postgres.log_since(mark)


@needs_psycopg3
def test_a_threshold_means_nothing_unless_the_server_binds(
    behind: Behind, pgbouncer: PgBouncer, postgres: PostgresServer
) -> None:
    """As long as Django puts the parameters in, psycopg prepares no statement."""
    # Nor does djpool, when it asks what the session is like.
    alias = behind(pgbouncer, pool={"reset": "auto"}, prepare_threshold=0)
    mark = postgres.mark()
    assert at_once(5, lambda: [ask(alias) for _ in range(20)]) == [[1] * 20] * 5
    assert "_pg3_" not in postgres.log_since(mark)


PREPARING = {"prepare_threshold": 0, "server_side_binding": True}


@needs_psycopg3
@pytest.mark.skipif(version() >= (1, 21), reason="this PgBouncer knows them")
def test_prepared_statements_fail_with_an_old_pgbouncer(
    behind: Behind, pgbouncer: PgBouncer
) -> None:
    """They do with any client. The pool suffers no harm from it."""
    alias = behind(pgbouncer, pool={"max_size": 2}, **PREPARING)
    # Each connection names its first one alike, and both meet in one session.
    wrappers = [connections.create_connection(alias) for _ in range(2)]
    with wrappers[0].cursor() as cursor:
        cursor.execute("SELECT 'one'")
    with (
        pytest.raises(DatabaseError, match="already exists"),
        wrappers[1].cursor() as cursor,
    ):
        cursor.execute("SELECT 'two'")
    for wrapper in wrappers:
        wrapper.close()
    stats = djpool.stats(alias)
    assert (stats.in_use, stats.idle) == (0, 2)


@needs_psycopg3
@pytest.mark.skipif(version() < (1, 21), reason="this PgBouncer does not know them")
def test_prepared_statements_work_with_a_new_pgbouncer(
    behind: Behind, postgres: PostgresServer
) -> None:
    with PgBouncer(
        postgres, SETTINGS | {"max_prepared_statements": "200"}
    ) as pgbouncer:
        alias = behind(pgbouncer, **PREPARING)
        assert at_once(5, lambda: [ask(alias) for _ in range(20)]) == [[1] * 20] * 5
        djpool.close_all()


# ---- as documented ---------------------------------------------------------------


def test_the_documented_configuration_is_one(
    behind: Behind, postgres: PostgresServer
) -> None:
    """PgBouncer starts with it, and serves. Where and who is the tests' own."""
    (text,) = INI.findall(PAGE.read_text())
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    settings = dict(parser["pgbouncer"])
    assert settings["pool_mode"] == "transaction"
    with PgBouncer(postgres, settings) as pgbouncer:
        alias = behind(pgbouncer)
        assert at_once(10, lambda: ask(alias)) == [1] * 10
        djpool.close_all()


# ---- the check -------------------------------------------------------------------


TRANSACTION = {"release": "transaction"}


def checked(alias: str) -> str:
    """What `check --database` says of an alias."""
    try:
        call_command("check", databases=[alias], fail_level="WARNING")
    except SystemCheckError as error:
        return str(error)
    return ""


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Wait for the check's threads, that they may not disturb what follows."""
    import threading

    yield
    wait_until(
        lambda: "djpool-poolers" not in [each.name for each in threading.enumerate()],
        "the check's thread to end",
    )


def test_two_poolers_by_transaction_are_warned_of(
    behind: Behind, pgbouncer: PgBouncer
) -> None:
    alias = behind(pgbouncer, pool=TRANSACTION)
    said = checked(alias)
    assert "djpool.W002" in said
    assert f"DATABASES['{alias}']" in said
    assert 'Set release to "request"' in said
    assert checked(behind(pgbouncer)) == ""


def test_a_server_itself_and_a_pooler_by_session_are_not_warned_of(
    make_alias: MakeAlias, engine: str, behind: Behind, postgres: PostgresServer
) -> None:
    direct = make_alias(engine, pool=engine_of(engine).pool | TRANSACTION)
    mark = postgres.mark()
    assert checked(direct) == ""
    wait_until(lambda: "pg_backend_pid" in postgres.log_since(mark), "the log")
    assert postgres.log_since(mark).count("SELECT pg_backend_pid()") == 1
    with PgBouncer(postgres, SETTINGS | {"pool_mode": "session"}) as pgbouncer:
        assert checked(behind(pgbouncer, pool=TRANSACTION)) == ""


def test_what_cannot_be_told_is_no_failure(
    behind: Behind,
    postgres: PostgresServer,
    proxy: Callable[[str, int], Proxy],
    monkeypatch: pytest.MonkeyPatch,
    no_threads_left: None,
) -> None:
    """Nor is it waited for: a server that is away, silent, or has nothing to spare."""
    monkeypatch.setattr(poolers, "PATIENCE", 0.5)
    one = SETTINGS | {"pool_mode": "session", "default_pool_size": "1"}
    with PgBouncer(postgres, one | {"query_wait_timeout": "3"}) as pgbouncer:
        assert checked(behind(pgbouncer, pool=TRANSACTION)) == ""
        between = proxy(pgbouncer.host, pgbouncer.port)
        silent = behind(between, pool=TRANSACTION)
        between.black_hole()
        assert checked(silent) == ""
        between.stop()
        between.cut()
        assert checked(silent) == ""
