"""A cursor that outlives its lease raises; it never runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

import djpool
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import POSTGRESQL
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until

NewWrapper = Callable[[], BaseDatabaseWrapper]


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_a_cursor_kept_after_its_lease_raises(
    alias: str, new_wrapper: NewWrapper, debug: bool
) -> None:
    wrapper = new_wrapper()
    wrapper.force_debug_cursor = debug
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    wrapper.close()
    for use in (
        lambda: cursor.execute("SELECT 2"),
        lambda: cursor.executemany("SELECT 2", []),
        lambda: cursor.fetchone(),  # noqa: PLW0108 (the look-up is what raises)
        lambda: list(cursor),
    ):
        with pytest.raises(InterfaceError, match="has gone back to the pool"):
            use()
    cursor.close()  # which is no use of it
    assert cursor.closed


def test_what_is_left_of_an_iteration_is_not_read_from_the_connection(
    alias: str, new_wrapper: NewWrapper
) -> None:
    """It raises; unless the driver had read all rows at once, as PyMySQL does."""
    wrapper = new_wrapper()
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
    rows: Iterator[object] = iter(cursor)
    next(rows)
    wrapper.close()
    # The next lease, on the same connection, is not disturbed.
    with new_wrapper().cursor() as other:
        other.execute("SELECT 42")
        assert other.fetchone() == (42,)
    left: list[object] = []
    with contextlib.suppress(Exception):  # each driver has its own
        left = list(rows)
    assert len(left) in {0, 2}


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_server_side_cursor_is_closed_with_its_lease(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """And not by the garbage collector, on a connection that is another's by then."""
    alias = pooled(engine, make_alias)
    first = connections.create_connection(alias)
    cursor = first.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 10000)")
    cursor.fetchmany(10)
    raw = raw_of(first)
    first.close()
    second = connections.create_connection(alias)
    second.ensure_connection()
    assert raw_of(second) is raw
    mark = postgres.mark()
    cursor.close()
    with second.cursor() as other:
        other.execute("SELECT count(*) FROM pg_cursors")
        assert other.fetchone() == (0,)
    wait_until(lambda: "pg_cursors" in postgres.log_since(mark), "the log")
    assert "CLOSE" not in postgres.log_since(mark)
    second.close()
    assert djpool.stats(alias).opened_total == 1


@pytest.mark.parametrize("engine", POSTGRESQL)
def test_a_cursor_that_another_thread_closes_is_closed_with_the_lease(
    engine: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    """As the garbage collector does, in whichever thread it runs.

    Whoever has the lease may be speaking to the server at that moment.
    """
    wrapper = connections.create_connection(pooled(engine, make_alias))
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 10000)")
    cursor.fetchmany(10)
    driver_s = cursor.cursor
    thread = threading.Thread(target=cursor.close)
    mark = postgres.mark()
    thread.start()
    thread.join()
    assert not driver_s.closed
    with pytest.raises(InterfaceError, match="cursor is closed"):
        cursor.fetchone()
    with wrapper.cursor() as other:
        other.execute("SELECT 'mine'")
    wait_until(lambda: "'mine'" in postgres.log_since(mark), "the log")
    assert "CLOSE" not in postgres.log_since(mark)
    wrapper.close()
    assert driver_s.closed
    assert djpool.stats(wrapper.alias).closed_total["broken"] == 0


def test_cursors_that_were_closed_cost_nothing_at_the_end(
    alias: str, new_wrapper: NewWrapper
) -> None:
    wrapper = new_wrapper()
    for _ in range(100):
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    del cursor
    assert not wrapper.djpool_cursors  # type: ignore[attr-defined]
    wrapper.close()
