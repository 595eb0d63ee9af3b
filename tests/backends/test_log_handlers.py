"""Handlers of djpool's log that are slow, or write into the pool's own database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections

import djpool
from djpool.core.telling import MOST, Teller, by_another_thread
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES
from tests.backends.test_leases import one
from tests.servers.process import wait_until


@contextmanager
def handling(handler: logging.Handler) -> Iterator[None]:
    """Have a handler told of everything."""
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def leave_one_behind(alias: str) -> None:
    """Lease in a thread that ends, of which djpool warns when it takes that back."""

    def leave() -> None:
        connections[alias].set_autocommit(False)  # in both modes
        one(connections[alias])

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()


class Querying(logging.Handler):
    """Queries for each record, and does not close."""

    def __init__(self, alias: str) -> None:
        super().__init__()
        self._alias = alias
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note the message, or why it could not be written."""
        try:
            one(connections[self._alias])
        except Exception as error:  # noqa: BLE001 (whatever it is)
            self.told.append(str(error))
        else:
            self.told.append(record.getMessage())


@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_queries_keeps_no_connection(
    engine: str, release: str, make_alias: MakeAlias
) -> None:
    """There is one connection, which the handler needs, and everybody else."""
    alias = pooled(engine, make_alias, max_size=1, timeout=10, release=release)
    handler = Querying(alias)
    with handling(handler):
        for number in range(1, 4):
            leave_one_behind(alias)
            wait_until(lambda: len(handler.told) == number, "the handler")  # noqa: B023 (called at once)
            wait_until(lambda: djpool.stats(alias).in_use == 0, "it to close")
        one(connections[alias])
        connections[alias].close()
    assert all("never given back" in message for message in handler.told)
    assert djpool.stats(alias).timeouts_total == 0


class Blocking(logging.Handler):
    """Does not come back until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_end = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Block."""
        del record
        self.began.set()
        self.may_end.wait(60)


@contextmanager
def blocking(handler: Blocking, alias: str) -> Iterator[None]:
    """Have a handler blocked by what it is told of one pool, until the block's end."""
    with handling(handler):
        try:
            leave_one_behind(alias)
            assert handler.began.wait(30)
            yield
            assert not handler.may_end.is_set()
        finally:
            handler.may_end.set()


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_waits_for_one_that_blocks(engine: str, make_alias: MakeAlias) -> None:
    """Neither whose pool it is told of, nor another one's."""
    first = pooled(engine, make_alias, max_size=1, timeout=20)
    other = pooled(engine, make_alias, max_size=1, timeout=20)
    handler = Blocking()
    with blocking(handler, first):
        for alias in (first, other):
            leave_one_behind(alias)
            one(connections[alias])
            connections[alias].close()
            assert not handler.may_end.is_set()
    assert djpool.stats(first).reclaimed_total == 2
    assert djpool.stats(other).reclaimed_total == 1


class QueryingAndBlocking(Blocking):
    """Queries, and does not come back for long after that."""

    def __init__(self, alias: str) -> None:
        super().__init__()
        self._alias = alias

    def emit(self, record: logging.LogRecord) -> None:
        """Query, and block."""
        one(connections[self._alias])
        super().emit(record)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_nobody_waits_for_one_that_blocks_after_a_query(
    engine: str, release: str, make_alias: MakeAlias
) -> None:
    """The one connection that there is goes back after the query."""
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release=release)
    with blocking(QueryingAndBlocking(alias), alias):
        one(connections[alias])
        connections[alias].close()
    assert djpool.stats(alias).timeouts_total == 0


class Failing(logging.Handler):
    """Raises for the first record."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note the message, or raise."""
        self.told.append(record.getMessage())
        if len(self.told) == 1:
            raise ValueError("the disk is full")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_raises_is_told_of_the_next_message(
    make_alias: MakeAlias,
) -> None:
    alias = pooled("sqlite3", make_alias, max_size=2)
    handler = Failing()
    with handling(handler):
        for count in (1, 2, 3):
            leave_one_behind(alias)
            wait_until(lambda: len(handler.told) == count, "the message")  # noqa: B023
    assert all("was never given back" in message for message in handler.told)


def test_where_there_can_be_no_thread_messages_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teller = Teller()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with by_another_thread():
            for number in range(MOST + 10):
                record = logging.makeLogRecord(
                    {"name": "nobody", "levelno": logging.DEBUG, "msg": str(number)}
                )
                assert not teller.filter(record)
    assert teller._inbox.qsize() == MOST
    assert teller._inbox.get().getMessage() == "10"
    teller.tell()
