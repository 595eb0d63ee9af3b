"""What queries after Django has closed the connections of a request, under WSGI.

A receiver of `request_finished` does (an access log), a WSGI middleware around Django,
and the `close()` of a response. The thread lives on, perhaps without a next request.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.urls import path

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES
from tests.backends.kinds import run

# What the view and its surroundings ask, by the test.
ask: Callable[[], object] = object


class Closing(HttpResponse):
    """Asks when the server closes it."""

    def close(self) -> None:
        """Close it as Django does, and then ask."""
        super().close()
        ask()


def view(request: HttpRequest, kind: str) -> HttpResponse:
    """Ask, and answer."""
    ask()
    return Closing("ok") if kind == "close" else HttpResponse("ok")


urlpatterns = [path("<str:kind>/", view)]


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
    wrapper = connections[alias]
    only = " FROM DUAL" if wrapper.vendor == "oracle" else ""
    monkeypatch.setattr(
        f"{__name__}.ask", lambda: run(connections[alias], f"SELECT 1{only}")
    )
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
