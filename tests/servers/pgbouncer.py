"""A PgBouncer of the tests' own, in front of their PostgreSQL."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from tests.servers.process import ServerError, ServerProcess, run_as

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

# Where servers are, though the PATH of a plain user may not say so.
SYSTEM = "/usr/local/sbin:/usr/sbin"

# What a test may want otherwise. Where it listens and whom it lets in is added.
SETTINGS = {
    "pool_mode": "transaction",
    "max_client_conn": "200",
    "default_pool_size": "20",
    # A server that is away is tried again soon: tests restart it.
    "server_login_retry": "1",
}


def find_program() -> str:
    """Return the path of PgBouncer.

    Raises:
        ServerError: There is none.
    """
    places = f"{os.environ['PATH']}:{SYSTEM}"
    program = shutil.which("pgbouncer", path=places)
    if program is None:
        raise ServerError(f"the tests need PgBouncer: no pgbouncer in {places}")
    return program


@cache
def version() -> tuple[int, ...]:
    """Return PgBouncer's version: (1, 18, 0)."""
    printed = subprocess.run(
        [find_program(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return tuple(map(int, printed.split()[1].split(".")))


class PgBouncer(ServerProcess):
    """A PgBouncer on loopback, over TCP only, with the server's plain role and its own.

    It is what clients connect to instead: `host`, `port`, `user`, `password` and
    `database` are to be used as those of the server. The role may ask it for its state.
    """

    def __init__(
        self, postgres: PostgresServer, settings: Mapping[str, str] = SETTINGS
    ) -> None:
        """Make the files. `start()` starts it.

        Raises:
            ServerError: PgBouncer is not installed.
        """
        self._program = find_program()
        super().__init__("pgbouncer", run_as("postgres", "nobody"))
        self.user = postgres.user
        self.password = postgres.password
        self.database = postgres.database
        self._configuration = self.directory / "pgbouncer.ini"
        users = self.directory / "users.txt"
        users.write_text(f'"{self.user}" "{self.password}"\n')
        parser = configparser.ConfigParser(interpolation=None)
        parser["databases"] = {"*": f"host={postgres.host} port={postgres.port}"}
        parser["pgbouncer"] = {
            **settings,
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "admin_users": self.user,
        }
        with self._configuration.open("w") as file:
            parser.write(file)

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        self.spawn([self._program, self._configuration], self._is_ready)

    def restart(self) -> None:
        """Stop and start it: same port, no connection survives."""
        self.end()
        self.start()

    def ask(self, question: str, database: str | None = None) -> list[dict[str, Any]]:
        """Ask as the plain role, over a connection of one's own; return the rows.

        What psycopg raises is passed on.
        """
        with closing(
            psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname=database or self.database,
                autocommit=True,
                # Its console takes no other protocol than the simple one.
                cursor_factory=psycopg.ClientCursor,
            )
        ) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(question).fetchall()

    def pools(self) -> dict[str, Any]:
        """Return what it says of its connections for the plain role."""
        for told in self.ask("SHOW POOLS", "pgbouncer"):
            if told["database"] == self.database and told["user"] == self.user:
                return told
        return {}

    def _is_ready(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False
