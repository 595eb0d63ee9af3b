"""How long requests take just after a server restarted, or came back.

Ten connections lie idle; the server is restarted as by a crash; then ten requests, one
after the other, and once more, ten at the same time. Last, the server is down for a
second while sixteen threads go on asking: how long after it takes connections again
the first of them is answered.

    python benchmarks/outages.py [--quick] [--markdown]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import django
from django.conf import settings
from django.db import connections
from figures import Table, arguments, conditions, mysql_server, postgres_server, show

import djpool

IDLE, CROWD = 10, 16
# For how long the server is away in the last part.
AWAY = 1.0

SERVERS: dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
    "PostgreSQL, psycopg 3": ("postgresql", postgres_server),
    "MariaDB, mysqlclient": ("mysql", lambda: mysql_server("mariadb")),
    "MySQL, mysqlclient": ("mysql", lambda: mysql_server("mysql")),
    "MySQL, Connector/Python": ("mysql_connector", lambda: mysql_server("mysql")),
}


def ask() -> float:
    """The seconds that a request takes, on a Django connection of its own."""
    began = time.perf_counter()
    wrapper = connections.create_connection("default")
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        wrapper.close()
    return time.perf_counter() - began


def one_by_one() -> list[float]:
    return [ask() for _ in range(IDLE)]


def at_once() -> list[float]:
    took: list[float] = []
    threads = [threading.Thread(target=lambda: took.append(ask())) for _ in range(IDLE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def after_a_restart(server: Any, requests: Callable[[], list[float]]) -> str:
    wrappers = [connections.create_connection("default") for _ in range(IDLE)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    server.restart("immediate")
    return f"{max(requests()) * 1000:.0f} ms"


def after_an_absence(server: Any) -> str:
    over = threading.Event()
    answered: list[float] = []

    def insist() -> None:
        while not over.is_set():
            try:
                ask()
            except Exception:  # noqa: BLE001 (it is down)
                time.sleep(0.01)
            else:
                answered.append(time.perf_counter())

    threads = [threading.Thread(target=insist) for _ in range(CROWD)]
    server.stop("immediate")
    for thread in threads:
        thread.start()
    time.sleep(AWAY)
    server.start()
    accepts = time.perf_counter()
    while not answered:
        time.sleep(0.001)
    over.set()
    for thread in threads:
        thread.join()
    return f"{max(min(answered) - accepts, 0.0) * 1000:.0f} ms"


def row(name: str, engine: str, server: Any) -> tuple[str, ...]:
    entry = {
        "ENGINE": f"djpool.backends.{engine}",
        "NAME": server.database,
        "USER": server.user,
        "PASSWORD": server.password,
        "HOST": server.host,
        "PORT": str(server.port),
        "OPTIONS": {"pool": {"max_size": IDLE}},
    }
    connections.settings |= connections.configure_settings({"default": entry})
    try:
        return (
            name,
            after_a_restart(server, one_by_one),
            after_a_restart(server, at_once),
            after_an_absence(server),
        )
    finally:
        connections["default"].close()
        del connections["default"]
        djpool.close_all()


def main() -> None:
    options = arguments("Requests after a restart.").parse_args()
    settings.configure(USE_TZ=True, DATABASES={"default": {}})
    django.setup()
    found = []
    for name, (engine, make) in list(SERVERS.items())[: 1 if options.quick else None]:
        with make() as server:
            found.append(row(name, engine, server))
    columns = ("server", "ten one by one", "ten at once", "first after an absence")
    title = "The slowest request after a restart"
    drivers = ("Django", "psycopg", "mysqlclient", "mysql-connector-python")
    table = Table(title, columns, tuple(found))
    show([conditions(*drivers), table], markdown=options.markdown)


if __name__ == "__main__":
    main()
