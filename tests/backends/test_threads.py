"""What the end of a request means for the connections of its other threads.

The matrix of docs/threads.md: what the thread does, and what it did to its session,
say whether the connection goes back now, later, or stays.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, transaction

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.kinds import run

TOUCHES = {
    "sqlite": "PRAGMA cache_size = 77",
    "postgresql": "SET statement_timeout = 77000",
    "mysql": "SET @djpool_mine = 77",
    "oracle": "ALTER SESSION SET NLS_SORT = GERMAN",
}
LOOKS = {
    "sqlite": ("PRAGMA cache_size", 77),
    "postgresql": ("SHOW statement_timeout", "77s"),
    "mysql": ("SELECT @djpool_mine", 77),
    "oracle": (
        "SELECT VALUE FROM NLS_SESSION_PARAMETERS WHERE PARAMETER = 'NLS_SORT'",
        "GERMAN",
    ),
}


@pytest.fixture(params=["request", "transaction"])
def alias(engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest) -> str:
    """An alias with a pool of two, in both modes."""
    return pooled(engine, make_alias, max_size=2, timeout=20, release=request.param)


def in_use(alias: str) -> int:
    return djpool.stats(alias).in_use


def all_back(alias: str) -> None:
    wait_until(lambda: in_use(alias) == 0, "all to come back")


@contextmanager
def request(path: str = "/") -> Iterator[contextvars.Context]:
    """A request, and the context that is copied to other threads."""
    request_started.send(sender=None, environ={"PATH_INFO": path})
    yield contextvars.copy_context()
    request_finished.send(sender=None)


def one(alias: str) -> None:
    wrapper = connections[alias]
    run(wrapper, "SELECT 1" + (" FROM DUAL" if wrapper.vendor == "oracle" else ""))


def touch(alias: str) -> None:
    wrapper: Any = connections[alias]
    wrapper.close()
    run(wrapper, TOUCHES[wrapper.vendor])


def is_touched(alias: str) -> bool:
    wrapper: Any = connections[alias]
    statement, value = LOOKS[wrapper.vendor]
    return bool(run(wrapper, statement)[0][0] == value)


class Job:
    """Something in a thread of an executor that goes on after the request."""

    def __init__(self, first: Callable[[], Any]) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._first = first
        self.began, self.go_on = threading.Event(), threading.Event()
        self.done: Future[Any] | None = None

    def start(self, context: contextvars.Context, then: Callable[[], Any]) -> None:
        def work() -> Any:
            self._first()
            self.began.set()
            assert self.go_on.wait(30)
            return then()

        self.done = self._executor.submit(context.run, work)
        assert self.began.wait(30)

    def result(self) -> Any:
        self.go_on.set()
        assert self.done is not None
        return self.done.result(30)

    def do(self, work: Callable[[], Any], context: contextvars.Context) -> Any:
        return self._executor.submit(context.run, work).result(30)

    def close(self) -> None:
        self._executor.submit(connections.close_all).result()
        self._executor.shutdown()


@pytest.fixture
def make_job() -> Iterator[Callable[[Callable[[], Any]], Job]]:
    made: list[Job] = []

    def make(first: Callable[[], Any]) -> Job:
        made.append(Job(first))
        return made[-1]

    yield make
    for job in made:
        job.close()


MakeJob = Callable[[Callable[[], Any]], Job]


def test_a_clean_session_goes_back_though_the_thread_is_at_work(
    alias: str, make_job: MakeJob
) -> None:
    job = make_job(lambda: one(alias))
    with request() as context:
        job.start(context, lambda: one(alias))
    all_back(alias)
    job.result()
    all_back(alias)
    assert djpool.stats(alias).reclaimed_total == 0


def test_a_touched_session_stays_with_a_thread_that_is_at_work(
    alias: str, make_job: MakeJob
) -> None:
    """Its next statement may need what it has set: a tenant, a lock."""

    def rest() -> bool:
        seen = is_touched(alias)
        connections[alias].close()
        return seen

    job = make_job(lambda: touch(alias))
    with request() as context:
        job.start(context, rest)
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    assert job.result() is True
    all_back(alias)
    assert djpool.stats(alias).reclaimed_total == 0


def test_and_goes_back_when_the_thread_waits_for_something_to_do(
    alias: str, make_job: MakeJob
) -> None:
    job = make_job(lambda: touch(alias))
    with request() as context:
        job.start(context, lambda: is_touched(alias))
    assert in_use(alias) == 1
    assert job.result() is True  # which closes nothing
    all_back(alias)
    assert not is_touched(alias)
    assert djpool.stats(alias).reclaimed_total == 0


class Concurrent:
    """A request beside others, as an ASGI server has them: in a context of its own."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        self._send(request_started, environ={"PATH_INFO": "/"})

    def end(self) -> None:
        self._send(request_finished)

    def _send(self, signal: Any, **kwargs: Any) -> None:
        self.context.run(signal.send, None, **kwargs)


