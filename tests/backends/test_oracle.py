"""Oracle Database, through python-oracledb over the wire.

The server is an emulator, or the database that DJPOOL_ORACLE_DSN names. What only
an emulator can tell or do is asked of the fixture `emulator`.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import oracledb
import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connections, models, transaction
from django.db.backends.signals import connection_created

import djpool
from djpool.adapters.oracledb import CREATE_POOL_KEYS, adapter
from djpool.adapters.oracledb_inside import Haste
from djpool.core.options import Offer, PoolOptions, parse
from tests.backends.conftest import MakeAlias, raw_of
from tests.servers.oracle import OracleServer
from tests.servers.oracle_emulator import (
    ORACLE_19,
    ORACLE_19_BOUNDARIES,
    ORACLE_23,
    OracleEmulator,
)
from tests.servers.process import free_port, wait_until
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from django.db.models.manager import Manager

DIALECTS = {
    "19": ORACLE_19,
    "19 with boundaries": ORACLE_19_BOUNDARIES,
    "23": ORACLE_23,
}

MakeProxy = Callable[[str, int], Proxy]
OracleAlias = Callable[..., str]


class Thing(models.Model):
    """Something to ask for."""

    objects: ClassVar[Manager[Thing]]

    name: models.CharField[str, str] = models.CharField(max_length=50)

    class Meta:
        app_label = "oracle_tests"

    def __str__(self) -> str:
        return self.name


@pytest.fixture(params=["native", "fallback"])
def implementation(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make(
    implementation: str, make_alias: MakeAlias, oracle: OracleServer
) -> OracleAlias:
    """Makes an alias for the server: `make({"max_size": 2}, HOST=…)`."""

    def alias_for(pool: dict[str, Any] | None = None, **changes: Any) -> str:
        options = {"implementation": implementation, "timeout": 10, **(pool or {})}
        return make_alias("oracle", pool=options, **oracle.databases(**changes))

    return alias_for


@pytest.fixture
def between(oracle: OracleServer, proxy: MakeProxy) -> Proxy:
    """A proxy in front of the server."""
    return proxy(oracle.host, oracle.port)


@pytest.fixture
def emulator(oracle: OracleServer) -> Iterator[OracleEmulator]:
    """The server's inside, with no session in it."""
    if oracle.emulator is None:
        pytest.skip("a real database does not count for us, or end sessions")
    wait_until(lambda: not oracle.sessions(), "earlier sessions to end")
    yield oracle.emulator
    assert not oracle.emulator.protocol_errors


def ask(alias: str, sql: str = "SELECT 1 FROM DUAL") -> Any:
    """A request on a Django connection of its own, as under ASGI: its first value."""
    wrapper = connections.create_connection(alias)
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]
    finally:
        wrapper.close()


def fill(alias: str, count: int) -> None:
    """Leave so many idle sessions in the pool."""
    wrappers = [connections.create_connection(alias) for _ in range(count)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    assert djpool.stats(alias).idle == count


# -- what it costs -------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_clean_request_is_one_round_trip(
    dialect: str,
    implementation: str,
    make_alias: MakeAlias,
    emulator: OracleEmulator,
) -> None:
    """Its own statement, through the ORM, whatever the server's version."""
    with OracleServer(DIALECTS[dialect]) as server:
        alias = make_alias(
            "oracle", pool={"implementation": implementation}, **server.databases()
        )
        with connections[alias].schema_editor() as editor:
            editor.create_model(Thing)
        Thing.objects.using(alias).create(name="lamp")
        connections[alias].close()

        def request() -> None:
            connections[alias] = connections.create_connection(alias)
            found = Thing.objects.using(alias).filter(name__contains="am")
            assert [thing.name for thing in found] == ["lamp"]
            connections[alias].close()

        request()
        for _ in range(5):
            with server.emulated.counting() as seen:
                request()
            assert seen == {"REEXECUTE_AND_FETCH": 1}
        assert djpool.stats(alias).opened_total == 1
        djpool.close_all()


