"""`release: "transaction"`: a lease lasts while something needs it, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.signals import request_finished, request_started
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.test.utils import CaptureQueriesContext

import djpool
from djpool.signals import lease_acquired
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import ENGINES, MYSQL, ORACLE, POSTGRESQL, engine_of
from tests.backends.kinds import run
from tests.backends.test_sessions import kinds_of

if TYPE_CHECKING:
    from django.db.models import QuerySet

ROWS = [("shop", "item"), ("shop", "order"), ("blog", "post")]


@pytest.fixture
def alias(engine: str, make_alias: MakeAlias) -> str:
    """An alias with a pool of two, whose leases end with each transaction."""
    return pooled(engine, make_alias, max_size=2, timeout=10, release="transaction")


@pytest.fixture
def types(alias: str) -> Iterator[QuerySet[ContentType]]:
    """A table with three rows, as a query set."""
    with connections[alias].schema_editor() as editor:
        editor.create_model(ContentType)
    rows = ContentType.objects.using(alias)
    for label, model in ROWS:
        rows.create(app_label=label, model=model)
    connections[alias].close()
    wait_until(lambda: in_use(alias) == 0, "what made the table")
    yield rows
    connections[alias].close()
    with connections[alias].schema_editor() as editor:
        editor.delete_model(ContentType)


def in_use(alias: str) -> int:
    """How many connections are lent."""
    return djpool.stats(alias).in_use


def select(alias: str) -> str:
    """A statement that gives the number 1."""
    return "SELECT 1 FROM DUAL" if connections[alias].vendor == "oracle" else "SELECT 1"


Rows = Any
QUERIES: dict[str, Callable[[Rows], object]] = {
    "get": lambda rows: rows.get(app_label="blog"),
    "list": list,
    "first": lambda rows: rows.first(),
    "exists": lambda rows: rows.exists(),
    "count": lambda rows: rows.count(),
    "values_list": lambda rows: list(rows.values_list("model", flat=True)),
    "in_bulk": lambda rows: rows.in_bulk(),
    "create": lambda rows: rows.create(app_label="new", model="one"),
    "bulk_create": lambda rows: rows.bulk_create(
        [ContentType(app_label="new", model=f"m{n}") for n in range(5)]
    ),
    "update": lambda rows: rows.filter(app_label="shop").update(model="x" * 3),
    "delete": lambda rows: rows.filter(app_label="blog").delete(),
    "get_or_create": lambda rows: rows.get_or_create(app_label="a", model="b"),
    "update_or_create": lambda rows: rows.update_or_create(app_label="a", model="b"),
    "iterator": lambda rows: list(rows.iterator(chunk_size=1)),
    "raw": lambda rows: list(rows.raw("SELECT * FROM django_content_type")),
    "explain": lambda rows: rows.explain(),
    "none": lambda rows: rows.none(),
    "failed": lambda rows: fail(rows),  # noqa: PLW0108 (it follows)
}


def fail(rows: Rows) -> None:
    with pytest.raises(DatabaseError), connections[rows.db].cursor() as cursor:
        cursor.execute("SELECT nonsense FROM nowhere")


@pytest.mark.parametrize("name", QUERIES)
def test_each_query_gives_back(name: str, alias: str, types: Rows) -> None:
    if name == "update":
        types.filter(model="order").delete()
    if name == "explain" and connections[alias].vendor == "oracle":
        pytest.skip("the emulator explains nothing")
    before = djpool.stats(alias)
    QUERIES[name](types)
    assert in_use(alias) == 0
    assert connections[alias].connection is None
    after = djpool.stats(alias)
    assert after.acquired_total > before.acquired_total or name == "none"
    assert after.resets_total == before.resets_total


def test_statements_of_one_transaction_share_a_connection(
    alias: str, types: Rows
) -> None:
    with transaction.atomic(using=alias):
        types.create(app_label="new", model="one")
        first = raw_of(connections[alias])
        with transaction.atomic(using=alias, savepoint=True):
            types.create(app_label="new", model="two")
        with (
            contextlib.suppress(ZeroDivisionError),
            transaction.atomic(using=alias),
        ):
            types.create(app_label="new", model="three")
            raise ZeroDivisionError
        assert raw_of(connections[alias]) is first
        assert in_use(alias) == 1
    assert in_use(alias) == 0
    assert set(types.filter(app_label="new").values_list("model", flat=True)) == {
        "one",
        "two",
    }


def test_durable_atomic_and_select_for_update(alias: str, types: Rows) -> None:
    with transaction.atomic(using=alias, durable=True):
        locked = types.select_for_update().get(app_label="blog")
        assert in_use(alias) == 1
        locked.delete()
    assert in_use(alias) == 0
    assert types.count() == 2


def test_a_transaction_that_fails_is_rolled_back_and_gives_back(
    alias: str, types: Rows
) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=alias):
        types.all().delete()
        raise ZeroDivisionError
    assert in_use(alias) == 0
    assert types.count() == 3


def test_on_commit_runs_after_the_connection_went_back(alias: str, types: Rows) -> None:
    seen: list[int] = []

    def hook() -> None:
        seen.append(in_use(alias))
        seen.append(types.count())
        seen.append(in_use(alias))

    with transaction.atomic(using=alias):
        types.create(app_label="new", model="one")
        transaction.on_commit(hook, using=alias)
    assert seen == [0, 4, 0]


def test_on_commit_that_raises_keeps_nothing(alias: str, types: Rows) -> None:
    def hook() -> None:
        types.count()
        raise ZeroDivisionError

    def work() -> None:
        with transaction.atomic(using=alias):
            types.create(app_label="new", model="one")
            transaction.on_commit(hook, using=alias)

    with pytest.raises(ZeroDivisionError):
        work()
    assert in_use(alias) == 0
    assert types.count() == 4
    assert connections[alias].get_autocommit() is True


def test_an_open_cursor_pins(alias: str, types: Rows) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(select(alias))
        assert in_use(alias) == 1
        assert cursor.fetchone()[0] == 1
        assert types.count() == 3  # on the same connection, which stays
        assert in_use(alias) == 1
    assert in_use(alias) == 0


def test_two_cursors_the_first_closed_the_second_used(alias: str, types: Rows) -> None:
    """A row that was written is kept, and in no other's transaction."""
    wrapper = connections[alias]
    table = wrapper.ops.quote_name("django_content_type")
    insert = f"INSERT INTO {table} (app_label, model) VALUES (%s, %s)"
    first, second = wrapper.cursor(), wrapper.cursor()
    first.execute(insert, ["new", "one"])
    first.close()
    assert in_use(alias) == 1
    second.execute(insert, ["new", "two"])
    second.close()
    assert in_use(alias) == 0
    assert types.filter(app_label="new").count() == 2


