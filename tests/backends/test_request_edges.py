"""Requests that query after their end, and requests that query in two threads.

Under WSGI, a receiver of `request_finished` (an access log), a middleware around Django
and the `close()` of a response query when Django has closed the thread's connections.
The thread lives on, perhaps without a next request.

Under ASGI, an error page, `asyncio.to_thread()` and the like query in another thread
than the view, whose connection is the request's until its end.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import (
    ThreadSensitiveContext,
    markcoroutinefunction,
    sync_to_async,
)
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.test.utils import override_settings
from django.urls import path

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES
from tests.backends.kinds import run

# What the view and its surroundings ask, by the test.
ask: Callable[[], object] = object


def ask_of(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have views and their surroundings query this alias."""
    only = " FROM DUAL" if connections[alias].vendor == "oracle" else ""
    monkeypatch.setattr(
        f"{__name__}.ask", lambda: run(connections[alias], f"SELECT 1{only}")
    )


class Closing(HttpResponse):
    """Asks when the server closes it."""

    def close(self) -> None:
        """Close it as Django does, and then ask."""
        super().close()
        ask()


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Query for the error page, which Django up to 6.1 does in a thread of its own."""
    del request, exception
    ask()
    return HttpResponse("ok", status=404)


async def missing(request: HttpRequest) -> HttpResponse:
    """Query, and find nothing."""
    del request
    await sync_to_async(ask)()
    raise Http404


async def pausing(request: HttpRequest) -> HttpResponse:
    """Query, and then wait for the event loop's executor, to do something else."""
    del request
    await sync_to_async(ask)()
    await asyncio.sleep(0.2)
    await asyncio.to_thread(time.sleep, 0.0)
    return HttpResponse("ok")


async def elsewhere(request: HttpRequest) -> HttpResponse:
    """Query in the event loop's executor."""
    del request
    await asyncio.to_thread(ask)
    return HttpResponse("ok")


async def gathering(request: HttpRequest) -> HttpResponse:
    """Query in two other threads at once, and in its own before and after."""
    del request
    await sync_to_async(ask)()
    await asyncio.gather(asyncio.to_thread(ask), asyncio.to_thread(ask))
    await sync_to_async(ask)()
    return HttpResponse("ok")


def failing(request: HttpRequest) -> HttpResponse:
    """Query, and fail."""
    del request
    ask()
    raise ValueError


def server_error(request: HttpRequest) -> HttpResponse:
    """Query for the error page, in the same thread as the other one."""
    del request
    ask()
    return HttpResponse("ok", status=500)


class Middleware:
    """A synchronous middleware: the request's thread waits in it for the view."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Query before and after the view, if the view does so, too."""
        ask()
        response = self._get_response(request)
        ask()
        return response


class AsyncMiddleware:
    """A middleware that changes to the event loop, and does nothing there."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Await the view."""
        response: HttpResponse = await self._get_response(request)
        return response


STATUSES = {"/missing/": 404, "/failing/": 500, "/gathering/": 200}
MIDDLEWARE = {
    "none": [],
    "sync": [f"{__name__}.Middleware"],
    # The thread waits in one middleware for a job, and in the job in the other one.
    "sync-async-sync": [
        f"{__name__}.{each}" for each in ("Middleware", "AsyncMiddleware", "Middleware")
    ],
}


def view(request: HttpRequest, kind: str) -> HttpResponse:
    """Ask, and answer."""
    ask()
    return Closing("ok") if kind == "close" else HttpResponse("ok")


urlpatterns = [
    path("pausing/", pausing),
    path("elsewhere/", elsewhere),
    path("missing/", missing),
    path("failing/", failing),
    path("gathering/", gathering),
    path("<str:kind>/", view),
]
handler404 = page_not_found
handler500 = server_error


def receive(**_kwargs: Any) -> None:
    """Ask in a receiver of `request_finished`."""
    ask()