def test_sessions_are_prepared_once_each(
    make: OracleAlias, oracle: OracleServer, emulator: OracleEmulator
) -> None:
    """Django's own pool has two ALTER SESSIONs and the look at LIKE per checkout."""
    alias, mark = make(), oracle.mark()
    for _ in range(10):
        fill(alias, 2)
    told = oracle.log_since(mark).splitlines()
    assert len([line for line in told if "ALTER SESSION" in line]) == 2 * 2
    assert len([line for line in told if "FROM DUAL WHERE DUMMY" in line]) == 2
    # And a look at what it has been given, to be restored to that.
    assert len([line for line in told if "NLS_SESSION_PARAMETERS" in line]) == 2
    assert len(told) == 2 * 4


def test_getting_and_giving_back_says_nothing_at_all(
    make: OracleAlias, between: Proxy
) -> None:
    alias = make(HOST=between.host, PORT=between.port)
    ask(alias)
    ask(alias)
    before = between.bytes_to_server
    ask(alias)
    single = between.bytes_to_server - before
    for _ in range(10):
        ask(alias)
    assert between.bytes_to_server - before == 11 * single
    before = between.bytes_to_server
    for _ in range(10):
        fill(alias, 1)
    assert between.bytes_to_server == before
    assert djpool.stats(alias).checks_total == 0


def test_what_django_learns_of_the_server_is_learnt_once(make: OracleAlias) -> None:
    alias = make()
    ask(alias)
    wrapper: Any = connections.create_connection(alias)
    wrapper.ensure_connection()
    assert {"operators", "pattern_ops"} <= vars(wrapper).keys()
    wrapper.close()


# -- how many ------------------------------------------------------------------------


