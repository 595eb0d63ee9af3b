"""A MySQL server of the tests' own, and what it shares with MariaDB."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pymysql

from tests.servers.process import ServerError, ServerProcess, run_as, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

StopMode = Literal["fast", "immediate"]

# "fast" ends sessions and writes everything down, "immediate" is a crash.
SIGNALS: dict[StopMode, int] = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

# What scripts/fetch-mysql makes. It appears there all at once or not at all.
ARCHIVE = Path(__file__).parents[2] / ".cache" / "mysql.tar"

CONFIGURATION = """
[mysqld]
datadir = {directory}/data
tmpdir = {directory}
socket = {socket}
pid_file = {directory}/pid
bind_address = {host}
port = {port}
skip_name_resolve
max_connections = 151
performance_schema = OFF
character_set_server = utf8mb4
default_time_zone = +00:00
innodb_buffer_pool_size = 32M
innodb_buffer_pool_dump_at_shutdown = OFF

# A commit survives a crash of the server, but need not survive one of the machine.
# The doublewrite buffer stays: SIGKILL can end a write in the middle of a page.
innodb_flush_log_at_trx_commit = 2
innodb_flush_method = nosync

# The tests count what a server is asked.
general_log = ON
general_log_file = {log}
"""

# One statement a line, as --init-file wants them. In MariaDB nobody who runs it can
# grant a role, but whoever may grant it further has it.
ACCOUNTS = r"""
CREATE USER {superuser}@'%' IDENTIFIED BY '{superuser_password}';
GRANT ALL ON *.* TO {superuser}@'%' WITH GRANT OPTION;
DROP USER root@localhost;
CREATE DATABASE {database} CHARACTER SET utf8mb4;
CREATE USER {user}@'%' IDENTIFIED BY '{password}';
GRANT CREATE ON *.* TO {user}@'%';
GRANT ALL ON {database}.* TO {user}@'%';
GRANT ALL ON `test\_%`.* TO {user}@'%';
CREATE ROLE djpool_tests /*M! WITH ADMIN {user}@'%' */;
GRANT /*!80000 djpool_tests */ /*M! CREATE ON *.* */ TO {user}@'%';
"""


def session_ids(admin: pymysql.Connection, user: str) -> list[int]:
    """Return the id of every session that an account has, but the asking one."""
    with admin.cursor() as cursor:
        cursor.execute("SHOW PROCESSLIST")
        sessions = [(row[0], row[1]) for row in cursor]
    return [
        id_ for id_, whose in sessions if whose == user and id_ != admin.thread_id()
    ]


class MySQLFamilyServer(ServerProcess):
    """A server of MySQL's family on loopback, passwords wanted; see its subclasses.

    `user` is a plain account that may create databases, and do everything in `database`
    and in those whose names start with `test_`; `superuser` may do everything. Whatever
    is asked is logged: see `mark()` and `log_since()`.
    """

    user = "djpool"
    database = "djpool"
    superuser = "admin"

    # What only one of the family understands, in addition to CONFIGURATION.
    extra_configuration: ClassVar[str] = ""

    def __init__(self, name: str) -> None:
        """Make the server's files. `start()` starts it.

        Raises:
            ServerError: There is no such server, or it cannot make its files.
        """
        super().__init__(name, run_as("mysql", "nobody"))
        # Only the server's account can enter the directory, and so use the socket.
        self.socket = self.directory / "socket"
        self.configuration = self.directory / "my.cnf"
        self._accounts = self.directory / "accounts.sql"
        self._prepared = False
        self.password = secrets.token_urlsafe(12)
        self.superuser_password = secrets.token_urlsafe(12)
        # Unlike the error log, the server opens the general log by itself.
        os.chown(self.log_path, self.account.uid, self.account.gid)
        try:
            self._write_files()
            self._initialise()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        command = [*self._command(), f"--defaults-file={self.configuration}"]
        if not self._prepared:
            command.append(f"--init-file={self._accounts}")
        mark = self.mark()
        # Its own word, and unlike trying to connect it leaves no errors in the log.
        self.spawn(command, lambda: "ready for connections" in self.log_since(mark))
        self._prepared = True

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, if it runs. `start()` starts it again on the same port."""
        self.end(SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server: same port, same data, no session survives."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        # Nobody reads the files again, so the server need not put them in order.
        self.end(signal.SIGKILL)
        super().close()

    def connection_parameters(self, **changes: Any) -> dict[str, Any]:
        """Return what any driver's `connect()` takes, for the plain account."""
        parameters = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
        }
        return parameters | changes

    @contextmanager
    def admin(self, database: str = "mysql") -> Iterator[pymysql.Connection]:
        """Give a superuser's connection in autocommit mode, closed after the block."""
        connection = pymysql.connect(
            # Over it, MySQL takes a password neither encrypted nor over TLS.
            unix_socket=str(self.socket),
            user=self.superuser,
            password=self.superuser_password,
            database=database,
            autocommit=True,
            connect_timeout=10,
        )
        try:
            yield connection
        finally:
            connection.close()

    def sessions(self, user: str = user) -> int:
        """Return how many sessions an account has on the server now."""
        with self.admin() as admin:
            return len(session_ids(admin, user))

    def kill_sessions(self, user: str = user) -> int:
        """End all sessions of an account, as an administrator does; return how many.

        When it returns, they are gone from the server; their clients may not know it.
        """
        with self.admin() as admin, admin.cursor() as cursor:
            doomed = session_ids(admin, user)
            for session in doomed:
                # One that ended by itself meanwhile is an unknown thread.
                with suppress(pymysql.OperationalError):
                    cursor.execute("KILL %s", [session])
            wait_until(
                lambda: not set(doomed) & set(session_ids(admin, user)),
                f"the sessions {doomed} to end",
            )
        return len(doomed)

    def _command(self) -> Sequence[str | Path]:
        """Return how the server is called, before its arguments."""
        raise NotImplementedError

    def _initialise(self) -> None:
        """Make the data directory, with an account `root@localhost` in it."""
        raise NotImplementedError

    def _write_files(self) -> None:
        for path, template in (
            (self.configuration, CONFIGURATION + self.extra_configuration),
            (self._accounts, ACCOUNTS),
        ):
            text = template.format(
                directory=self.directory,
                socket=self.socket,
                log=self.log_path,
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                database=self.database,
                superuser=self.superuser,
                superuser_password=self.superuser_password,
            )
            path.write_text(text)
            path.chmod(0o644)  # the directory is closed to others