def test_a_cursor_kept_after_its_lease_raises(alias: str) -> None:
    cursor = connections[alias].cursor()
    cursor.execute(select(alias))
    connections[alias].close()
    with connections[alias].cursor() as other:
        other.execute(select(alias))
        with pytest.raises(InterfaceError, match="has gone back to the pool"):
            cursor.execute(select(alias))
        assert other.fetchone()[0] == 1


def test_an_iterator_pins_until_it_is_exhausted(
    engine: str, alias: str, types: Rows
) -> None:
    iterator = iter(types.order_by("pk").iterator(chunk_size=1))
    next(iterator)
    if connections[alias].features.can_use_chunked_reads:
        assert in_use(alias) == 1
        if not engine.startswith("mysql_connector"):
            # Which throws away what is unread when another statement is run.
            assert types.count() == 3
        assert in_use(alias) == 1
    assert len(list(iterator)) == 2
    assert in_use(alias) == 0


def test_an_iterator_that_is_dropped_pins_no_more(alias: str, types: Rows) -> None:
    iterator = iter(types.iterator(chunk_size=1))
    next(iterator)
    del iterator
    gc.collect()
    assert in_use(alias) == 0


def test_a_cursor_that_is_forgotten_pins_no_more(alias: str) -> None:
    cursor = connections[alias].cursor()
    cursor.execute(select(alias))
    cursor.fetchall()
    del cursor
    gc.collect()
    wait_until(lambda: in_use(alias) == 0, "the lease of a forgotten cursor")


def test_what_nothing_needs_is_there_for_who_waits(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release="transaction")
    holder = connections.create_connection(alias)
    holder.ensure_connection()
    assert in_use(alias) == 1
    other = connections.create_connection(alias)
    assert run(other, select(alias)) == [(1,)]
    assert run(holder, select(alias)) == [(1,)]
    assert djpool.stats(alias).opened_total == 1


def test_autocommit_off_pins(alias: str, types: Rows) -> None:
    wrapper = connections[alias]
    wrapper.set_autocommit(False)
    assert types.count() == 3
    assert in_use(alias) == 1
    types.create(app_label="new", model="one")
    wrapper.commit()
    assert in_use(alias) == 1
    wrapper.set_autocommit(True)
    assert in_use(alias) == 0
    assert types.count() == 4


def test_without_autocommit_a_transaction_pins(
    engine: str, make_alias: MakeAlias
) -> None:
    if engine_of(engine).backend == "oracle":
        pytest.skip("Oracle begins a transaction with the first change of a row")
    alias = pooled(engine, make_alias, max_size=2, release="transaction")
    connections.settings[alias]["AUTOCOMMIT"] = False
    wrapper = connections[alias]
    run(wrapper, "CREATE TABLE pinned (n INTEGER)")
    wrapper.commit()
    assert in_use(alias) == 0
    run(wrapper, "INSERT INTO pinned VALUES (1)")
    assert in_use(alias) == 1
    wrapper.rollback()
    assert in_use(alias) == 0
    assert run(wrapper, "SELECT count(*) FROM pinned")[0][0] == 0
    wrapper.rollback()
    run(wrapper, "DROP TABLE pinned")
    wrapper.commit()
    wrapper.close()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ORACLE])