class Threads:
    """Threads of a server, which serve one request after another, and live on."""

    def __init__(self, count: int, kind: str) -> None:
        self._kind = kind
        self._handler = WSGIHandler()
        self._jobs = [queue.SimpleQueue[bool]() for _ in range(count)]
        self.done: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(jobs,)) for jobs in self._jobs
        ]
        for thread in self._threads:
            thread.start()

    def serve(self) -> list[object]:
        """Have each serve a request; return what came of each."""
        found = []
        for jobs in self._jobs:
            jobs.put(True)
            found.append(self.done.get(timeout=60))
        return found

    def end(self) -> None:
        """End them."""
        for jobs in self._jobs:
            jobs.put(False)
        for thread in self._threads:
            thread.join(60)

    def _run(self, jobs: queue.SimpleQueue[bool]) -> None:
        while jobs.get():
            try:
                environ = RequestFactory().get(f"/{self._kind}/").environ
                response: Any = self._handler(environ, lambda *_: None)
                body = b"".join(response)
                response.close()
                if self._kind == "middleware":
                    ask()
                self.done.put(body)
            except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
                self.done.put(error)


@pytest.fixture
def serve(
    engine: str,
    kind: str,
    release: str,
    make_alias: MakeAlias,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], list[object]]]:
    alias = pooled(engine, make_alias, max_size=2, timeout=10, release=release)
    ask_of(alias, monkeypatch)
    if "receiver" in kind:
        request_finished.connect(receive)
    if kind == "early-receiver":
        # As one that was connected before djpool was loaded: between Django's and ours.
        receivers = request_finished.receivers
        receivers.insert(1, receivers.pop())
    threads = Threads(4, kind)
    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        yield threads.serve
        threads.end()
    request_finished.disconnect(receive)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["receiver", "early-receiver", "middleware", "close"])
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_it_keeps_no_connection(
    serve: Callable[[], list[object]], make_alias: MakeAlias
) -> None:
    """Four threads do it, and the pool has two connections."""
    for _ in range(3):
        assert serve() == [b"ok"] * 4
    (figures,) = (each for each in djpool.stats().values() if each.acquired_total)
    wait_until(lambda: djpool.stats(figures.alias).in_use == 0, "all to come back")
    assert djpool.stats(figures.alias).timeouts_total == 0


async def request_of(handler: ASGIHandler, where: str) -> int:
    """Have a handler answer a request; return the status."""
    scope = AsyncRequestFactory()._base_scope(path=where)  # type: ignore[attr-defined]
    communicator: Any = ApplicationCommunicator
    client = communicator(handler, scope)
    await client.send_input({"type": "http.request", "body": b""})
    status: int = (await client.receive_output(60))["status"]
    while (await client.receive_output(60)).get("more_body"):
        pass
    await client.wait(60)
    return status