class MySQLServer(MySQLFamilyServer):
    """MySQL, with the libraries it was built for; see `MySQLFamilyServer`."""

    extra_configuration = """
basedir = {directory}/mysql
lc_messages_dir = {directory}/mysql/share
character_sets_dir = {directory}/mysql/share/charsets
innodb_redo_log_capacity = 32M
secure_file_priv = NULL
skip_log_bin
mysqlx = OFF
"""

    def __init__(self) -> None:
        if not ARCHIVE.exists():
            raise ServerError(
                f"the tests need a MySQL server: no {ARCHIVE}; scripts/fetch-mysql"
                " makes it"
            )
        super().__init__("mysql")

    def _command(self) -> Sequence[str | Path]:
        libraries = self.directory / "mysql" / "lib"
        # Its libc is another than the system's, and needs its own loader.
        (loader,) = libraries.glob("ld-linux*")
        return [
            loader,
            "--library-path",
            libraries,
            self.directory / "mysql" / "mysqld",
        ]

    def _initialise(self) -> None:
        # Unpacked here, it can be read by an account that may not enter the checkout.
        unpacked = subprocess.run(
            ["tar", "-x", "--no-same-owner", "-f", ARCHIVE, "-C", self.directory],
            capture_output=True,
            text=True,
            check=False,
        )
        if unpacked.returncode:
            raise ServerError(f"cannot unpack {ARCHIVE}: {unpacked.stderr}")
        self.run(
            [
                *self._command(),
                f"--defaults-file={self.configuration}",
                "--initialize-insecure",
                "--general-log=OFF",
            ]
        )