def test_begin_as_a_statement_pins(alias: str, types: Rows) -> None:
    wrapper = connections[alias]
    run(wrapper, "BEGIN")
    assert in_use(alias) == 1
    types.create(app_label="new", model="one")
    run(wrapper, "ROLLBACK")
    wrapper.close()
    assert types.count() == 3


def test_hold_pins(alias: str) -> None:
    with djpool.hold(alias):
        run(connections[alias], select(alias))
        raw = raw_of(connections[alias])
        run(connections[alias], select(alias))
        assert raw_of(connections[alias]) is raw
    assert in_use(alias) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_state_pins_until_the_request_ends(engine: str, make_alias: MakeAlias) -> None:
    """Whatever can be set in a session is there for the next statement."""
    kinds = kinds_of(engine)
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release="transaction")
    for kind in kinds:
        request_started.send(sender=None)
        wrapper = connections[alias]
        before = kind.seen(wrapper)
        kind.do(wrapper)
        assert in_use(alias) == 1, kind.name
        assert kind.seen(wrapper) != before, kind.name
        request_finished.send(sender=None)
        wait_until(lambda: in_use(alias) == 0, kind.name)
        assert kind.seen(connections[alias]) == before, kind.name
        connections[alias].close()


def test_a_receiver_of_lease_acquired_can_set_state(
    engine: str, make_alias: MakeAlias
) -> None:
    kind = next(kind for kind in kinds_of(engine) if kind.survives)
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release="transaction")
    before = kind.seen(connections[alias])

    def receive(connection: Any, **kwargs: Any) -> None:
        kind.do(connection)

    lease_acquired.connect(receive)
    try:
        assert kind.seen(connections[alias]) != before
        assert in_use(alias) == 1
    finally:
        lease_acquired.disconnect(receive)
        connections[alias].close()


def test_queries_and_execute_wrappers_are_the_wrapper_s(
    alias: str, types: Rows
) -> None:
    wrapper = connections[alias]
    said: list[str] = []

    def wrap(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        said.append(sql)
        return execute(sql, params, many, context)

    with CaptureQueriesContext(wrapper) as captured, wrapper.execute_wrapper(wrap):
        types.count()
        types.exists()
    assert len(captured) == len(said) == 2


@pytest.mark.parametrize("engine", ["sqlite3", *MYSQL])
def test_lastrowid_is_known_after_the_cursor_was_closed(
    alias: str, types: Rows
) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_content_type (app_label, model) VALUES ('a', 'b')"
        )
    assert in_use(alias) == 0
    assert cursor.lastrowid == types.get(app_label="a").pk


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_callproc_pins(alias: str) -> None:
    """What a procedure does to the session is not to be seen."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
    assert in_use(alias) == 0
    with (
        contextlib.suppress(Exception),  # psycopg 3 has none
        connections[alias].cursor() as cursor,
    ):
        cursor.callproc("pg_backend_pid")
    assert in_use(alias) == 1
    connections[alias].close()


def test_many_threads_share_few_connections(alias: str, types: Rows) -> None:
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(20):
                assert types.filter(app_label="blog").count() == 1
                if number % 5 == 0:
                    with transaction.atomic(using=alias):
                        assert types.filter(app_label="blog").exists()
                        assert types.filter(app_label="blog").exists()
        except BaseException as error:  # noqa: BLE001 (shown at the end)
            wrong.append(error)
        finally:
            connections[alias].close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    stats = djpool.stats(alias)
    assert stats.opened_total <= 2
    assert stats.in_use == stats.reclaimed_total == 0


def test_while_a_view_awaits_its_connection_is_another_s(
    engine: str, make_alias: MakeAlias
) -> None:
    """Sixteen coroutines, each amid its own request, and one connection."""
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release="transaction")

    async def main() -> None:
        everybody = asyncio.Event()
        arrived = 0

        async def view() -> None:
            nonlocal arrived
            statement = select(alias)
            ask = sync_to_async(lambda: run(connections[alias], statement))
            assert await ask() == [(1,)]
            arrived += 1
            if arrived == 16:
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 30)
            assert await ask() == [(1,)]

        await asyncio.gather(*(view() for _ in range(16)))
        # In the thread where its Django connection is.
        await sync_to_async(lambda: connections[alias].close())()  # noqa: PLW0108

    asyncio.run(main())
    assert djpool.stats(alias).opened_total == 1
