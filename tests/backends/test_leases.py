"""What Django connections do with a pool, on every engine."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import (
    DatabaseError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.utils import override_settings

import djpool
from djpool.signals import lease_acquired, lease_released
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import CONNECTOR, POSTGRESQL
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until

NewWrapper = Callable[[], BaseDatabaseWrapper]

# Databases that a server has anyway.
OTHER = {"postgresql": "postgres", "mysql": "information_schema", "oracle": "OTHERPDB"}


def one(wrapper: BaseDatabaseWrapper, sql: str = "SELECT 1") -> Any:
    """The first column of the first row."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.fixture
def received() -> Iterator[list[tuple[str, Any]]]:
    """The signals of connections and leases, in order."""
    signals = {
        "created": connection_created,
        "acquired": lease_acquired,
        "released": lease_released,
    }
    heard: list[tuple[str, Any]] = []
    receivers = {}
    for name, signal in signals.items():

        def hear(connection: Any, name: str = name, **kwargs: Any) -> None:
            heard.append((name, connection))

        receivers[name] = hear
        signal.connect(hear)
    yield heard
    for name, signal in signals.items():
        signal.disconnect(receivers[name])


def test_a_query_leases_and_close_gives_back(alias: str) -> None:
    assert one(connections[alias]) == 1
    assert djpool.stats(alias).in_use == 1
    connections[alias].close()
    stats = djpool.stats(alias)
    assert (stats.in_use, stats.idle, stats.size) == (0, 1, 1)
    assert connections[alias].connection is None


def test_a_request_ends_its_lease(alias: str) -> None:
    request_started.send(sender=None)
    one(connections[alias])
    request_finished.send(sender=None)
    assert djpool.stats(alias).in_use == 0


def test_new_django_connections_share_a_physical_one(
    alias: str, new_wrapper: NewWrapper
) -> None:
    raw = set()
    for _ in range(20):
        wrapper = new_wrapper()
        one(wrapper)
        raw.add(id(raw_of(wrapper)))
        wrapper.close()
    assert len(raw) == 1
    assert djpool.stats(alias).opened_total == 1
    assert djpool.stats(alias).acquired_total == 20


def test_a_lease_leaves_the_wrapper_as_a_connect_would(
    alias: str, engine: str, make_alias: MakeAlias, new_wrapper: NewWrapper
) -> None:
    """Attribute by attribute, whether the connection is new or was idle."""
    stock = connections.create_connection(make_alias(engine, pool=None))
    fresh, reused = new_wrapper(), new_wrapper()
    per_object = {
        "client", "connection", "creation", "features", "introspection", "ops",
        "validation", "alias", "settings_dict", "_thread_sharing_lock", "close_at",
        "wrap_database_errors", "queries_log", "health_check_enabled", "converter",
        # Set while parameters are put together, and used nowhere else.
        "init_commands",
    }  # fmt: skip

    # Learnt once for the pool; Django would ask each time.
    learnt = {"pg_version", "mysql_server_data"}
    # Worked out when somebody asks, from the settings or from what was learnt.
    lazily = {
        "timezone", "timezone_name",
        "mysql_version", "mysql_server_info", "mysql_is_mariadb",
    }  # fmt: skip

    def state(wrapper: BaseDatabaseWrapper) -> dict[str, Any]:
        wrapper.ensure_connection()
        every = vars(wrapper).items()
        kept = {
            name: value
            for name, value in every
            if name not in per_object | learnt | lazily
            and not name.lstrip("_").startswith("djpool")
        }
        wrapper.close()
        return kept

    wanted = state(stock)
    assert state(fresh) == wanted
    assert state(reused) == wanted


def test_signals(
    alias: str, new_wrapper: NewWrapper, received: list[tuple[str, Any]]
) -> None:
    """`connection_created` once for each physical connection; ours for each lease."""
    first, second = new_wrapper(), new_wrapper()
    one(first)
    first.close()
    one(second)
    second.close()
    assert [name for name, _ in received] == [
        "created", "acquired", "released", "acquired", "released",
    ]  # fmt: skip
    assert [who for name, who in received if name != "created"] == [
        first, first, second, second,
    ]  # fmt: skip


