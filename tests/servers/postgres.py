"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql

from tests.servers.process import ServerError, ServerProcess, run_as, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where Debian and its kin keep the servers, one directory a version.
DEBIAN = Path("/usr/lib/postgresql")

StopMode = Literal["fast", "immediate"]

# "fast" ends sessions with a message, "immediate" just drops them, like a crash.
SIGNALS: dict[StopMode, int] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

CONFIGURATION = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 100
shared_buffers = '32MB'
autovacuum = off
timezone = 'UTC'

# Safe enough for a server that may crash on a machine that does not.
fsync = off
full_page_writes = off

# The tests count what a server is asked.
log_statement = 'all'
log_connections = on
log_disconnections = on
log_line_prefix = '%m [%p] %a '
"""


@cache
def find_bin_directory() -> Path:
    """Return the directory of the newest PostgreSQL *server* there is.

    Raises:
        ServerError: There is none. Many machines have only the client.
    """
    candidates = []
    if pg_config := shutil.which("pg_config"):
        printed = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, check=False
        )
        candidates.append(Path(printed.stdout.strip()))
    candidates += sorted(DEBIAN.glob("*/bin"), key=_major_version, reverse=True)
    if postgres := shutil.which("postgres"):
        candidates.append(Path(postgres).parent)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    looked = ", ".join(map(str, candidates)) or f"pg_config, {DEBIAN}, PATH"
    raise ServerError(f"the tests need a PostgreSQL server; looked in {looked}")


def _major_version(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdigit() else 0


def pids(admin: psycopg.Connection[tuple[Any, ...]], user: str) -> list[int]:
    """Return the process of every session that a role has, but the asking one."""
    rows = admin.execute(
        "SELECT pid FROM pg_stat_activity WHERE usename = %s"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        [user],
    )
    return [pid for (pid,) in rows]


class PostgresServer(ServerProcess):
    """A PostgreSQL server on loopback, over TCP only, passwords wanted.

    `user` is a plain role that may create databases and owns `database`; `superuser`
    may do everything. Everything is logged: see `mark()` and `log_since()`.
    """

    user = "djpool"
    database = "djpool"
    superuser = "postgres"

    def __init__(self) -> None:
        """Make the server's files. `start()` starts it.

        Raises:
            ServerError: No server is installed, or `initdb` fails.
        """
        self._bin = find_bin_directory()
        super().__init__("postgres", run_as("postgres", "nobody"))
        self._data = self.directory / "data"
        self._prepared = False
        self.password = secrets.token_urlsafe(12)
        self.superuser_password = secrets.token_urlsafe(12)
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        self.spawn([self._bin / "postgres", "-D", self._data], self._is_ready)
        if not self._prepared:
            self._create_role()
            self._prepared = True

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, if it runs. `start()` starts it again on the same port."""
        self.end(SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server: same port, same data, no session survives."""
        self.stop(mode)
        self.start()

    def start_cold(self) -> None:
        """Start it as a standby that takes no sessions, until `promote()`.

        To who connects it says what a server says that is starting.
        """
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        os.chown(signal_file, self.account.uid, self.account.gid)
        mark = self.mark()
        self.spawn(
            [self._bin / "postgres", "-D", self._data, "-c", "hot_standby=off"],
            lambda: "entering standby mode" in self.log_since(mark),
        )

    def promote(self) -> None:
        """Have a standby become a server like any other, and wait until it is."""
        self.run([self._bin / "pg_ctl", "promote", "-D", self._data])
        wait_until(self._is_ready, "the standby to be promoted")

    def connection_parameters(self, **changes: Any) -> dict[str, Any]:
        """Return what `psycopg.connect()` takes, for the plain role."""
        parameters = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }
        return parameters | changes

    @contextmanager
    def admin(
        self, database: str = "postgres"
    ) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Give a superuser's connection in autocommit mode, closed after the block."""
        parameters = self.connection_parameters(
            user=self.superuser, password=self.superuser_password, dbname=database
        )
        connection = psycopg.connect(**parameters, autocommit=True, connect_timeout=10)
        try:
            yield connection
        finally:
            connection.close()

    def sessions(self, user: str = user) -> int:
        """Return how many sessions a role has on the server now."""
        with self.admin() as admin:
            return len(pids(admin, user))

    def kill_sessions(self, user: str = user) -> int:
        """End all sessions of a role, as an administrator does; return how many.

        When it returns, they are gone from the server; their clients may not know it.
        """
        with self.admin() as admin:
            doomed = pids(admin, user)
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [doomed]
            )
            wait_until(
                lambda: not set(doomed) & set(pids(admin, user)),
                f"the sessions {doomed} to end",
            )
        return len(doomed)

    def _initialise(self) -> None:
        password_file = self.directory / "superuser-password"
        password_file.write_text(self.superuser_password)
        password_file.chmod(0o644)  # the directory is closed to others
        self.run(
            [
                self._bin / "initdb",
                f"--pgdata={self._data}",
                f"--username={self.superuser}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]
        )
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION.format(host=self.host, port=self.port))

    def _create_role(self) -> None:
        role, database = sql.Identifier(self.user), sql.Identifier(self.database)
        with self.admin() as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                    role, sql.Literal(self.password)
                )
            )
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))

    def _is_ready(self) -> bool:
        # The eighth line of this file is the server's state: its own word, and unlike
        # trying to connect it leaves no errors in the log.
        try:
            state = (self._data / "postmaster.pid").read_text().splitlines()[7]
        except (FileNotFoundError, IndexError):
            return False
        return state.strip() == "ready"
