"""Django cursors that others make around the driver's cursor, as toolbars do.

What counts is the driver's cursor: while somebody has one that is open, its connection
is nobody else's, and after the lease it never runs again.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import POSTGRESQL
from tests.backends.kinds import run

Anew = Callable[[Any, Any], Any]


def same_class(made: Any, wrapper: Any) -> Any:
    """As django-debug-toolbar does, but for a class in between."""
    return type("Logged", (type(made),), {})(made.cursor, wrapper)


def django_s_own(made: Any, wrapper: Any) -> Any:
    """As query builders do: djpool hears nothing of what this one does."""
    return CursorWrapper(made.cursor, wrapper)


def debugging(made: Any, wrapper: Any) -> Any:
    """As loggers do."""
    return CursorDebugWrapper(made.cursor, wrapper)


@pytest.fixture(params=[same_class, django_s_own, debugging])
def anew(request: pytest.FixtureRequest) -> Anew:
    """Makes a Django cursor around another one's driver's cursor."""
    made: Anew = request.param
    return made


@pytest.fixture(params=["request", "transaction"])
def alias(engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest) -> str:
    """An alias with a pool of one, in both modes."""
    return pooled(engine, make_alias, max_size=1, timeout=20, release=request.param)


def select(wrapper: Any, number: int = 1) -> str:
    return f"SELECT {number}" + (" FROM DUAL" if wrapper.vendor == "oracle" else "")


def in_a_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[Any]]:
    wrong: list[Any] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (shown by the test)
            wrong.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    return thread, wrong


def test_while_it_is_open_its_connection_is_nobody_else_s(
    alias: str, anew: Anew
) -> None:
    wrapper: Any = connections[alias]
    got: list[Any] = []

    def other() -> None:
        got.extend(run(connections[alias], select(wrapper, 7))[0])
        connections[alias].close()

    cursor = anew(wrapper.cursor(), wrapper)
    gc.collect()
    for number in range(3):
        cursor.execute(select(wrapper, number))
        assert cursor.fetchone()[0] == number
        with wrapper.cursor() as inner:  # any other query meanwhile
            inner.execute(select(wrapper))
            inner.fetchone()
    raw = raw_of(wrapper)
    thread, wrong = in_a_thread(other)
    wait_until(lambda: djpool.stats(alias).waiting, "the other to wait")
    assert not got
    cursor.execute(select(wrapper, 5))
    assert raw_of(wrapper) is raw
    assert cursor.fetchone()[0] == 5
    cursor.close()
    wrapper.close()
    thread.join(30)
    assert (wrong, got) == ([], [7])


def test_in_transaction_mode_its_end_is_the_lease_s(
    engine: str, make_alias: MakeAlias, anew: Anew
) -> None:
    """At once if it is djpool's own class; else when somebody waits, or at the end."""
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release="transaction")
    wrapper: Any = connections[alias]
    with anew(wrapper.cursor(), wrapper) as cursor:
        cursor.execute(select(wrapper))
        assert cursor.fetchone()[0] == 1
    unseen = anew is not same_class
    del cursor
    if not unseen:
        assert djpool.stats(alias).in_use == 0
    else:
        # What it ran was not judged, so the session stays until the request ends.
        assert djpool.stats(alias).in_use == 1
        wrapper.close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "it to come back")
    assert djpool.stats(alias).resets_total + sum(
        djpool.stats(alias).closed_total.values()
    ) == int(unseen)


def test_an_acknowledged_row_is_not_in_another_s_transaction(
    engine: str, make_alias: MakeAlias, anew: Anew
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release="transaction")
    wrapper: Any = connections[alias]
    run(wrapper, "CREATE TABLE djpool_anew (who integer)")
    wrapper.close()

    def other() -> None:
        with transaction.atomic(using=alias):
            run(connections[alias], "INSERT INTO djpool_anew VALUES (2)")
            transaction.set_rollback(True, using=alias)
        connections[alias].close()

    try:
        cursor = anew(wrapper.cursor(), wrapper)
        thread, wrong = in_a_thread(other)
        wait_until(lambda: djpool.stats(alias).waiting, "the other to wait")
        cursor.execute("INSERT INTO djpool_anew VALUES (1)")
        cursor.close()
        wrapper.close()
        thread.join(30)
        assert wrong == []
        rows = run(wrapper, "SELECT who FROM djpool_anew")
        assert [who for (who,) in rows] == [1]
    finally:
        run(wrapper, "DROP TABLE djpool_anew")
        wrapper.close()


