"""How many connections a server process has, counted outside of its pool."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from djpool.demo.database import Database
from djpool.demo.errors import DemoError

# Seconds between two looks.
PAUSE = 0.01
# Seconds to connect to a server.
PATIENCE = 10
# Without a pool, the demo never has more connections than these, and no more than half
# of those that a server has to spare: nobody else is to do without.
CEILING = 300


class Source(Protocol):
    """Who counts connections."""

    #: For people: "counted ...".
    words: str

    def count(self) -> int:
        """The connections that are open now."""

    def close(self) -> None:
        """Count no more."""


class PostgresActivity:
    """PostgreSQL's own list of sessions, by the application's name."""

    words = "by PostgreSQL, in pg_stat_activity"

    def __init__(self, database: Database, name: str) -> None:
        """Connect, to count those who call themselves `name`.

        Raises:
            DemoError: That is not possible. The message has the server's reason.
        """
        import psycopg

        settings = database.named("djpool demo, counting")
        parameters: dict[str, Any] = {
            "dbname": settings["NAME"],
            "user": settings["USER"],
            "password": settings["PASSWORD"],
            "host": settings["HOST"],
            "port": settings["PORT"],
            "connect_timeout": PATIENCE,
            **settings["OPTIONS"],
        }
        given = {key: value for key, value in parameters.items() if value}
        self._name = name
        try:
            self._connection = psycopg.connect(**given, autocommit=True)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise DemoError(f"cannot use {database.label}: {reason}") from error

    def count(self) -> int:
        """The sessions of that name."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return self._ask(query, [self._name])

    def free(self) -> int:
        """How many connections more this server has for plain users."""
        return self._ask(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
            " - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _ask(self, query: str, parameters: list[Any] | None = None) -> int:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None, "an aggregate without a row"
        return int(row[0])


class OpenFiles:
    """How often a process has the database's files open, as the kernel says.

    SQLite puts off closing a database file while another connection of the process
    has locks on it, as they all do in write-ahead mode. Not so the file of that mode,
    which each connection has open once, too: where there are any, those count.
    """

    words = "by the system, as open files of the server's process"

    def __init__(self, path: str, pid: int) -> None:
        """Look at the files of process `pid`.

        Raises:
            OSError: This system does not show them.
        """
        self._folder = f"/proc/{pid}/fd"
        self._path = str(Path(path).resolve())
        self._log = f"{self._path}-wal"
        self.count()

    def count(self) -> int:
        """The connections, each of which has its files open once."""
        # Not with pathlib, whose objects would cost more than the looks themselves.
        databases = logs = 0
        for descriptor in os.listdir(self._folder):  # noqa: PTH208
            try:
                target = os.readlink(f"{self._folder}/{descriptor}")  # noqa: PTH115
            except FileNotFoundError:  # closed since
                continue
            databases += target == self._path
            logs += target == self._log
        return logs or databases

    def close(self) -> None:
        """There is nothing to close."""


class Watch:
    """What there is now, and the most that was seen, while the block runs.

    With a source, it is asked again and again in a thread; without one, the numbers
    are those that the site tells of itself, by `told()`.
    """

    def __init__(self, source: Source | None, ceiling: int) -> None:
        self.open = 0
        self.most = 0
        self.words = source.words if source else "by the site, as it opens them"
        self.ceiling = ceiling
        self.failure: str | None = None
        self._source = source
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def told(self, *, now: int, most: int) -> None:
        """Take the site's own count, where nobody else counts."""
        if self._source is None:
            self.open, self.most = now, most

    def __enter__(self) -> Watch:
        """Begin."""
        if self._source is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        self._done.set()
        if self._source is not None:
            self._thread.join()
            self._source.close()

    def _run(self) -> None:
        assert self._source is not None
        while not self._done.wait(PAUSE):
            try:
                self.open = self._source.count()
            except Exception as error:  # noqa: BLE001 (the server's, or the system's)
                self.failure = " ".join(str(error).split())
                return
            self.most = max(self.most, self.open)


def watch(database: Database, name: str, pid: int, max_size: int) -> Watch:
    """Count the connections of the site in process `pid`, the best way there is.

    Raises:
        DemoError: The database cannot be asked, or has no room for a demo.
    """
    if database.vendor == "postgresql":
        activity = PostgresActivity(database, name)
        free = activity.free()
        if free < max_size:
            activity.close()
            raise DemoError(
                f"{database.label} has room for {free} more connections; "
                f"the demo's pool alone may want {max_size} (see --max-size)"
            )
        return Watch(activity, min(CEILING, max(max_size, free // 2)))
    try:
        return Watch(OpenFiles(database.settings["NAME"], pid), CEILING)
    except OSError:  # not Linux
        return Watch(None, CEILING)