def test_a_receiver_of_connection_created_can_run_sql(
    alias: str, new_wrapper: NewWrapper
) -> None:
    ran = []

    def receive(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        ran.append(one(connection, "SELECT 42"))

    connection_created.connect(receive)
    try:
        one(new_wrapper())
    finally:
        connection_created.disconnect(receive)
    assert ran == [42]


def test_what_a_receiver_of_connection_created_raises_costs_no_capacity(
    alias: str, new_wrapper: NewWrapper
) -> None:
    def refuse(**kwargs: Any) -> None:
        raise ValueError("not today")

    connection_created.connect(refuse)
    try:
        for _ in range(5):
            with pytest.raises(ValueError, match="not today"):
                one(new_wrapper())
    finally:
        connection_created.disconnect(refuse)
    assert djpool.stats(alias).size == 0
    assert one(new_wrapper()) == 1


def test_what_a_receiver_of_lease_acquired_raises_costs_no_capacity(
    alias: str, new_wrapper: NewWrapper
) -> None:
    def refuse(**kwargs: Any) -> None:
        raise ValueError("not today")

    lease_acquired.connect(refuse)
    try:
        for _ in range(5):
            with pytest.raises(ValueError, match="not today"):
                one(new_wrapper())
    finally:
        lease_acquired.disconnect(refuse)
    assert djpool.stats(alias).in_use == 0


def test_a_receiver_of_lease_released_can_still_use_the_connection(
    alias: str, new_wrapper: NewWrapper
) -> None:
    ran = []

    def clean(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        ran.append(one(connection, "SELECT 7"))
        raise ValueError("and what it raises reaches nobody")

    lease_released.connect(clean)
    try:
        wrapper = new_wrapper()
        one(wrapper)
        wrapper.close()
    finally:
        lease_released.disconnect(clean)
    assert ran == [7]
    assert djpool.stats(alias).in_use == 0


def test_an_open_transaction_is_rolled_back(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    wrapper.cursor().execute("CREATE TABLE rolled_back (n integer)")
    try:
        wrapper.set_autocommit(False)
        wrapper.cursor().execute("INSERT INTO rolled_back VALUES (1)")
        raw = raw_of(wrapper)
        wrapper.close()
        other = new_wrapper()
        assert one(other, "SELECT count(*) FROM rolled_back") == 0
        assert raw_of(other) is raw
        assert other.get_autocommit() is True
        other.cursor().execute("INSERT INTO rolled_back VALUES (2)")
        other.close()
        assert one(new_wrapper(), "SELECT count(*) FROM rolled_back") == 1
    finally:
        last = new_wrapper()
        last.cursor().execute("DROP TABLE rolled_back")


def test_closing_inside_atomic_lets_go_of_the_connection(
    alias: str, new_wrapper: NewWrapper
) -> None:
    """Django would keep the attribute, and so use what is another's by then."""
    wrapper = connections[alias]

    def close_and_go_on() -> None:
        with transaction.atomic(using=alias):
            one(wrapper)
            wrapper.close()
            assert wrapper.connection is None
            assert djpool.stats(alias).in_use == 0
            one(wrapper)

    with pytest.raises(DatabaseError, match="new connection in an atomic block"):
        close_and_go_on()
    assert one(wrapper) == 1


def test_atomic_commits(alias: str, new_wrapper: NewWrapper) -> None:
    connections[alias].cursor().execute("CREATE TABLE kept (n integer)")
    with transaction.atomic(using=alias):
        connections[alias].cursor().execute("INSERT INTO kept VALUES (1)")
    connections[alias].close()
    assert one(new_wrapper(), "SELECT count(*) FROM kept") == 1
    new_wrapper().cursor().execute("DROP TABLE kept")


def test_exhaustion_is_an_operational_error_that_names_the_holders(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=2, leak_threshold=60)
    wrappers = [connections.create_connection(alias) for _ in range(2)]
    one(wrappers[0])
    with pytest.raises(OperationalError) as caught:
        one(wrappers[1])
    assert isinstance(caught.value, djpool.PoolTimeout)
    assert isinstance(caught.value, djpool.PoolError)
    told = str(caught.value)
    assert f"pool '{alias}': no connection came free, and none can" in told
    assert "size 1 of max_size 1, 1 in use, 0 idle, 0 opening, 0 waiting" in told
    assert f"thread 'MainThread' ({threading.get_ident()})" in told
    assert "test_exhaustion_is_an_operational_error_that_names_the_holders" in told
    wrappers[0].close()
    assert one(wrappers[1]) == 1
    wrappers[1].close()


def test_max_waiting_and_close_have_errors_of_their_own(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, max_waiting=1)
    holder = connections.create_connection(alias)
    one(holder)
    became: list[Exception] = []

    def wait() -> None:
        try:
            one(connections[alias])
        except djpool.PoolClosed as error:
            became.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: djpool.stats(alias).waiting == 1, "a caller to queue")
    with pytest.raises(djpool.PoolBusy, match="max_waiting is 1"):
        one(connections.create_connection(alias))
    djpool.pool(alias).close()
    thread.join(10)
    assert [type(error) for error in became] == [djpool.PoolClosed]
    holder.close()


def test_after_an_error_the_connection_is_asked_before_it_is_lent_again(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    with pytest.raises(DatabaseError):
        one(wrapper, "SELECT nonsense FROM nowhere")
    wrapper.close()
    assert djpool.stats(alias).checks_total == 0
    one(new_wrapper())
    assert djpool.stats(alias).checks_total == 1


def test_close_pool_costs_no_physical_connection(
    alias: str, new_wrapper: NewWrapper
) -> None:
    """Celery calls it before and after each task, where it exists."""
    for _ in range(10):
        wrapper = new_wrapper()
        wrapper.close_pool()  # type: ignore[attr-defined]
        one(wrapper)
        wrapper.close()
        wrapper.close_pool()  # type: ignore[attr-defined]
    assert djpool.stats(alias).opened_total == 1


def test_a_connection_closed_behind_its_back_is_replaced(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    one(wrapper)
    wrapper.connection.close()
    wrapper.close()
    assert djpool.stats(alias).closed_total["broken"] == 1
    assert one(new_wrapper()) == 1


def test_a_connection_closed_after_it_went_back_is_not_lent(
    alias: str, new_wrapper: NewWrapper
) -> None:
    """By somebody who kept the driver's own."""
    wrapper = new_wrapper()
    one(wrapper)
    raw = raw_of(wrapper)
    wrapper.close()
    raw.close()
    assert one(new_wrapper()) == 1
    assert djpool.stats(alias).closed_total["broken"] == 1


def test_close_all_closes_and_the_next_use_begins_anew(alias: str) -> None:
    one(connections[alias])
    connections[alias].close()
    pool = djpool.pool(alias)
    djpool.close_all()
    assert pool.closed
    assert pool.stats().size == 0
    assert one(connections[alias]) == 1
    assert djpool.pool(alias) is not pool


def test_many_threads_share_few_connections(alias: str) -> None:
    wrong: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert one(connections[alias]) == 1
                connections[alias].close()
        except Exception as error:  # noqa: BLE001 (shown at the end)
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    stats = djpool.stats(alias)
    assert stats.opened_total <= 2
    assert stats.acquired_total == 16 * 20
    assert stats.in_use == 0


def test_a_collected_django_connection_gives_its_lease_back(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = connections.create_connection(alias)
    one(wrapper)
    assert djpool.stats(alias).in_use == 1
    del wrapper
    gc.collect()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "the lease to be found")
    assert djpool.stats(alias).reclaimed_total == 1


def test_min_size_is_filled_where_a_project_may_not_connect(
    engine: str,
    make_alias: MakeAlias,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Between tests that need a database pytest-django has everybody else fail."""

    def block(_wrapper: object) -> None:
        raise RuntimeError("Database access not allowed")

    alias = pooled(engine, make_alias, min_size=1, max_size=2)
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", block)
    pool = djpool.pool(alias)
    wait_until(lambda: pool.stats().idle == 1, "the first to be opened")
    with pytest.raises(RuntimeError, match="not allowed"):
        connections[alias].ensure_connection()
    assert caplog.messages == []


def test_min_size_is_filled_and_max_idle_closes_without_anybody_asking(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, min_size=1, max_size=3, max_idle=0.2)
    pool = djpool.pool(alias)
    wait_until(lambda: pool.stats().idle == 1, "min_size to be filled")
    wrappers = [connections.create_connection(alias) for _ in range(3)]
    for wrapper in wrappers:
        one(wrapper)
    for wrapper in wrappers:
        wrapper.close()
    assert pool.stats().opened_total == 3
    wait_until(lambda: pool.stats().size == 1, "idle ones to be closed")
    assert pool.stats().closed_total["idle"] == 2


@pytest.mark.parametrize("off", [None, False, "false", "off", "0"])
def test_with_the_pool_off_the_backend_is_the_stock_one(
    engine: str, make_alias: MakeAlias, off: Any
) -> None:
    alias = make_alias(engine, pool=off, CONN_MAX_AGE=600)
    wrapper = connections.create_connection(alias)
    one(wrapper)
    raw = wrapper.connection
    wrapper.close_if_unusable_or_obsolete()
    assert wrapper.connection is raw
    wrapper.close()
    assert alias not in djpool.stats()
    with pytest.raises(djpool.OptionsError, match="is not pooled"):
        djpool.pool(alias)


def test_a_copy_of_a_connection_leases_from_the_same_pool(alias: str) -> None:
    copy = connections[alias].copy()
    one(connections[alias])
    one(copy)
    assert copy.connection is not connections[alias].connection
    assert djpool.stats(alias).in_use == 2
    copy.close()


def test_other_settings_mean_another_pool(
    alias: str, new_wrapper: NewWrapper, tmp_path: Any
) -> None:
    """Connections to a database never serve its test database."""
    wrapper: Any = new_wrapper()
    one(wrapper)
    first = djpool.pool(alias)
    wrapper.close()
    described = connections.settings[alias]
    name = described["NAME"]
    described["NAME"] = OTHER.get(wrapper.vendor, str(tmp_path / "other"))
    try:
        assert djpool.pool(alias) is not first
        one(wrapper)
        assert wrapper.djpool_lease.pool is djpool.pool(alias)
        wrapper.close()
    finally:
        described["NAME"] = name
    # Perhaps the first, if it has not gone yet.
    one(wrapper)
    assert wrapper.djpool_lease.pool is djpool.pool(alias)
    wrapper.close()


@pytest.mark.parametrize("engine", POSTGRESQL)  # elsewhere Django sets none
def test_another_time_zone_does_not_reach_the_next_lease(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = connections[alias]
    one(wrapper)
    with override_settings(TIME_ZONE="Europe/Rome", USE_TZ=False):
        assert one(wrapper, "SHOW TimeZone") == "Europe/Rome"
        wrapper.close()
        assert one(new_wrapper(), "SHOW TimeZone") == "Europe/Rome"
    assert one(new_wrapper(), "SHOW TimeZone") == "UTC"


def test_a_thread_that_ended_is_named_as_such(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=1)
    wrapper = connections.create_connection(alias)
    wrapper.inc_thread_sharing()
    thread = threading.Thread(target=lambda: one(wrapper))
    thread.start()
    thread.join()
    time.sleep(0)
    # The Django connection is shared with other threads, so it is not taken away.
    with pytest.raises(djpool.PoolTimeout, match="which has ended, for"):
        one(connections.create_connection(alias))
    wrapper.close()


def test_sessions_on_the_server_never_exceed_max_size(
    postgres: PostgresServer, make_alias: MakeAlias
) -> None:
    alias = make_alias(
        "postgresql", pool={"max_size": 3}, OPTIONS={"application_name": "bounded"}
    )

    def work() -> None:
        for _ in range(10):
            one(connections[alias], "SELECT pg_sleep(0.001)")
            connections[alias].close()

    threads = [threading.Thread(target=work) for _ in range(12)]
    most = 0
    with postgres.admin() as admin:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            counted = admin.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'bounded'"
            ).fetchone()
            most = max(most, counted[0] if counted else 0)
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3


def test_a_connection_that_went_back_is_not_usable(new_wrapper: NewWrapper) -> None:
    wrapper = new_wrapper()
    wrapper.ensure_connection()
    assert wrapper.is_usable()
    wrapper.close()
    assert not wrapper.is_usable()


def test_receivers_of_connection_created_may_query_by_alias(
    engine: str, make_alias: MakeAlias
) -> None:
    """As that of django.contrib.postgres does, while no connection is there yet."""
    alias = pooled(engine, make_alias, max_size=1, timeout=5)
    answers: list[int] = []

    def ask(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        answers.append(one(connections[connection.alias], "SELECT 42"))

    connection_created.connect(ask)
    try:
        wrapper = connections[alias]
        assert one(wrapper) == 1
    finally:
        connection_created.disconnect(ask)
    assert answers == [42]
    assert connections[alias] is wrapper
    assert djpool.stats(alias).opened_total == 1


@pytest.mark.parametrize("engine", CONNECTOR)
def test_what_debug_says_while_connecting_is_for_one_lease(
    engine: str, make_alias: MakeAlias
) -> None:
    """Connector/Python's backend makes errors of warnings by it; tests change it."""
    alias = pooled(engine, make_alias)
    for debug in (True, False):
        with override_settings(DEBUG=debug):
            wrapper = connections.create_connection(alias)
            wrapper.ensure_connection()
            assert wrapper.connection.raise_on_warnings is debug
            wrapper.close()
