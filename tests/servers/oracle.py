"""An Oracle Database for the tests: an emulator of one, or a real one.

The emulator is in this process, so its sessions and its counters are at hand. With
DJPOOL_ORACLE_DSN set, as "user/password@host:port/service", the same tests run
against that database. What only an emulator can tell or do, they leave out then:
see `OracleServer.emulator`.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Any, Literal

from tests.servers.oracle_emulator import ORACLE_23, Dialect, OracleEmulator
from tests.servers.process import HOST, ServerError, free_port, wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

REAL = "DJPOOL_ORACLE_DSN"
# What the emulator also answers to.
OTHER_DATABASE = "OTHERPDB"
DSN = re.compile(
    r"(?P<user>[^/]+)/(?P<password>.+)@(?P<host>[^:/]+):(?P<port>\d+)/(?P<service>.+)"
)


class OracleServer:
    """A server that python-oracledb can log on to. `emulator` is None for a real one.

    Not thread-safe: one test at a time starts and stops a server.
    """

    def __init__(self, dialect: Dialect = ORACLE_23) -> None:
        """Find the server. `start()` starts it, where it is ours.

        Raises:
            ServerError: The variable is set to something else than a server.
        """
        self.emulator: OracleEmulator | None = None
        if described := os.environ.get(REAL):
            match = DSN.fullmatch(described)
            if match is None:
                raise ServerError(f"{REAL} must be user/password@host:port/service")
            self.user, self.password = match["user"], match["password"]
            self.host, self.port = match["host"], int(match["port"])
            self.database = match["service"]
            return
        self.user, self.password = "djpool", secrets.token_urlsafe(12)
        self.host, self.port = HOST, free_port()
        self.database = "FREEPDB1"
        self.emulator = OracleEmulator(
            self.port,
            users={self.user: self.password},
            services=(self.database, OTHER_DATABASE),
            dialect=dialect,
        )

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop it for good."""
        self.close()

    @property
    def emulated(self) -> OracleEmulator:
        """The emulator, for a test that cannot do without."""
        if self.emulator is None:
            raise ServerError("a real database does not do that")
        return self.emulator

    def start(self) -> None:
        """Start the server, if it is ours and stopped."""
        if self.emulator is not None and not self.emulator.running:
            self.emulator.start()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server. `start()` starts it again: same port, same data."""
        del mode  # it says no farewell either way
        self.emulated.stop()

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start the server: no session survives."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server for good. May be called twice."""
        if self.emulator is not None:
            self.emulator.close()

    def sessions(self) -> int:
        """How many sessions there are now."""
        return len(self.emulated.sessions())

    def kill_sessions(self) -> int:
        """End all sessions, as an administrator does; return how many."""
        killed = self.emulated.kill_all()
        wait_until(lambda: not self.sessions(), "the sessions to end")
        return killed

    def mark(self) -> int:
        """The end of the log, for `log_since()`."""
        return len(self.emulated.statements)

    def log_since(self, mark: int) -> str:
        """What the server has been told since `mark`, a statement a line."""
        told = self.emulated.statements[mark:]
        return "".join(f"{sid} statement: {text}\n" for sid, text in told)

    def databases(self, **changes: Any) -> dict[str, Any]:
        """`DATABASES` for this server, but for ENGINE and the pool.

        `HOST` and `PORT` may be changed to those of a proxy. The name is a service,
        which Django takes in one piece with them, and not a SID.
        """
        host, port = changes.pop("HOST", self.host), changes.pop("PORT", self.port)
        return {
            "NAME": f"{host}:{port}/{self.database}",
            "HOST": "",
            "PORT": "",
            "USER": self.user,
            "PASSWORD": self.password,
            **changes,
        }
