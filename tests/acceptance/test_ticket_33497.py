"""Django's ticket 33497: under ASGI, connections are not kept to a number.

A pool of four, 64 clients, every kind of view, one process of uvicorn. The server's
connections are counted from outside all the time: there are never more than four.
Nobody gets an error, and in the end every connection is back in the pool. The same with
leases that end with each transaction; then who waits for something else has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.commands import ASGI, WSGI, gunicorn, uvicorn
from tests.acceptance.server import (
    Count,
    Shop,
    file_count,
    postgres_count,
    postgres_settings,
)
from tests.acceptance.shop import ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.acceptance

MAX_SIZE = 4
CLIENTS = 64

# What the ticket is about, and what a right answer is.
ONCE = f"{ITEMS}\n"
VIEWS = {
    "/sync/": ONCE,
    "/acount/": ONCE,
    "/async_stream/": ONCE * 2,
    "/sync_stream/": ONCE * 2,
    "/async_for/": ONCE,
    "/gathered/": ONCE,
}
# Less common ones.
OTHERS = {
    "/atomic/": ONCE,
    "/aiterator/": ONCE,
    "/aiterator_stream/": "10\n20\n30\n",
}
EVERY = VIEWS | OTHERS
# Views whose error page queries, too, and its status. Django runs the page in the
# loop's own executor up to 6.1, and not in the request's thread: ticket 36027.
ERRORS = {
    "/missing/": 404,
    "/missing_sync/": 404,
    "/of_no_view/": 404,
    "/failing/": 500,
    "/failing_sync/": 500,
}
# What a server's log says of djpool's, or of the database's, when it is not as it
# should be. Django itself logs each error, with its traceback.
COMPLAINTS = ("never given back", "PoolTimeout", "OperationalError", "ResourceWarning")


@dataclass(frozen=True)
class Size:
    """How many requests: for each view, for less common ones, and to hang up on."""

    view: int
    other: int
    hang_up: int


@dataclass(frozen=True)
class Case:
    """A shop, and how much of a load it gets."""

    shop: Shop
    size: Size


SIZES = {
    "postgresql-native": Size(view=2000, other=150, hang_up=150),
    "postgresql-fallback": Size(view=250, other=80, hang_up=80),
    "postgresql-native+transaction": Size(view=250, other=80, hang_up=80),
    "sqlite": Size(view=100, other=60, hang_up=60),
    "sqlite+transaction": Size(view=80, other=60, hang_up=60),
}


def database_of(
    what: str, request: pytest.FixtureRequest, folder: Path, pool: dict[str, Any]
) -> tuple[dict[str, Any], Count]:
    """Give the DATABASES entry of a kind of database and pool, and what counts it."""
    kind, _, implementation = what.partition("-")
    if kind == "postgresql":
        postgres = request.getfixturevalue("postgres")
        settings, count = postgres_settings(postgres), postgres_count(postgres)
        pool = pool | {"implementation": implementation}
    else:
        path = folder.resolve() / "shop.sqlite3"
        settings, count = {"NAME": str(path), "OPTIONS": {}}, file_count(path)
    settings["ENGINE"] = f"djpool.backends.{'sqlite3' if kind == 'sqlite' else kind}"
    settings["OPTIONS"]["pool"] = pool
    return settings, count


@pytest.fixture(scope="module", params=SIZES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Give the running shop on each kind of database and pool."""
    what, _, release = request.param.partition("+")
    pool: dict[str, Any] = {"max_size": MAX_SIZE, "release": release or "request"}
    folder = tmp_path_factory.mktemp("shop")
    with Shop(*database_of(what, request, folder, pool)) as shop:
        yield Case(shop, SIZES[request.param])


@pytest.mark.parametrize("view", EVERY)
def test_a_pool_of_four_serves_everybody(case: Case, view: str) -> None:
    """Never more than four connections, no error, and all leases back."""
    shop, mark = case.shop, case.shop.mark()
    requests = case.size.view if view in VIEWS else case.size.other
    with shop.watched() as watch:
        outcome = shop.drive(view, EVERY[view], requests=requests, concurrency=CLIENTS)
        shop.wait_until_at_rest()
    assert outcome.errors == {}
    assert outcome.answered == requests
    assert watch.looks > 10
    assert 1 <= watch.most <= MAX_SIZE
    assert shop.alarms(mark) == ""


