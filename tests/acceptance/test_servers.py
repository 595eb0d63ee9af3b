"""What every server must give: bounded, no error, all leases back.

The views of `test_ticket_33497`, and those that take other threads, under every kind
of server. One engine for the matrix: the others differ below what a server sees.
Uvicorn runs as gunicorn's worker here, and by itself there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.acceptance.clients import MESSAGES
from tests.acceptance.commands import (
    CHANNELS,
    WSGI,
    Command,
    daphne,
    granian,
    gunicorn,
    hypercorn,
)
from tests.acceptance.server import Shop, postgres_count, postgres_settings
from tests.acceptance.shop import ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.acceptance

MAX_SIZE = 4
CLIENTS = 16
REQUESTS = 48

ONCE = f"{ITEMS}\n"
# What works with any server; the async ones with WSGI, too, in a loop of Django's.
VIEWS = {
    "/sync/": ONCE,
    "/atomic/": ONCE,
    "/acount/": ONCE,
    "/sync_stream/": ONCE * 2,
    "/thread_that_ends/": ONCE,
}
ASYNC_VIEWS = {
    "/other_thread/": ONCE,
    "/to_thread/": ONCE,
    "/cancelled/": ONCE,
    "/cancelled_thread/": ONCE,
    "/events/": f"data: {ITEMS}\n\n" * 2,
}
CONSUMERS = ["/ws/sync/", "/ws/async/", "/ws/threads/"]


class Kind(NamedTuple):
    """A server: how it is started, and what can be asked of it."""

    command: Command
    asgi: bool

    @property
    def views(self) -> dict[str, str]:
        """Paths, and the right answers."""
        return VIEWS | ASYNC_VIEWS if self.asgi else VIEWS


KINDS = {
    "daphne": Kind(daphne, asgi=True),
    "hypercorn": Kind(hypercorn, asgi=True),
    "granian": Kind(granian("asginl", CHANNELS), asgi=True),
    "gunicorn-uvicorn": Kind(
        gunicorn("uvicorn_worker.UvicornWorker", CHANNELS), asgi=True
    ),
    "gunicorn-asgi": Kind(gunicorn("asgi", CHANNELS), asgi=True),
    "gunicorn-gthread": Kind(gunicorn("gthread", WSGI, "--threads=8"), asgi=False),
    "granian-wsgi": Kind(granian("wsgi", WSGI, "--blocking-threads=8"), asgi=False),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Give every kind of server."""
    return KINDS[request.param]


@pytest.fixture(scope="module")
def shop(kind: Kind, postgres: PostgresServer) -> Iterator[Shop]:
    """Give the shop, running on it."""
    settings = postgres_settings(postgres) | {"ENGINE": "djpool.backends.postgresql"}
    settings["OPTIONS"]["pool"] = {"max_size": MAX_SIZE}
    with Shop(settings, postgres_count(postgres), kind.command) as shop:
        yield shop


def test_a_pool_of_four_serves_everybody(kind: Kind, shop: Shop) -> None:
    """Whatever the view."""
    for view, right in kind.views.items():
        mark = shop.mark()
        with shop.watched() as watch:
            outcome = shop.drive(view, right, requests=REQUESTS, concurrency=CLIENTS)
            shop.wait_until_at_rest()
        assert (outcome.errors, outcome.answered) == ({}, REQUESTS), view
        assert 1 <= watch.most <= MAX_SIZE, view
        if view == "/thread_that_ends/":
            # Taken back, which the log tells; and no more than that was.
            assert shop.stats().reclaimed_total == REQUESTS
        else:
            assert shop.alarms(mark) == "", view


def test_clients_that_hang_up_take_nothing_with_them(kind: Kind, shop: Shop) -> None:
    """Views are cancelled, or go on and answer nobody; others are served all the same.

    Servers complain in different words of clients that are gone; djpool does not.
    """
    before, mark = shop.stats(), shop.mark()
    for view, right in kind.views.items():
        if view == "/thread_that_ends/":
            continue
        with shop.watched() as watch:
            outcome = shop.hang_up(
                f"{view}?pause=0.01", right, requests=REQUESTS, concurrency=CLIENTS
            )
            shop.wait_until_at_rest()
        assert (outcome.errors, outcome.hung_up) == ({}, REQUESTS), view
        assert 1 <= watch.most <= MAX_SIZE, view
    after = shop.stats()
    assert "never given back" not in shop.log_since(mark)
    assert after.reclaimed_total == before.reclaimed_total
    assert after.timeouts_total == after.open_errors_total == 0


@pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if kind.asgi], indirect=True
)
def test_websockets(shop: Shop) -> None:
    """Channels consumers of each kind, and clients that are gone without a word."""
    for path in CONSUMERS:
        with shop.watched() as watch:
            outcome = shop.talk(
                path, str(ITEMS), messages=REQUESTS, concurrency=CLIENTS
            )
            if path == "/ws/async/":
                # The thread in which asgiref runs what async consumers ask for is one,
                # and for all. Channels has it give back before each message and at each
                # end, but for an end in the middle of send(): the next is that, too.
                shop.talk(path, str(ITEMS), messages=MESSAGES, concurrency=1)
            shop.wait_until_at_rest()
        assert (outcome.errors, outcome.answered) == ({}, REQUESTS), path
        assert 1 <= watch.most <= MAX_SIZE, path