def test_the_end_of_a_request_takes_nothing_from_another_one_s_job(
    alias: str, make_job: MakeJob
) -> None:
    """The lease is from before, by the first one's job in that thread."""

    def work() -> None:
        run(connections[alias], TOUCHES[connections[alias].vendor])

    first, second = Concurrent(), Concurrent()
    job = make_job(work)
    job.do(lambda: one(alias), first.context)
    job.start(second.context, lambda: is_touched(alias) and is_touched(alias))
    first.end()
    djpool.pool(alias).maintain()
    assert job.result() is True
    second.end()
    all_back(alias)
    assert djpool.stats(alias).reclaimed_total == 0


def test_nor_from_a_job_of_none(alias: str, make_job: MakeJob) -> None:
    """Nobody knows to which request it belongs: see `executor.submit()` in the docs."""

    def work() -> None:
        run(connections[alias], TOUCHES[connections[alias].vendor])

    first, none = Concurrent(), contextvars.copy_context()
    job = make_job(work)
    job.do(lambda: one(alias), first.context)
    job.start(none, lambda: is_touched(alias) and is_touched(alias))
    first.end()
    djpool.pool(alias).maintain()
    assert job.result() is True
    job.do(connections.close_all, none)
    all_back(alias)


def test_a_job_never_sees_what_another_live_request_s_did(
    alias: str, make_job: MakeJob
) -> None:
    first, second = Concurrent(), Concurrent()
    job = make_job(lambda: touch(alias))
    job.do(lambda: touch(alias), first.context)
    assert job.do(lambda: is_touched(alias), first.context) is True
    assert job.do(lambda: is_touched(alias), second.context) is False
    first.end()
    assert job.do(lambda: is_touched(alias), second.context) is False
    second.end()
    all_back(alias)


def test_a_request_that_another_one_makes_shares_its_session(alias: str) -> None:
    """As a view does that uses a test's client: all of it is one thread's work.

    That client keeps Django from closing connections.
    """
    signals = request_started, request_finished
    with request():
        touch(alias)
        for signal in signals:
            signal.disconnect(close_old_connections)
        try:
            with request():
                assert is_touched(alias)
        finally:
            for signal in signals:
                signal.connect(close_old_connections)
        assert is_touched(alias)
    connections[alias].close()
    assert not is_touched(alias)
    connections[alias].close()


def test_a_touched_session_of_an_idle_thread_goes_back_at_once(
    alias: str, make_job: MakeJob
) -> None:
    job = make_job(lambda: touch(alias))
    with request() as context:
        job.go_on.set()
        job.start(context, lambda: None)
        job.result()
        assert in_use(alias) == 1
    all_back(alias)
    assert not is_touched(alias)


def test_a_touched_session_goes_back_when_the_thread_ends(alias: str) -> None:
    began, go_on = threading.Event(), threading.Event()

    def work() -> None:
        touch(alias)
        began.set()
        assert go_on.wait(30)

    with request() as context:
        thread = threading.Thread(target=context.run, args=[work])
        thread.start()
        assert began.wait(30)
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    go_on.set()
    thread.join(30)
    all_back(alias)
    assert not is_touched(alias)


def test_the_next_request_in_that_thread_does_not_see_it(
    alias: str, make_job: MakeJob
) -> None:
    """Also if the thread takes it up before anybody could look."""
    job = make_job(lambda: touch(alias))
    with request() as context:
        job.start(context, lambda: None)
    assert in_use(alias) == 1
    with request("/next/") as other:
        job.go_on.set()
        assert job.do(lambda: is_touched(alias), other) is False
    all_back(alias)


def test_the_end_of_one_request_leaves_another_s_lease_alone(
    alias: str, make_job: MakeJob
) -> None:
    """One thread has worked for both, and idles while the second goes on elsewhere."""
    job = make_job(lambda: touch(alias))
    with request() as first:
        job.do(lambda: one(alias), first)
        job.do(lambda: connections[alias].close(), first)  # noqa: PLW0108 (there)
        second = contextvars.Context()
        second.run(request_started.send, sender=None, environ={"PATH_INFO": "/2/"})
        job.go_on.set()
        job.start(second, lambda: None)
        job.result()
        lease = job.do(lambda: vars(connections[alias])["djpool_lease"], second)
    assert not lease.ended
    assert job.do(lambda: is_touched(alias), second) is True
    second.run(request_finished.send, sender=None)
    all_back(alias)


@pytest.mark.parametrize("how", ["BEGIN", "autocommit"])
def test_a_transaction_stays_with_its_thread_until_it_ends(
    alias: str, make_job: MakeJob, how: str
) -> None:
    if how == "BEGIN" and connections[alias].vendor == "oracle":
        return  # which has no such statement

    def begin() -> None:
        if how == "BEGIN":
            run(connections[alias], "BEGIN")
        else:
            transaction.set_autocommit(False, using=alias)
            one(alias)

    def end() -> None:
        if how == "BEGIN":
            run(connections[alias], "COMMIT")
            connections[alias].close()
        else:
            transaction.rollback(using=alias)
            transaction.set_autocommit(True, using=alias)

    job = make_job(begin)
    with request() as context:
        job.start(context, end)
    djpool.pool(alias).maintain()
    assert in_use(alias) == 1
    job.result()
    all_back(alias)