@pytest.fixture
def middleware(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set the middleware that the parameter names."""
    with override_settings(MIDDLEWARE=MIDDLEWARE[request.param]):
        yield


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("where", "release"),
    [
        ("/missing/", "request"),
        ("/failing/", "request"),
        ("/missing/", "transaction"),
        # In request mode, each of the threads may need a connection of its own.
        ("/gathering/", "transaction"),
    ],
)
@pytest.mark.parametrize("middleware", MIDDLEWARE, indirect=True)
@pytest.mark.usefixtures("middleware")
def test_one_connection_serves_requests_of_two_threads(
    engine: str,
    where: str,
    release: str,
    make_alias: MakeAlias,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight at once: none waits for what another thread of its own request has."""
    alias = pooled(engine, make_alias, max_size=1, timeout=20, release=release)
    ask_of(alias, monkeypatch)

    async def serve() -> list[int]:
        handler = ASGIHandler()
        return await asyncio.gather(*(request_of(handler, where) for _ in range(8)))

    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DEBUG=False):
        statuses = asyncio.run(serve())
    assert statuses == [STATUSES[where]] * 8
    wait_until(lambda: djpool.stats(alias).in_use == 0, "all to come back")
    figures = djpool.stats(alias)
    assert (figures.timeouts_total, figures.reclaimed_total) == (0, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thread_that_needs_its_session_keeps_it(
    engine: str, make_alias: MakeAlias
) -> None:
    """A request in two threads, of which the first is amid a transaction, or holds."""
    alias = pooled(engine, make_alias, max_size=1, timeout=0.2)

    def lease() -> None:
        connections[alias].ensure_connection()  # that of the thread

    def lease_in_vain() -> None:
        with pytest.raises(djpool.PoolTimeout):
            lease()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive, send
        async with ThreadSensitiveContext():
            await sync_to_async(request_started.send)(sender=None, scope={"path": "/"})
            for block in (transaction.atomic(alias), djpool.hold(alias)):
                await sync_to_async(block.__enter__)()
                await sync_to_async(lease)()
                await asyncio.to_thread(lease_in_vain)
                await sync_to_async(block.__exit__)(None, None, None)
            # And in the end it has none that it needs.
            await sync_to_async(lease)()
            await asyncio.to_thread(lease)
            await sync_to_async(request_finished.send)(sender=None)

    asyncio.run(serve(None, None, None))
    wait_until(lambda: djpool.stats(alias).in_use == 0, "all to come back")


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_that_wait_for_the_loop_s_executor_hold_up_nobody_in_it(
    engine: str, make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its threads wait for a connection, and who has one for such a thread."""
    alias = pooled(engine, make_alias, max_size=2, timeout=20)
    ask_of(alias, monkeypatch)

    async def serve() -> list[int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(3))
        handler = ASGIHandler()
        first = [
            asyncio.ensure_future(request_of(handler, "/pausing/")) for _ in range(2)
        ]
        await asyncio.sleep(0.1)
        others = (request_of(handler, "/elsewhere/") for _ in range(8))
        return await asyncio.gather(*first, *others)

    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        assert asyncio.run(serve()) == [200] * 10
    assert djpool.stats(alias).timeouts_total == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thread_that_rests_later_gives_it_up_later(
    engine: str, make_alias: MakeAlias
) -> None:
    """When the request waits for it in another thread already."""
    alias = pooled(engine, make_alias, max_size=1, timeout=20)
    goes_on = threading.Event()

    def lease() -> None:
        connections[alias].ensure_connection()

    def lease_and_work() -> None:
        lease()
        assert goes_on.wait(20)
        lease()  # it is still the thread's

    def let_it_go_on() -> None:
        wait_until(lambda: djpool.stats(alias).waiting == 1, "the other thread to wait")
        goes_on.set()

    def leased() -> bool:
        return djpool.stats(alias).in_use == 1

    async def serve() -> None:
        async with ThreadSensitiveContext():
            await sync_to_async(request_started.send)(sender=None, scope={"path": "/"})
            working = asyncio.ensure_future(sync_to_async(lease_and_work)())
            await asyncio.to_thread(wait_until, leased, "the first thread's lease")
            there = asyncio.to_thread(lease)
            await asyncio.gather(there, asyncio.to_thread(let_it_go_on), working)
            await sync_to_async(request_finished.send)(sender=None)

    asyncio.run(serve())
    wait_until(lambda: djpool.stats(alias).in_use == 0, "all to come back")
    assert djpool.stats(alias).timeouts_total == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_a_lifespan_handler_keeps_none_while_it_waits(
    engine: str, release: str, make_alias: MakeAlias
) -> None:
    """In request mode it is to close, as any work that no request's end ends."""
    alias = pooled(engine, make_alias, max_size=1, timeout=1, release=release)
    only = " FROM DUAL" if connections[alias].vendor == "oracle" else ""
    in_use = []

    def warm_up() -> None:
        run(connections[alias], f"SELECT 1{only}")
        if release == "request":
            close_old_connections()

    async def lifespan(events: asyncio.Queue[str], started: asyncio.Event) -> None:
        while await events.get() != "shutdown":
            await sync_to_async(warm_up)()
            in_use.append(djpool.stats(alias).in_use)
            started.set()
        await sync_to_async(warm_up)()

    async def serve() -> None:
        events, started = asyncio.Queue[str](), asyncio.Event()
        handler = asyncio.create_task(lifespan(events, started))
        events.put_nowait("startup")
        await started.wait()
        await asyncio.to_thread(warm_up)  # and so another one can have it
        events.put_nowait("shutdown")
        await handler

    asyncio.run(serve())
    assert in_use == [0]
    assert djpool.stats(alias).timeouts_total == 0
