"""Requests that mostly wait for something else, and four connections.

A view makes one query and then does something else for 200 ms, with 64 clients at a
time: on uvicorn, and on gunicorn's threads. How many requests a second are served
depends on whether the connection is held meanwhile.

    python benchmarks/waiting.py [--quick] [--markdown]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from figures import (
    Table,
    Target,
    arguments,
    conditions,
    postgres_server,
    progress,
    show,
    targets_table,
)

CONNECTIONS, CLIENTS, PAUSE = 4, 64, 0.2
EARLY, OURS = 'djpool, release: "transaction"', "djpool"
CLOSED = "Django's pool, connection.close() after the query"
BOUNCER = "PgBouncer, transaction mode, CONN_MAX_AGE="
STOCK, POOLED = "django.db.backends.postgresql", "djpool.backends.postgresql"
SERVERS = {"uvicorn": "/lone/", "gunicorn gthread": "/lone_sync/"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to set the project up."""

    name: str
    settings: Mapping[str, Any]
    query: str = ""
    bouncer: bool = False


def pool(engine: str, **options: Any) -> dict[str, Any]:
    return {
        "ENGINE": engine,
        "OPTIONS": {"pool": {"max_size": CONNECTIONS, "timeout": 60, **options}},
    }


WAYS = (
    Way("Django's pool", pool(STOCK, min_size=1)),
    Way(CLOSED, pool(STOCK, min_size=1), query="&close"),
    Way(BOUNCER + "0", {"ENGINE": STOCK}, bouncer=True),
    Way(BOUNCER + "600", {"ENGINE": STOCK, "CONN_MAX_AGE": 600}, bouncer=True),
    Way(OURS, pool(POOLED)),
    Way(EARLY, pool(POOLED, release="transaction")),
)


@dataclass(frozen=True, slots=True)
class Service:
    """What 64 clients got."""

    rate: float
    errors: int
    connections: int


@contextmanager
def place(way: Way, postgres: Any) -> Iterator[dict[str, Any]]:
    """The entry in DATABASES; with a PgBouncer in front of the server if need be.

    Only then, because its connections would count.
    """
    from tests.acceptance.server import postgres_settings
    from tests.servers.pgbouncer import SETTINGS, PgBouncer

    settings = postgres_settings(postgres)
    options = {**settings["OPTIONS"], **way.settings.get("OPTIONS", {})}
    settings |= {**way.settings, "OPTIONS": options}
    if not way.bouncer:
        yield settings
        return
    sized = {**SETTINGS, "default_pool_size": str(CONNECTIONS)}
    with PgBouncer(postgres, sized) as bouncer:
        yield {**settings, "HOST": bouncer.host, "PORT": str(bouncer.port)}


def serve(
    way: Way, server: str, postgres: Any, settings: Mapping[str, Any], seconds: float
) -> Service:
    """Have the clients ask for so many seconds, or a little longer."""
    from tests.acceptance.commands import ASGI, WSGI, gunicorn, uvicorn
    from tests.acceptance.server import Shop, postgres_count
    from tests.acceptance.shop import ITEMS

    command = uvicorn(ASGI)
    if server != "uvicorn":
        command = gunicorn("gthread", WSGI, f"--threads={CLIENTS}")
    path = f"{SERVERS[server]}?pause={PAUSE}{way.query}"
    right = f"{ITEMS}\n"
    with Shop(settings, postgres_count(postgres), command) as shop:
        shop.drive(path, right, requests=CLIENTS, concurrency=CLIENTS)  # to warm up
        answered = errors = 0
        with shop.watched() as watch:
            started = time.perf_counter()
            while (spent := time.perf_counter() - started) < seconds:
                outcome = shop.drive(path, right, requests=256, concurrency=CLIENTS)
                answered += outcome.answered
                errors += outcome.errors.total()
        return Service(answered / spent, errors, watch.most)


def rates_table(server: str, found: Mapping[tuple[str, str], list[Service]]) -> Table:
    rows = []
    for way in WAYS:
        services = found[way.name, server]
        best = max(services, key=lambda each: each.rate)
        rows.append(
            (
                way.name,
                f"{best.rate:,.0f}",
                str(sum(each.errors for each in services)),
                str(max(each.connections for each in services)),
            )
        )
    header = ("configuration", "requests/s", "errors", "connections at most")
    return Table(server, header, tuple(rows))


def targets(found: Mapping[tuple[str, str], list[Service]]) -> Iterator[Target]:
    def best(name: str, server: str) -> float:
        return max(each.rate for each in found[name, server])

    for server in SERVERS:
        ours = best(EARLY, server)
        for other, least in ((CLOSED, 0.95), (BOUNCER + "0", 1.5)):
            ratio = ours / best(other, server)
            yield Target(
                f"{server}: {EARLY} / {other}",
                f"≥ {least:.2f}",
                f"{ratio:.2f}",
                ratio >= least,
            )
        most = max(each.connections for each in found[EARLY, server])
        yield Target(
            f"{server}: connections of {EARLY}",
            f"≤ {CONNECTIONS}",
            str(most),
            most <= CONNECTIONS,
        )


def main() -> None:
    options = arguments("Requests that mostly wait.").parse_args()
    rounds, seconds = (1, 2.0) if options.quick else (3, 8.0)
    found: dict[tuple[str, str], list[Service]] = {}
    with postgres_server() as postgres:
        with postgres.admin() as admin:
            admin.execute("ALTER SYSTEM SET log_statement = 'none'")
            admin.execute("SELECT pg_reload_conf()")
        for number in range(rounds):
            for way in WAYS:
                for server in SERVERS:
                    progress(f"round {number + 1}: {way.name}, {server}")
                    with place(way, postgres) as settings:
                        service = serve(way, server, postgres, settings, seconds)
                    found.setdefault((way.name, server), []).append(service)
    parts: list[Table | str] = [
        conditions("Django", "psycopg", "psycopg-pool", "uvicorn", "gunicorn")
        + f" One query, then {PAUSE:g} s; {CLIENTS} clients; {CONNECTIONS} connections,"
        f" with PgBouncer its own to the server. The best of {rounds} rounds."
    ]
    parts += [rates_table(server, found) for server in SERVERS]
    parts.append(targets_table("waiting", targets(found)))
    show(parts, markdown=options.markdown)


if __name__ == "__main__":
    main()