def test_after_the_lease_it_never_runs(alias: str, anew: Anew) -> None:
    wrapper: Any = connections[alias]
    made = wrapper.cursor()
    cursor = anew(made, wrapper)
    cursor.execute(select(wrapper))
    wrapper.close()
    with djpool.hold(alias):
        wrapper.ensure_connection()
        for use in (
            lambda: cursor.execute(select(wrapper, 2)),
            lambda: made.execute(select(wrapper, 2)),
            lambda: made.cursor.execute(select(wrapper, 2)),
        ):
            with pytest.raises(Exception, match=r".*"):  # each driver has its own
                use()  # type: ignore[no-untyped-call]
        made.close()
        cursor.close()
        assert run(wrapper, select(wrapper, 3))[0][0] == 3
    wrapper.close()


def test_what_such_a_cursor_sets_is_not_seen_by_the_next(
    engine: str, make_alias: MakeAlias, anew: Anew
) -> None:
    """Its statements are not judged, and so count as a change."""
    if engine.startswith("oracle"):
        change, look = (
            "ALTER SESSION SET NLS_SORT = GERMAN",
            "SELECT VALUE FROM NLS_SESSION_PARAMETERS WHERE PARAMETER = 'NLS_SORT'",
        )
    elif engine.startswith("postgresql"):
        change, look = "SET statement_timeout = 77000", "SHOW statement_timeout"
    elif engine == "sqlite3":
        change, look = "PRAGMA cache_size = 77", "PRAGMA cache_size"
    else:
        change, look = (
            "SET SESSION lock_wait_timeout = 77",
            "SELECT @@lock_wait_timeout",
        )
    alias = pooled(engine, make_alias, max_size=1, timeout=20)
    wrapper: Any = connections[alias]
    before = run(wrapper, look)
    wrapper.close()
    with anew(wrapper.cursor(), wrapper) as cursor:
        cursor.execute(change)
    wrapper.close()
    assert run(wrapper, look) == before
    wrapper.close()


def test_an_iteration_that_another_thread_drops_leaves_the_driver_s_cursor_alone(
    alias: str,
) -> None:
    """The thread that has the lease may be using the connection at that moment."""
    wrapper: Any = connections[alias]
    closed_in: list[str] = []

    def rows() -> Iterator[Any]:
        with wrapper.cursor() as cursor:
            driver_s = cursor.cursor
            close = driver_s.close

            def watched() -> None:
                closed_in.append(threading.current_thread().name)
                close()

            try:
                driver_s.close = watched
            except AttributeError:  # it is written in C
                closed_in.append(threading.current_thread().name)
            cursor.execute(f"{select(wrapper)} UNION {select(wrapper, 2)}")
            yield from cursor

    here = threading.current_thread().name
    generators = [rows()]
    next(generators[0])
    thread, wrong = in_a_thread(generators.clear)
    thread.join(30)
    assert not wrong
    assert run(wrapper, select(wrapper, 3))[0][0] == 3
    wrapper.close()
    assert set(closed_in) <= {here}
    assert djpool.stats(alias).closed_total["broken"] == 0


@pytest.mark.parametrize("engine", POSTGRESQL)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_a_server_side_cursor_that_is_forgotten_is_closed(
    engine: str, release: str, make_alias: MakeAlias
) -> None:
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release=release)
    for _ in range(4):
        wrapper: Any = connections.create_connection(alias)
        cursor = wrapper.chunked_cursor()
        cursor.execute("SELECT generate_series(1, 10000)")
        assert cursor.fetchone() == (1,)
        del cursor
        wrapper.close()
        wait_until(lambda: djpool.stats(alias).in_use == 0, "it to come back")
        left = run(wrapper, "SELECT count(*) FROM pg_cursors WHERE is_holdable")
        assert left == [(0,)]
        wrapper.close()


@pytest.mark.parametrize("engine", ["sqlite3"])
def test_a_read_that_is_forgotten_ends_at_once(
    engine: str, make_alias: MakeAlias
) -> None:
    """As without djpool: it would keep others from writing."""
    alias = pooled(engine, make_alias, max_size=2, timeout=20)
    wrapper: Any = connections[alias]
    run(wrapper, "CREATE TABLE djpool_anew (a integer)")
    run(wrapper, "INSERT INTO djpool_anew VALUES (1), (2), (3)")
    cursor = wrapper.cursor()
    cursor.execute("SELECT a FROM djpool_anew")
    cursor.fetchone()
    del cursor
    assert not wrapper.djpool_cursors
    wrapper.close()


def test_many_cursors_leave_nothing_behind(alias: str, anew: Anew) -> None:
    """However they are closed or forgotten, within one lease."""
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        for number in range(60):
            made = wrapper.cursor()
            cursor = made if number % 3 == 0 else anew(made, wrapper)
            cursor.execute(select(wrapper, number))
            assert cursor.fetchone()[0] == number
            if number % 2:
                cursor.close()
            del made, cursor
        assert len(wrapper.djpool_cursors) <= 2
    wrapper.close()
