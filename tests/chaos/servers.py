"""What the soak does to a server that differs between PostgreSQL and MariaDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pymysql

from tests.servers.mariadb import MariaDBServer
from tests.servers.mysql import session_ids
from tests.servers.postgres import PostgresServer, pids


class Postgres:
    """A PostgreSQL server, over one connection of its administrator."""

    # Whether a session is amid a transaction, and whether it was changed.
    state = (
        "SELECT txid_current_if_assigned() IS NOT NULL,"
        " current_setting('application_name') = 'changed'"
    )
    change = "SET application_name = 'changed'"
    # Rows that two owners wrote in one transaction of the server's.
    mingled = "SELECT xmin::text FROM chaos GROUP BY 1 HAVING count(DISTINCT token) > 1"

    def __init__(self, server: PostgresServer, admin: psycopg.Connection[Any]) -> None:
        self.server = server
        self._admin = admin

    def sessions(self) -> list[int]:
        """The sessions of the plain role."""
        return pids(self._admin, self.server.user)

    def kill(self, session: int) -> None:
        """End one, without waiting."""
        self._admin.execute("SELECT pg_terminate_backend(%s)", [session])

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """Let no plain role in; those who are in stay."""
        with ExitStack() as fillers:
            # Superusers may have what is reserved. These are other's connections.
            while self._connections() < 100:
                try:
                    fillers.enter_context(self.server.admin())
                except psycopg.OperationalError:
                    break
            yield
        # Until they are gone, the administrator of the next event is not let in.
        deadline = time.monotonic() + 30
        while self._connections() > 50 and time.monotonic() < deadline:
            time.sleep(0.02)

    def _connections(self) -> int:
        row = self._admin.execute("SELECT count(*) FROM pg_stat_activity").fetchone()
        assert row is not None
        return int(row[0])


class MariaDB:
    """A MariaDB server, over one connection of its administrator."""

    state = "SELECT @@in_transaction, @changed IS NOT NULL"
    change = "SET @changed = 1"
    mingled = None  # it does not say which transaction wrote a row

    def __init__(self, server: MariaDBServer, admin: pymysql.Connection) -> None:
        self.server = server
        self._admin = admin

    def sessions(self) -> list[int]:
        """The sessions of the plain account."""
        return session_ids(self._admin, self.server.user)

    def kill(self, session: int) -> None:
        """End one, without waiting."""
        with suppress(pymysql.OperationalError), self._admin.cursor() as cursor:
            cursor.execute("KILL %s", [session])

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """Let nobody in; those who are in stay."""
        with ExitStack() as fillers:
            self._limit(10)  # no less is taken
            try:
                for _ in range(20):
                    fillers.enter_context(self.server.admin())
            except pymysql.OperationalError:
                pass  # full
            try:
                yield
            finally:
                self._limit(151)

    def _limit(self, connections: int) -> None:
        with self._admin.cursor() as cursor:
            cursor.execute("SET GLOBAL max_connections = %s", [connections])


Server = Postgres | MariaDB


@contextmanager
def watched(server: PostgresServer | MariaDBServer) -> Iterator[Server]:
    """Give a server with an administrator of its own."""
    if isinstance(server, PostgresServer):
        with server.admin() as admin:
            yield Postgres(server, admin)
    else:
        with server.admin() as connection:
            yield MariaDB(server, connection)