def test_sessions_never_exceed_max_size(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    """Also while threads fight for them and some are killed and replaced."""
    alias = make({"max_size": 3})
    emulator.stats.peak_sessions = 0
    wrong: list[Exception] = []
    # What is said of sessions that were killed in the middle of it.
    killed = re.compile("DPY-4011|ended while it was prepared")

    def work() -> None:
        for _ in range(15):
            try:
                ask(alias)
            except DatabaseError as error:
                if not killed.search(str(error)):
                    wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        emulator.kill_all()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= emulator.stats.peak_sessions <= 3
    stats = djpool.stats(alias)
    assert stats.in_use == stats.opening == 0
    fill(alias, 3)


def test_the_driver_s_pool_counts_what_djpool_counts(make: OracleAlias) -> None:
    alias = make({"max_size": 4})
    fill(alias, 3)
    pool = djpool.pool(alias)
    if pool.stats().implementation == "fallback":
        assert pool.native is None
        return
    assert isinstance(pool.native, oracledb.ConnectionPool)
    assert (pool.native.opened, pool.native.busy) == (3, 3)
    pool.resize(max_size=2)
    assert (pool.native.opened, pool.native.busy) == (2, 2)
    pool.drain()
    assert (pool.native.opened, pool.native.busy) == (0, 0)


def test_a_session_that_django_could_not_prepare_is_struck_off(
    make: OracleAlias,
) -> None:
    def refuse(**_kwargs: Any) -> None:
        raise ValueError("not today")

    alias = make()
    connection_created.connect(refuse)
    try:
        for _ in range(3):
            with pytest.raises(ValueError, match="not today"):
                ask(alias)
    finally:
        connection_created.disconnect(refuse)
    pool = djpool.pool(alias)
    assert pool.stats().size == 0
    if pool.native is not None:
        assert (pool.native.opened, pool.native.busy) == (0, 0)
    fill(alias, 3)


def test_a_receiver_of_connection_created_may_use_another_alias(
    make: OracleAlias, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    """Of another user, and not pooled: its connection is not the pool's."""
    alias = make()
    other = make_alias("oracle", pool=None, **oracle.databases(PASSWORD="wrong"))

    def use_other(connection: Any, **_kwargs: Any) -> None:
        if connection.alias == alias:
            with pytest.raises(DatabaseError, match="ORA-01017"):
                connections[other].ensure_connection()

    connection_created.connect(use_other)
    try:
        assert ask(alias) == 1
    finally:
        connection_created.disconnect(use_other)
    assert djpool.stats(alias).opened_total == 1


@pytest.mark.parametrize("end", ["drain", "close", "close_all"])
def test_no_session_is_left(
    end: str, make: OracleAlias, emulator: OracleEmulator
) -> None:
    """Neither on the server, nor as a socket here."""
    alias = make()
    fill(alias, 3)
    assert len(emulator.sessions()) == 3
    pool = djpool.pool(alias)
    if end == "close_all":
        djpool.close_all()
    else:
        getattr(pool, end)()
    assert not emulator.sessions()
    assert pool.stats().size == 0
    gc.collect()  # a socket left open would say so


def test_a_pool_that_is_closed_takes_no_lease_away(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    alias = make()
    wrapper = connections.create_connection(alias)
    wrapper.ensure_connection()
    djpool.pool(alias).close()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1 FROM DUAL")
        assert cursor.fetchone() == (1,)
    assert len(emulator.sessions()) == 1
    wrapper.close()
    assert not emulator.sessions()


# -- what comes back -----------------------------------------------------------------


def test_a_transaction_is_rolled_back(make: OracleAlias) -> None:
    alias = make({"max_size": 1})
    ask_nothing(alias, "CREATE TABLE djpool_rolled_back (n NUMBER)")
    try:
        wrapper = connections.create_connection(alias)
        wrapper.set_autocommit(False)
        with wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO djpool_rolled_back VALUES (1)")
        wrapper.close()
        assert ask(alias, "SELECT COUNT(*) FROM djpool_rolled_back") == 0
        ask_nothing(alias, "INSERT INTO djpool_rolled_back VALUES (2)")
        assert ask(alias, "SELECT COUNT(*) FROM djpool_rolled_back") == 1
        assert djpool.stats(alias).opened_total == 1
    finally:
        ask_nothing(alias, "DROP TABLE djpool_rolled_back")


def ask_nothing(alias: str, sql: str) -> None:
    """A statement that returns no rows, as a request of its own."""
    wrapper = connections.create_connection(alias)
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
    finally:
        wrapper.close()


def test_atomic_blocks_and_savepoints(make: OracleAlias) -> None:
    alias = make()
    ask_nothing(alias, "CREATE TABLE djpool_atomic (n NUMBER)")
    wrapper = connections[alias]
    try:
        with transaction.atomic(using=alias), wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO djpool_atomic VALUES (1)")

            def fail() -> None:
                with transaction.atomic(using=alias):
                    cursor.execute("INSERT INTO djpool_atomic VALUES (2)")
                    cursor.execute("INSERT INTO nowhere VALUES (2)")

            with pytest.raises(DatabaseError):
                fail()
        wrapper.close()
        assert ask(alias, "SELECT COUNT(*) FROM djpool_atomic") == 1
    finally:
        wrapper.close()
        ask_nothing(alias, "DROP TABLE djpool_atomic")


def test_what_the_driver_keeps_of_a_connection_does_not_reach_the_next_lease(
    make: OracleAlias,
) -> None:
    alias = make()
    wrapper = connections.create_connection(alias)
    wrapper.ensure_connection()
    raw = raw_of(wrapper)
    before = {name: getattr(raw, name) for name in KEPT}
    raw.autocommit = False
    raw.call_timeout = 1234
    raw.stmtcachesize = 3
    raw.inputtypehandler = raw.outputtypehandler = lambda *_args: None
    wrapper.close()
    again = connections.create_connection(alias)
    again.ensure_connection()
    assert raw_of(again) is raw
    assert {name: getattr(raw, name) for name in KEPT} == before
    again.close()


KEPT = [
    "autocommit", "call_timeout", "stmtcachesize",
    "inputtypehandler", "outputtypehandler",
]  # fmt: skip


# -- when something is wrong -----------------------------------------------------------


def test_a_wrong_password_is_the_server_s_own_error_and_counts_once(
    make: OracleAlias, oracle: OracleServer
) -> None:
    """The driver's own pool tries twice, and so locks accounts in half the time."""
    alias = make(PASSWORD="wrong")
    failed = oracle.emulator.stats.logons_failed if oracle.emulator else 0
    with pytest.raises(DatabaseError, match="ORA-01017"):
        ask(alias)
    stats = djpool.stats(alias)
    assert (stats.open_errors_total, stats.size, stats.timeouts_total) == (1, 0, 0)
    djpool.close_all()  # what it would try again, it has tried by then
    if oracle.emulator is not None:
        assert oracle.emulator.stats.logons_failed == failed + 1


def test_nobody_listens(make: OracleAlias) -> None:
    """Said at once, though a connect string would have the driver try for a minute."""
    address = f"(ADDRESS=(PROTOCOL=TCP)(HOST=127.0.0.1)(PORT={free_port()}))"
    name = (
        f"(DESCRIPTION=(RETRY_COUNT=20)(RETRY_DELAY=3){address}"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))"
    )
    alias = make({"timeout": 30}, NAME=name)
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"DPY-6005[^\0]*refused"):
        ask(alias)
    assert time.monotonic() - began < 15
    assert djpool.stats(alias).size == 0


