"""Threads in any order of steps, against a model in which each has a database alone.

Transactions, savepoints, cursors, iterators and settings of three threads, whose leases
end with each transaction. What each sees must be what it would see if the connections
were its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import InterfaceError, connections, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import djpool
from djpool.testing.watch import LONG, wait_until
from tests.backends.conftest import MakeAlias
from tests.backends.engines import POSTGRESQL, engine_of
from tests.backends.kinds import run

THREADS = 3
TABLE = "interleaved"
# The session's setting: how to change it, how to see it, what it is at first.
SETTING = {
    "postgresql": (
        "SELECT set_config('shop.mine', '{}', false)",
        "SELECT coalesce(nullif(current_setting('shop.mine', true), ''), '0')",
    ),
    "sqlite": ("PRAGMA analysis_limit = {}", "PRAGMA analysis_limit"),
}


class Undo(Exception):
    """Ends an atomic block without a commit."""


class Thread:
    """One thread, what it has under way, and what it must see of its own rows."""

    def __init__(self, number: int, alias: str) -> None:
        self.number = number
        self.alias = alias
        self.worker = ThreadPoolExecutor(1)
        # The rows with each open atomic block's changes; the first are committed.
        self.views: list[dict[int, int]] = [{}]
        self.blocks: list[ExitStack] = []
        self.cursor: Any = None
        self.expected: Iterator[tuple[int, int]] = iter(())
        self.dead: Any = None  # a cursor whose lease has ended
        self.setting = "0"
        self.since = 0  # commits of all when the cursor was opened

    def do(self, work: Callable[[Any], Any]) -> Any:
        """Have the thread do something with its Django connection."""
        return self.worker.submit(lambda: work(connections[self.alias])).result(LONG)

    @property
    def rows(self) -> dict[int, int]:
        """What it must see now."""
        return self.views[-1]

    @property
    def busy(self) -> bool:
        """Whether something must keep its connection."""
        return bool(self.blocks) or self.cursor is not None or self.setting != "0"


class Interleavings(RuleBasedStateMachine):
    """Any thread may do any step that a database would let it do at once."""

    def __init__(self, alias: str) -> None:
        super().__init__()
        self.alias = alias
        self.vendor = connections[alias].vendor
        self.threads = [Thread(number, alias) for number in range(THREADS)]
        self.commits = 0
        run(connections[alias], f"DELETE FROM {TABLE}")
        connections[alias].close()

    # -- what a database lets one do -------------------------------------------

    def may_read(self, thread: Thread) -> bool:
        """SQLite shows all cursors of a connection the same moment."""
        fresh = thread.cursor is None or thread.since == self.commits
        return self.vendor != "sqlite" or fresh

    def may_write(self, thread: Thread) -> bool:
        """SQLite has one writer at a time."""
        others = (each for each in self.threads if each is not thread)
        alone = not any(each.blocks for each in others)
        return self.vendor != "sqlite" or (alone and self.may_read(thread))

    def wrote(self, thread: Thread) -> None:
        if not thread.blocks:
            self.commits += 1
            if thread.cursor is not None:
                thread.since = self.commits  # its own changes, it sees

    # -- steps -------------------------------------------------------------------

    numbers = st.integers(0, THREADS - 1)
    keys = st.integers(0, 3)

    @rule(number=numbers, key=keys, value=st.integers(0, 99), early=st.booleans())
    def put(self, number: int, key: int, value: int, early: bool) -> None:
        """Two cursors on one connection, the first closed before the second is used."""
        thread = self.threads[number]
        if not self.may_write(thread):
            return
        key += 10 * number
        known = key in thread.rows

        def work(wrapper: Any) -> None:
            first, second = wrapper.cursor(), wrapper.cursor()
            if known:
                first.execute(f"DELETE FROM {TABLE} WHERE k = %s", [key])
            if early:
                first.close()
            second.execute(f"INSERT INTO {TABLE} VALUES (%s, %s)", [key, value])
            second.close()
            first.close()

        thread.do(work)
        thread.rows[key] = value
        self.wrote(thread)

    @rule(number=numbers, key=keys)
    def remove(self, number: int, key: int) -> None:
        thread = self.threads[number]
        if not self.may_write(thread):
            return
        key += 10 * number
        thread.do(lambda w: run(w, f"DELETE FROM {TABLE} WHERE k = {key}"))
        thread.rows.pop(key, None)
        self.wrote(thread)

    @rule(number=numbers)
    def read_own(self, number: int) -> None:
        thread = self.threads[number]
        if self.may_read(thread):
            low = 10 * number
            found = thread.do(
                lambda w: run(
                    w, f"SELECT k, v FROM {TABLE} WHERE k BETWEEN {low} AND {low + 9}"
                )
            )
            assert dict(found) == thread.rows

    @rule(number=numbers)
    def read_all(self, number: int) -> None:
        thread = self.threads[number]
        if not thread.blocks and self.may_read(thread):
            found = thread.do(lambda w: run(w, f"SELECT k, v FROM {TABLE}"))
            everybody = [each.views[0].items() for each in self.threads]
            assert dict(found) == dict(item for items in everybody for item in items)

    @rule(number=numbers)
    def begin(self, number: int) -> None:
        thread = self.threads[number]
        if len(thread.blocks) > 2 or not self.may_write(thread):
            return

        def work(wrapper: Any) -> ExitStack:
            stack = ExitStack()
            stack.enter_context(transaction.atomic(using=wrapper.alias))
            return stack

        if thread.cursor is not None and self.vendor == "sqlite":
            return
        thread.blocks.append(thread.do(work))
        thread.views.append(dict(thread.rows))

    @rule(number=numbers, keep=st.booleans())
    def end(self, number: int, keep: bool) -> None:
        thread = self.threads[number]
        if not thread.blocks or thread.cursor is not None:
            return
        stack = thread.blocks.pop()

        def work(_wrapper: Any) -> None:
            error = None if keep else Undo()
            stack.__exit__(None if error is None else Undo, error, None)

        thread.do(work)
        view = thread.views.pop()
        if keep:
            thread.views[-1] = view
        self.wrote(thread)

    @rule(number=numbers)
    def open_cursor(self, number: int) -> None:
        thread = self.threads[number]
        if thread.cursor is not None:
            return
        low = 10 * number

        def work(wrapper: Any) -> Any:
            cursor = wrapper.chunked_cursor()
            cursor.execute(
                f"SELECT k, v FROM {TABLE} WHERE k BETWEEN {low} AND {low + 9}"
                " ORDER BY k"
            )
            return cursor

        thread.cursor = thread.do(work)
        thread.expected = iter(sorted(thread.rows.items()))
        thread.since = self.commits

    @rule(number=numbers)
    def fetch(self, number: int) -> None:
        thread = self.threads[number]
        # What SQLite shows of rows that change under a cursor, it does not promise.
        if thread.cursor is None or (
            self.vendor == "sqlite" and thread.since != self.commits
        ):
            return
        row = thread.do(lambda _w: thread.cursor.fetchone())
        if self.vendor != "sqlite":
            assert row == next(thread.expected, None)

    @rule(number=numbers)
    def close_cursor(self, number: int) -> None:
        thread = self.threads[number]
        if thread.cursor is not None:
            thread.do(lambda _w: thread.cursor.close())
            thread.cursor = None

    @rule(number=numbers, value=st.integers(1, 9))
    def set_something(self, number: int, value: int) -> None:
        thread = self.threads[number]
        if not thread.blocks:  # a rollback would undo it
            change = SETTING[self.vendor][0].format(value)
            thread.do(lambda w: run(w, change))
            thread.setting = str(value)

    @rule(number=numbers)
    def look_at_it(self, number: int) -> None:
        thread = self.threads[number]
        look = SETTING[self.vendor][1]
        ((found,),) = thread.do(lambda w: run(w, look))
        assert str(found) == thread.setting

    @rule(number=numbers)
    def end_the_request(self, number: int) -> None:
        thread = self.threads[number]
        if thread.blocks:
            return
        thread.do(lambda w: w.close())
        thread.dead = thread.cursor or thread.dead
        thread.cursor, thread.setting = None, "0"

    @precondition(lambda self: any(each.dead for each in self.threads))
    @rule(number=numbers)
    def use_a_cursor_of_a_request_that_ended(self, number: int) -> None:
        thread = self.threads[number]
        if thread.dead is not None:
            with pytest.raises(InterfaceError):
                thread.do(lambda _w: thread.dead.fetchone())

    # -- what always holds ---------------------------------------------------------

    @invariant()
    def who_needs_none_has_none(self) -> None:
        for thread in self.threads:
            wrapper = thread.do(lambda w: w)
            assert (wrapper.djpool_lease is not None) == thread.busy
        stats = djpool.stats(self.alias)
        assert stats.size <= stats.max_size

    def teardown(self) -> None:
        for thread in self.threads:
            thread.do(lambda w: w.close())
            thread.worker.shutdown()
        wait_until(lambda: djpool.stats(self.alias).in_use == 0, "all to come back")
        stats = djpool.stats(self.alias)
        assert stats.reclaimed_total == stats.timeouts_total == 0
        assert stats.closed_total["broken"] == 0


@pytest.mark.parametrize("engine", ["sqlite3", *POSTGRESQL])
def test_nobody_sees_another_s(engine: str, make_alias: MakeAlias) -> None:
    options: dict[str, Any] = {"timeout": 10, "release": "transaction"}
    described: dict[str, Any] = {}
    if engine == "sqlite3":
        described = {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL",
        }
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool | options | {"max_size": THREADS + 1},
        OPTIONS=described,
    )
    run(connections[alias], f"CREATE TABLE {TABLE} (k INTEGER PRIMARY KEY, v INTEGER)")
    connections[alias].close()
    try:
        run_state_machine_as_test(
            functools.partial(Interleavings, alias),  # type: ignore[arg-type]  # it calls it
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        run(connections[alias], f"DROP TABLE {TABLE}")
        connections[alias].close()
    assert threading.active_count() < 50
