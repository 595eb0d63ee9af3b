"""Leases whose owner has ended, and leases of a request in other threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, transaction

import djpool
from djpool.core.lease import Lease
from djpool.requests import Request, current
from djpool.signals import lease_released
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.test_leases import one
from tests.servers.process import wait_until


def in_use(alias: str) -> int:
    return djpool.stats(alias).in_use


def all_back(alias: str) -> None:
    wait_until(lambda: in_use(alias) == 0, "all leases to come back")


@pytest.fixture(params=[True, False], ids=["gc", "no gc"])
def collector(request: pytest.FixtureRequest) -> Iterator[None]:
    """With Python's garbage collector, and without."""
    if not request.param:
        gc.disable()
    yield
    gc.enable()


# -- the owner's death ------------------------------------------------------------


@pytest.mark.usefixtures("collector")
def test_what_a_thread_leaves_behind_comes_back(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    """For ever: there are two connections, and a hundred threads that leak."""
    for _ in range(100):
        thread = threading.Thread(target=lambda: one(connections[alias]))
        thread.start()
        thread.join()
    all_back(alias)
    stats = djpool.stats(alias)
    assert stats.reclaimed_total == 100
    assert stats.opened_total <= 2

    def told() -> list[str]:
        return [each for each in caplog.messages if "never given back" in each]

    wait_until(lambda: len(told()) == 100, "the log to be told")
    assert "which has ended" in told()[0]


def test_its_transaction_is_rolled_back(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE of_the_dead (n integer)")
    connections[alias].close()
    try:

        def leave() -> None:
            connections[alias].set_autocommit(False)
            connections[alias].cursor().execute("INSERT INTO of_the_dead VALUES (1)")

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        all_back(alias)
        assert one(connections[alias], "SELECT count(*) FROM of_the_dead") == 0
    finally:
        connections[alias].cursor().execute("DROP TABLE of_the_dead")


def test_a_live_holder_keeps_its_lease_however_idle(alias: str) -> None:
    wrapper = connections[alias]
    one(wrapper)
    raw = wrapper.connection
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    assert one(wrapper) == 1
    assert wrapper.connection is raw


def test_a_shared_django_connection_outlives_the_thread_that_leased(alias: str) -> None:
    """As LiveServerTestCase has it."""
    wrapper = connections[alias]
    wrapper.inc_thread_sharing()
    try:
        thread = threading.Thread(target=lambda: one(wrapper))
        thread.start()
        thread.join()
        raw = wrapper.connection
        djpool.pool(alias).maintain()
        assert one(wrapper) == 1
        assert wrapper.connection is raw
    finally:
        wrapper.dec_thread_sharing()


def test_what_a_thread_leased_for_another_s_django_connection_stays_with_that(
    alias: str,
) -> None:
    """Shared for a moment with a thread that ends, as Django's own tests do."""
    wrapper = connections[alias]
    wrapper.inc_thread_sharing()
    thread = threading.Thread(target=lambda: one(wrapper))
    thread.start()
    thread.join()
    wrapper.dec_thread_sharing()
    statement = "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"
    with wrapper.cursor() as cursor:
        cursor.execute(statement)
        djpool.pool(alias).maintain()
        assert cursor.fetchone()[0] == 1
    djpool.pool(alias).maintain()
    assert djpool.stats(alias).in_use == 1
    wrapper.close()
    assert djpool.stats(alias).in_use == 0


# -- the end of the request ---------------------------------------------------------


@contextmanager
def request(path: str = "/") -> Iterator[contextvars.Context]:
    """A request, and the context that is copied to other threads."""
    request_started.send(sender=None, environ={"PATH_INFO": path})
    yield contextvars.copy_context()
    request_finished.send(sender=None)


class Elsewhere:
    """A thread that goes on living, and does what it is told."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)

    def do(self, work: Callable[[], Any], context: contextvars.Context) -> Future[Any]:
        return self._executor.submit(context.run, work)

    def close(self) -> None:
        self._executor.submit(connections.close_all).result()
        self._executor.shutdown()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    thread = Elsewhere()
    yield thread
    thread.close()


def test_what_was_leased_for_a_request_in_another_thread_ends_with_it(
    alias: str, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "djpool")
    for _ in range(10):
        with request() as context:
            assert elsewhere.do(lambda: one(connections[alias]), context).result() == 1
            assert in_use(alias) == 1
        assert in_use(alias) == 0
    stats = djpool.stats(alias)
    assert (stats.opened_total, stats.reclaimed_total) == (1, 0)
    assert not caplog.messages


def test_not_before_its_transaction_has_ended(alias: str, elsewhere: Elsewhere) -> None:
    go_on, began = threading.Event(), threading.Event()

    def work() -> Any:
        with transaction.atomic(using=alias):
            raw = connections[alias].connection
            began.set()
            go_on.wait(30)
            one(connections[alias])
            return raw is connections[alias].connection

    with request() as context:
        done = elsewhere.do(work, context)
        assert began.wait(30)
    assert in_use(alias) == 1
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    go_on.set()
    assert done.result(30)
    all_back(alias)


def test_not_while_a_cursor_is_open(alias: str, elsewhere: Elsewhere) -> None:
    opened: list[Any] = []

    def open_one() -> None:
        opened.append(connections[alias].cursor())
        opened[0].execute("SELECT 1 UNION ALL SELECT 2")

    with request() as context:
        elsewhere.do(open_one, context).result()
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    assert len(elsewhere.do(opened[0].fetchall, context).result()) == 2
    elsewhere.do(opened[0].close, context).result()
    all_back(alias)


def test_not_while_it_is_held(alias: str, elsewhere: Elsewhere) -> None:
    go_on, began = threading.Event(), threading.Event()

    def work() -> bool:
        with djpool.hold(alias), djpool.hold(alias):
            raw = connections[alias].connection
            began.set()
            go_on.wait(30)
            close_old_connections()
            return raw is connections[alias].connection

    with request() as context:
        done = elsewhere.do(work, context)
        assert began.wait(30)
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    go_on.set()
    assert done.result(30)
    all_back(alias)


def test_holding_is_no_more_than_connecting_without_a_pool(
    engine: str, make_alias: MakeAlias
) -> None:
    alias = make_alias(engine, pool=None)
    with djpool.hold(alias):
        assert one(connections[alias]) == 1
    connections[alias].close()


def test_what_goes_on_after_the_request_gives_back_each_time(
    alias: str, elsewhere: Elsewhere
) -> None:
    with request() as context:
        pass
    for _ in range(3):
        assert elsewhere.do(lambda: one(connections[alias]), context).result() == 1
        all_back(alias)
    assert djpool.stats(alias).reclaimed_total == 0


def test_the_thread_that_ends_the_request_is_left_to_django(alias: str) -> None:
    """The test client keeps connections open, and sends the signal all the same."""
    with request():
        one(connections[alias])
        lease: Lease = connections[alias].djpool_lease  # type: ignore[attr-defined]
        djpool.requests.current().end()  # type: ignore[union-attr]
        assert not lease.ended


def test_asgi_requests_know_each_other_apart(alias: str) -> None:
    """Many at once, each with threads of its own, as Django's handler runs them."""

    async def serve(number: int) -> None:
        async with ThreadSensitiveContext():
            await sync_to_async(request_started.send)(
                sender=None, scope={"path": f"/{number}"}
            )
            await asyncio.gather(
                asyncio.to_thread(one_and_leave),
                sync_to_async(one_and_leave, thread_sensitive=False)(),
            )
            await sync_to_async(request_finished.send)(sender=None)

    def one_and_leave() -> None:
        one(connections[alias])

    async def run() -> None:
        # No more than there are connections: each wants two at a time.
        for numbers in zip(*[iter(range(30))] * 1, strict=True):
            await asyncio.gather(*map(serve, numbers))

    asyncio.run(run())
    all_back(alias)
    stats = djpool.stats(alias)
    assert stats.reclaimed_total == 0
    assert stats.opened_total <= 2


def test_a_request_that_began_before_djpool_was_loaded_ends_its_leases(
    alias: str,
) -> None:
    async def serve() -> None:
        async with ThreadSensitiveContext():
            # No request_started was heard.
            await asyncio.to_thread(lambda: one(connections[alias]))
            assert in_use(alias) == 1
            await sync_to_async(request_finished.send)(sender=None)
            assert in_use(alias) == 0

    asyncio.run(serve())


def test_the_path_of_the_request_is_in_messages(
    alias: str, engine: str, make_alias: MakeAlias, caplog: pytest.LogCaptureFixture
) -> None:
    del alias
    watched = pooled(engine, make_alias, leak_threshold=0.05)
    wrapper = connections[watched]  # loads the backend, before the request begins
    with request("/slow/"):
        one(wrapper)
        wait_until(lambda: "in request '/slow/'" in caplog.text, "a warning")
        assert djpool.stats(watched).leaks_total == 1
    wait_until(lambda: "came back after" in caplog.text, "its end to be told")


@pytest.mark.stress
def test_no_statement_runs_on_what_was_taken_away(alias: str) -> None:
    """Threads that query all the time, while their leases are forsaken all the time."""
    over = threading.Event()
    wrong: list[BaseException] = []
    wrappers: list[Any] = []

    def work() -> None:
        wrapper = connections[alias]
        wrappers.append(wrapper)
        number = threading.get_ident()
        try:
            while not over.is_set():
                assert one(wrapper, f"SELECT {number}") == number
                with transaction.atomic(using=alias):
                    first = wrapper.connection
                    assert one(wrapper, f"SELECT {number + 1}") == number + 1
                    assert wrapper.connection is first
        except BaseException as error:  # noqa: BLE001 (shown at the end)
            wrong.append(error)
        finally:
            wrapper.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        for wrapper in wrappers:
            if (lease := wrapper.djpool_lease) is not None:
                lease.forsake()
    over.set()
    for thread in threads:
        thread.join(60)
    assert not wrong
    all_back(alias)


def test_a_long_request_does_not_grow(engine: str, make_alias: MakeAlias) -> None:
    """A stream of events may have a Django connection of its own for each."""
    alias = pooled(engine, make_alias, max_size=2)
    request_started.send(sender=None, environ={"PATH_INFO": "/events/"})
    request = current()
    assert request is not None
    for number in range(150):
        wrapper = connections.create_connection(alias)
        one(wrapper)
        wrapper.close()
        if number % 10 == 0:
            gc.collect()  # Django's connections are in cycles of references
    assert len(request._leased) < 60
    request_finished.send(sender=None)
    all_back(alias)


def test_a_request_that_shares_its_thread_s_connection_does_not_grow(
    alias: str,
) -> None:
    """Another request takes the Django connection over, and this one again."""
    wrapper: Any = connections[alias]
    mine, other = (Request("/", served=True) for _ in range(2))
    for _ in range(1000):
        mine.take_over(wrapper)
        other.take_over(wrapper)
    assert len(mine._leased) <= 17
    wrapper.djpool_request = None


def test_a_receiver_for_a_dead_thread_holds_up_nobody(
    engine: str, make_alias: MakeAlias
) -> None:
    """It is called in a thread apart, however many there are."""
    alias = pooled(engine, make_alias, max_size=4)
    go_on = threading.Event()

    def receive(**_arguments: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert go_on.wait(30)

    threads = [
        threading.Thread(target=lambda: one(connections[alias])) for _ in range(3)
    ]
    lease_released.connect(receive)
    try:
        for thread in threads:
            thread.start()
            thread.join()
        one(connections[alias])
        connections[alias].close()
        assert not go_on.is_set()
    finally:
        go_on.set()
        wait_until(lambda: not djpool.stats(alias).in_use, "all to come back")
        lease_released.disconnect(receive)
    all_back(alias)