def test_an_unknown_service_is_the_listener_s_own_error(
    make: OracleAlias, oracle: OracleServer
) -> None:
    alias = make(NAME=f"{oracle.host}:{oracle.port}/nowhere")
    with pytest.raises(OperationalError, match="DPY-6001"):
        ask(alias)


def test_too_many_sessions_is_the_server_s_own_error(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    alias = make({"max_size": 2})
    emulator.max_sessions = 1
    first = connections.create_connection(alias)
    try:
        first.ensure_connection()
        with pytest.raises(DatabaseError, match="ORA-00018"):
            ask(alias)
        assert djpool.stats(alias).size == 1
    finally:
        emulator.max_sessions = None
        first.close()
    fill(alias, 2)


def test_a_server_that_accepts_and_says_nothing_costs_the_deadline(
    make: OracleAlias, between: Proxy
) -> None:
    """And no more: the next one that answers is used."""
    alias = make({"timeout": 0.5}, HOST=between.host, PORT=between.port)
    between.black_hole()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(OperationalError, match=r"in 0\.[45]\d* s \(timeout\)") as e:
            ask(alias)
        assert time.monotonic() - began < 10
        assert isinstance(e.value.__cause__, oracledb.OperationalError)
        assert "DPY-" in str(e.value)
        assert djpool.stats(alias).size == 0
    between.resume()
    assert ask(alias) == 1
    wait_until(lambda: between.connections == 1, "the others to be given up")


def test_an_interrupted_connect_leaves_nothing_behind(
    make: OracleAlias, between: Proxy
) -> None:
    """Such as by ^C, or by the worker's own idea of a timeout."""
    alias = make({"max_size": 1, "timeout": 60}, HOST=between.host, PORT=between.port)

    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    between.black_hole()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            ask(alias)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wait_until(lambda: not between.connections, "the connect to be given up")
    between.resume()
    assert djpool.stats(alias).size == 0
    assert ask(alias) == 1
    assert between.connections == 1


def test_the_deadline_covers_what_is_said_after_the_logon(
    make: OracleAlias, between: Proxy
) -> None:
    """Django has three statements there. The server goes silent just before."""
    alias = make(
        {"timeout": 1},
        HOST=between.host,
        PORT=between.port,
        OPTIONS={"on_connect_callback": lambda _connection: between.black_hole()},
    )
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"\(timeout\)"):
        ask(alias)
    assert time.monotonic() - began < 10
    assert djpool.stats(alias).size == 0


@pytest.mark.parametrize(("wanted", "left", "limit"), [(20, 5, 5), (3, 5, 3)])
def test_a_shorter_limit_of_the_connect_string_stands(
    wanted: float, left: float, limit: float
) -> None:
    params = oracledb.ConnectParams()
    params.parse_connect_string(
        f"(DESCRIPTION=(TRANSPORT_CONNECT_TIMEOUT={wanted})(RETRY_COUNT=20)"
        "(ADDRESS=(PROTOCOL=TCP)(HOST=db)(PORT=1521))(CONNECT_DATA=(SID=x)))"
    )
    haste = Haste(params._impl)
    for seconds in (left, left + 1, left):  # connects of the same pool
        haste.apply(seconds)
    assert (params.tcp_connect_timeout, params.retry_count) == (limit, 0)