@pytest.mark.parametrize("view", EVERY)
def test_clients_that_hang_up_take_nothing_with_them(case: Case, view: str) -> None:
    """Views are cancelled at any point; those who wait are served all the same."""
    shop, mark = case.shop, case.shop.mark()
    requests = case.size.view if view == "/acount/" else case.size.hang_up
    with shop.watched() as watch:
        outcome = shop.hang_up(
            f"{view}?pause=0.01", EVERY[view], requests=requests, concurrency=CLIENTS
        )
        shop.wait_until_at_rest()
    assert outcome.hung_up == requests
    assert outcome.errors == {}
    assert watch.looks > 10
    assert 1 <= watch.most <= MAX_SIZE
    assert shop.alarms(mark) == ""
    # Not by luck either: nothing was left to the garbage collector.
    assert shop.stats().reclaimed_total == 0


@pytest.mark.parametrize("view", ERRORS)
def test_error_pages_that_query(case: Case, view: str) -> None:
    """What they lease in another thread comes back, too."""
    shop, mark, requests = case.shop, case.shop.mark(), case.size.other
    with shop.watched() as watch:
        outcome = shop.drive(
            view, ONCE, requests=requests, concurrency=CLIENTS, status=ERRORS[view]
        )
        shop.wait_until_at_rest()
    assert outcome.errors == {}
    assert outcome.answered == requests
    assert 1 <= watch.most <= MAX_SIZE
    log = shop.log_since(mark)
    assert [each for each in COMPLAINTS if each in log] == []


@pytest.mark.parametrize("kind", ["postgresql-native", "postgresql-fallback", "sqlite"])
def test_error_pages_that_query_under_a_synchronous_middleware(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The view's thread waits in the middleware, with the request's connection."""
    pool = {"max_size": MAX_SIZE, "timeout": 10}
    settings, count = database_of(kind, request, tmp_path, pool)
    middleware = ["tests.acceptance.shop.views.synchronous_middleware"]
    with Shop(settings, count, middleware=middleware) as shop:
        for view, status in ERRORS.items():
            outcome = shop.drive(
                view, ONCE, requests=100, concurrency=CLIENTS, status=status
            )
            assert outcome.errors == {}
            shop.wait_until_at_rest()
        assert shop.stats().timeouts_total == 0


def test_other_processes_see_the_same(case: Case) -> None:
    """`poolstats` and `djpool.stats()` agree that the pool is at rest."""
    case.shop.drive("/sync/", ONCE, requests=CLIENTS, concurrency=CLIENTS)
    case.shop.wait_until_at_rest()
    outside, inside = case.shop.poolstats(), case.shop.stats()
    assert outside == inside
    assert (inside.in_use, inside.waiting, inside.idle) == (0, 0, inside.size)
    assert inside.timeouts_total == inside.open_errors_total == 0


@pytest.mark.parametrize("view", ["/sync/", "/acount/"])
def test_without_a_pool_connections_leak(postgres: PostgresServer, view: str) -> None:
    """The control: Django's own backend, and no more than two clients.

    They need two connections, or four where their last requests linger; and yet
    there are more.
    """
    settings = postgres_settings(postgres) | {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 600,
    }
    with (
        Shop(settings, postgres_count(postgres)) as shop,
        shop.watched() as watch,
    ):
        outcome = shop.drive(view, ONCE, requests=200, concurrency=2)
    assert outcome.answered == 200
    assert watch.most > MAX_SIZE


@pytest.mark.parametrize("view", ["/lone/", "/lone_sync/", "/events/"])
def test_who_waits_for_something_else_has_no_connection(
    postgres: PostgresServer, view: str
) -> None:
    """Sixteen requests amid a pause of seconds, and a pool of one."""
    settings = postgres_settings(postgres) | {"ENGINE": "djpool.backends.postgresql"}
    settings["OPTIONS"]["pool"] = {"max_size": 1, "release": "transaction"}
    command = gunicorn("gthread", WSGI, "--threads=20")
    with Shop(
        settings,
        postgres_count(postgres),
        command if view == "/lone_sync/" else uvicorn(ASGI),
    ) as shop:
        right = f"data: {ITEMS}\n\n" * 2 if view == "/events/" else ONCE
        outcome = shop.drive(f"{view}?pause=2", right, requests=16, concurrency=16)
        assert outcome.errors == {}
        stats = shop.stats()
    # In turn, and not for the two seconds of each.
    assert stats.opened_total == 1
    longest = stats.wait_seconds.quantile(1.0)
    assert longest is not None
    assert longest <= 1
