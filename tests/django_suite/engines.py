"""The engines that the suite runs with, each beside the one that it stands in for."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djpool.backends import STOCK
from tests.backends.engines import engine_of
from tests.servers.mariadb import MariaDBServer
from tests.servers.mysql import MySQLServer
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Every backend in every implementation, on every kind of server that it is for, and
# with leases that end with the request and with the transaction. Those that take the
# longest first.
IN_REQUESTS = (
    "mysql_connector-native",
    "mysql_connector-fallback",
    "postgresql-native",
    "postgresql-fallback",
    "mysql@mariadb",
    "mysql@mysql",
    "sqlite3",
)
IN_TRANSACTIONS = (
    "mysql_connector-native+transaction",
    "mysql_connector-fallback+transaction",
    "postgresql-native+transaction",
    "postgresql-fallback+transaction",
    "mysql+transaction@mariadb",
    "mysql+transaction@mysql",
    "sqlite3+transaction",
)
ENGINES = (*IN_REQUESTS, *IN_TRANSACTIONS)

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
        parts = engine_of(engine)
        backend, server = parts.backend, parts.server
        described: dict[str, Any] = {"ENGINE": STOCK[backend], **self.account}
        if not stock:
            described["ENGINE"] = f"djpool.backends.{backend}"
            described["OPTIONS"] = {"pool": {"max_size": 10, **parts.pool}}
        databases = {}
        for alias in ("default", "other"):
            name = f"{engine}_{alias}{'_stock' if stock else ''}"
            name = re.sub(r"\W", "_", name)
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
