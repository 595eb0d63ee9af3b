"""The engines that the suite runs with, each beside the one that it stands in for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.backends.engines import engine_of
from tests.servers.mariadb import MariaDBServer
from tests.servers.mysql import MySQLServer
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Every backend in every implementation, on every kind of server that it is for.
# Those that take the longest first.
ENGINES = (
    "mysql_connector-native",
    "mysql_connector-fallback",
    "postgresql-native",
    "postgresql-fallback",
    "mysql@mariadb",
    "mysql@mysql",
    "sqlite3",
)

STOCK = {
    "sqlite3": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
    "mysql_connector": "mysql.connector.django",
}

SERVERS: dict[str, type[PostgresServer | MariaDBServer | MySQLServer]] = {
    "postgres": PostgresServer,
    "mariadb": MariaDBServer,
    "mysql": MySQLServer,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where test databases go: a folder, for SQLite, or a server."""

    folder: Path
    account: dict[str, str]

    def databases(self, engine: str, *, stock: bool) -> dict[str, Any]:
        """`DATABASES` as Django's tests want them: two, of this run only."""
        backend, _implementation, server = parts = engine_of(engine)
        described: dict[str, Any] = {"ENGINE": STOCK[backend], **self.account}
        if not stock:
            described["ENGINE"] = f"djpool.backends.{backend}"
            described["OPTIONS"] = {"pool": {"max_size": 10, **parts.pool}}
        databases = {}
        for alias in ("default", "other"):
            name = f"{engine}_{alias}{'_stock' if stock else ''}"
            name = name.replace("-", "_").replace("@", "_")
            databases[alias] = {**described, "NAME": name}
            if server is None:
                # A file, because a database in memory is never pooled.
                databases[alias]["TEST"] = {"NAME": str(self.folder / name)}
        return databases


@contextmanager
def place(server: str | None, folder: Path) -> Iterator[Place]:
    """Where an engine's databases go; its server runs until the block ends."""
    if server is None:
        yield Place(folder, {})
        return
    with SERVERS[server]() as running:
        _quieten(running)
        account = {
            # Some of Django's tests make extensions, and databases of any name.
            "USER": running.superuser,
            "PASSWORD": running.superuser_password,
            "HOST": running.host,
            "PORT": str(running.port),
        }
        yield Place(folder, account)


def _quieten(server: PostgresServer | MariaDBServer | MySQLServer) -> None:
    """Have a server no longer log each statement, of which there are many."""
    if isinstance(server, PostgresServer):
        with server.admin() as postgres:
            postgres.execute("ALTER SYSTEM SET log_statement = 'none'")
            postgres.execute("SELECT pg_reload_conf()")
    else:
        with server.admin() as admin, admin.cursor() as cursor:
            cursor.execute("SET GLOBAL general_log = OFF")