def test_one_deadline_for_all_addresses(make: OracleAlias, proxy: MakeProxy) -> None:
    """The driver tries one after the other; none of these answers."""
    holes = [proxy("127.0.0.1", free_port()) for _ in range(3)]
    for hole in holes:
        hole.black_hole()
    addresses = "".join(
        f"(ADDRESS=(PROTOCOL=TCP)(HOST={hole.host})(PORT={hole.port}))"
        for hole in holes
    )
    alias = make(
        {"timeout": 1},
        NAME=f"(DESCRIPTION=(ADDRESS_LIST={addresses})"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))",
    )
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"\(timeout\)"):
        ask(alias)
    assert time.monotonic() - began < 10


def test_idle_sessions_that_were_cut_off_fail_no_request(
    make: OracleAlias, between: Proxy
) -> None:
    alias = make({"max_size": 6}, HOST=between.host, PORT=between.port)
    fill(alias, 6)
    assert between.cut() == 6
    for _ in range(6):
        assert ask(alias) == 1
    stats = djpool.stats(alias)
    assert stats.closed_total["broken"] == 6
    assert stats.opened_total == 7
    gc.collect()  # a socket left open would say so


def test_a_restart_fails_no_request(
    make: OracleAlias, oracle: OracleServer, emulator: OracleEmulator
) -> None:
    alias = make({"max_size": 5})
    fill(alias, 5)
    oracle.restart()
    for _ in range(10):
        assert ask(alias) == 1
    fill(alias, 5)
    assert len(emulator.sessions()) == 5


def test_a_session_that_was_killed_behind_an_open_socket_is_found_by_a_ping(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    """ALTER SYSTEM KILL SESSION, without IMMEDIATE."""
    alias = make({"check": True})
    fill(alias, 2)
    assert emulator.kill_all("error") == 2
    for _ in range(2):
        assert ask(alias) == 1
    assert djpool.stats(alias).check_failures_total >= 1


def test_a_session_that_the_server_announces_to_end_is_not_lent(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    """In-band notification: idle for too long, or planned maintenance."""
    alias = make()
    fill(alias, 1)
    (doomed,) = emulator.sessions()
    doomed.notify(2396)
    assert ask(alias) == 1
    assert djpool.stats(alias).closed_total["broken"] == 1
    wait_until(lambda: emulator.session(doomed.sid) is None, "the session to end")


def test_a_ping_has_a_deadline(make: OracleAlias, between: Proxy) -> None:
    """What went silent looks alive; only a ping can tell."""
    alias = make(
        {"check": True, "check_timeout": 0.2}, HOST=between.host, PORT=between.port
    )
    fill(alias, 1)
    between.black_hole()  # what is open now stays silent for good
    between.resume()
    began = time.monotonic()
    assert ask(alias) == 1
    assert time.monotonic() - began < 8
    stats = djpool.stats(alias)
    assert stats.check_failures_total == stats.closed_total["broken"] == 1


def test_closing_what_went_silent_does_not_hang(
    make: OracleAlias, between: Proxy
) -> None:
    alias = make(HOST=between.host, PORT=between.port)
    fill(alias, 2)
    between.black_hole()
    began = time.monotonic()
    djpool.pool(alias).close()
    assert time.monotonic() - began < 10
    assert djpool.stats(alias).size == 0


def test_a_session_that_ends_while_django_prepares_it_is_not_lent(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    """Django takes an error for the server's answer to which LIKE it knows."""
    alias = make()
    emulator.drop_at = "FROM DUAL WHERE DUMMY"
    try:
        with pytest.raises(OperationalError, match="ended while it was prepared"):
            ask(alias)
    finally:
        emulator.drop_at = ""
    wrapper: Any = connections.create_connection(alias)
    wrapper.ensure_connection()
    assert wrapper.operators == wrapper._standard_operators
    wrapper.close()
    assert djpool.stats(alias).opened_total == 1


def test_a_lease_whose_session_was_killed_is_not_lent_again(
    make: OracleAlias, emulator: OracleEmulator
) -> None:
    alias = make()
    wrapper = connections.create_connection(alias)
    wrapper.ensure_connection()
    emulator.kill_all()
    with pytest.raises(DatabaseError, match="DPY-4011"), wrapper.cursor() as cursor:
        cursor.execute("SELECT 1 FROM DUAL")
    wrapper.close()
    assert djpool.stats(alias).closed_total["broken"] == 1
    assert ask(alias) == 1


# -- processes -------------------------------------------------------------------------

START = """
    import os, sys, threading, time
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    def ask():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM DUAL")
            assert cursor.fetchone() == (1,)
    ask()
"""

ENDINGS = {
    "lease given back": "connection.close()",
    "lease out": "",
    "in a transaction": "connection.set_autocommit(False)",
    "a thread connects to a server that says nothing": """
        connection.close()
        import djpool, socket
        silent = socket.create_server(("127.0.0.1", 0))
        copy = connection.copy()
        copy.settings_dict["NAME"] = "127.0.0.1:%s/x" % silent.getsockname()[1]
        def connect():
            try:
                copy.ensure_connection()
            except Exception:
                pass  # nobody is told any more
        threading.Thread(target=connect, daemon=True).start()
        accepted = silent.accept()  # kept, or it would be closed, which is an answer
    """,
}

FORK = """
        if not (child := os.fork()):
            connection.close()
            ask()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ask()
        import djpool
        assert djpool.stats("default").opened_total == 1
"""


def run(oracle: OracleServer, implementation: str, script: str) -> None:
    """Run a script in a process of its own, which must end at once, without a word."""
    pool = {"implementation": implementation, "max_size": 4, "timeout": 60}
    database = {
        "ENGINE": "djpool.backends.oracle",
        **oracle.databases(),
        "OPTIONS": {"pool": pool},
    }
    source = textwrap.dedent(START).format(database=database) + textwrap.dedent(script)
    source += "\nsys.stdout.write(repr(time.time())); sys.stdout.flush()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    took = time.time() - float(done.stdout or 0)
    assert done.stderr == ""
    assert done.returncode == 0
    assert took < 10


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_at_once(
    ending: str, implementation: str, oracle: OracleServer
) -> None:
    """The driver's own pool has a thread that a process waits for."""
    run(oracle, implementation, ENDINGS[ending])


def test_a_forked_process_leaves_its_parent_s_sessions_alone(
    implementation: str, oracle: OracleServer
) -> None:
    run(oracle, implementation, "connection.close()" + textwrap.dedent(FORK))


# -- settings --------------------------------------------------------------------------


def test_a_test_database_is_made_and_destroyed(
    make: OracleAlias, emulator: OracleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With users and tablespaces; a user with sessions cannot be dropped."""
    alias = make()
    wrapper: Any = connections[alias]
    monkeypatch.setitem(settings.DATABASES, alias, connections.settings[alias])
    creation = wrapper.creation
    name = wrapper.settings_dict["NAME"]
    creation._create_test_db(verbosity=0, autoclobber=True)
    user = wrapper.settings_dict["USER"].upper()
    assert user.startswith("TEST_")
    assert ask(alias, "SELECT USER FROM DUAL") == user
    fill(alias, 2)
    assert user in emulator.users
    creation.destroy_test_db(name, verbosity=0)
    assert user not in emulator.users


def translate(given: dict[str, Any]) -> dict[str, Any]:
    """Djpool's options for oracledb's, as far as they are not the defaults."""
    offer = Offer(implementations=("native", "fallback"), keys=CREATE_POOL_KEYS)
    options, problems = parse(given, name="default", offer=offer)
    assert not problems, problems
    default = PoolOptions()
    names = PoolOptions.__dataclass_fields__
    return {
        n: getattr(options, n)
        for n in names
        if getattr(options, n) != getattr(default, n)
    }


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"min": 1, "max": 4, "increment": 1}, {"min_size": 1, "max_size": 4}),
        ({"min": "2", "max": "8"}, {"min_size": 2, "max_size": 8}),
        ({"getmode": oracledb.POOL_GETMODE_WAIT}, {}),
        (
            {"getmode": oracledb.POOL_GETMODE_TIMEDWAIT, "wait_timeout": 2500},
            {"timeout": 2.5},
        ),
        ({"timeout": 3}, {"timeout": 3.0}),
        ({"max_lifetime_session": 600}, {"max_lifetime": 600.0}),
        ({"max_lifetime_session": 0}, {"max_lifetime": None}),
        ({"ping_interval": 60}, {"check_after": 60.0}),
        ({"ping_interval": 0}, {"check": True}),
        ({"ping_interval": -1}, {"check": False}),
        ({"ping_timeout": 1500}, {"check_timeout": 1.5}),
        ({"homogeneous": True}, {}),
        ({"pool_alias": "shop"}, {"name": "shop"}),
    ],
)
def test_a_configuration_for_django_s_own_pool_keeps_its_units(
    given: dict[str, Any], meant: dict[str, Any]
) -> None:
    assert translate(given) == meant


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("getmode", oracledb.POOL_GETMODE_FORCEGET, "never get more than max_size"),
        ("getmode", oracledb.POOL_GETMODE_NOWAIT, 'wait up to "timeout"'),
        ("homogeneous", False, "the same user's"),
        ("wait_timeout", "soon", "a whole number"),
        ("increment", -1, "0 or more"),
        ("session_callback", print, "connection_created"),
        ("stmtcachesize", 50, '"OPTIONS" itself'),
        ("cclass", "SHOP", '"OPTIONS" itself'),
        ("soda_metadata_cache", True, "Leave it out"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    key: str, value: Any, told: str
) -> None:
    offer = Offer(implementations=("native", "fallback"), keys=CREATE_POOL_KEYS)
    options, problems = parse({key: value}, name="default", offer=offer)
    assert options is None
    (problem,) = problems
    assert problem.option == key
    assert told in problem.message + (problem.hint or "")


def test_every_key_of_create_pool_is_known() -> None:
    import inspect

    ours = PoolOptions.__dataclass_fields__.keys() | CREATE_POOL_KEYS.keys()
    assert not inspect.signature(oracledb.create_pool).parameters.keys() - ours


def test_what_is_passed_on_to_the_driver_s_pool(
    make: OracleAlias, implementation: str
) -> None:
    if implementation == "fallback":
        return  # has none
    alias = make({"native": {"stmtcachesize": 7}})
    assert ask(alias) == 1
    assert djpool.pool(alias).native.stmtcachesize == 7
    for native, told in [
        ({"max": 3}, "max cannot be passed on to oracledb's pool"),
        ({"nonsense": 1}, "oracledb refuses it"),
    ]:
        with pytest.raises(djpool.OptionsError, match=told):
            ask(make({"native": native}))


def test_thick_mode_has_the_fallback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracledb, "is_thin_mode", lambda: False)
    native, fallback = (
        adapter.missing(PoolOptions(implementation=each))
        for each in ("native", "fallback")
    )
    assert native is not None
    assert "set implementation to fallback" in native
    assert fallback is None


def test_older_drivers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracledb, "connect", lambda *, dsn: None)
    told = adapter.missing(PoolOptions(implementation="fallback"))
    assert told is not None
    assert "needs python-oracledb 26.1 or later" in told


def test_gis_oracle(
    implementation: str, make_alias: MakeAlias, oracle: OracleServer
) -> None:
    """Its tables need Oracle Spatial, which is not asked for here."""
    pool = {"implementation": implementation}
    alias = make_alias("gis_oracle", pool=pool, **oracle.databases())
    for _ in range(3):
        assert ask(alias) == 1
    assert djpool.stats(alias).opened_total == 1
