"""The shop under a server, and a look at its connections from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import djpool
from tests.acceptance import clients
from tests.acceptance.commands import ASGI, Command, uvicorn
from tests.servers.process import ServerProcess, own_account, wait_until

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
APPLICATION_NAME = "djpool-acceptance"

# What a server's log says when something went wrong. Not among these is that a
# stream of a sync generator is read before it is sent, of which Django warns.
ALARMS = ("Traceback", "ERROR", "Error", "ResourceWarning", "never given back")

# Counts the connections that a process has to its database: gives a function for a pid.
Count = Callable[[int], AbstractContextManager[Callable[[], int]]]

# Seconds between two looks at the connections.
PAUSE = 0.005
# Seconds for what was hung up on to be done with, on a machine with other things to do.
DRAIN = 120.0


class Watch:
    """Counts connections again and again, in a thread of its own."""

    def __init__(self) -> None:
        self.looks = 0
        self.most = 0

    def look(self, open_now: int) -> None:
        """Note what one look has seen."""
        self.looks += 1
        self.most = max(self.most, open_now)


class Shop(ServerProcess):
    """The shop on a server of its own, with a database of its own."""

    def __init__(
        self,
        database: Mapping[str, Any],
        count: Count | None,
        command: Command = uvicorn(ASGI),  # noqa: B008 (immutable)
        middleware: Sequence[str] = (),
    ) -> None:
        """Make the table. `start()` starts the server. `watched()` needs `count`."""
        super().__init__("shop", own_account())
        self._database = database
        self._count = count
        self._command = command
        self._middleware = middleware
        try:
            self.run([sys.executable, "-m", "tests.acceptance.shop.prepare"])
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        self.spawn(self._command(self.host, self.port), self._answers)

    def end(self, how: int = signal.SIGTERM, *, timeout: float = 30.0) -> None:
        """Have it shut down in order."""
        super().end(how, timeout=timeout)

    def drive(
        self,
        view: str,
        right: str,
        *,
        requests: int,
        concurrency: int = 64,
        status: int = 200,
    ) -> clients.Outcome:
        """Have clients ask for a view and wait for the answers."""
        return clients.drive(
            self.host,
            self.port,
            view,
            right,
            requests=requests,
            clients=concurrency,
            status=status,
        )

    def hang_up(
        self, view: str, right: str, *, requests: int, concurrency: int = 64
    ) -> clients.Outcome:
        """Have clients ask for a view and hang up."""
        return clients.hang_up(
            self.host, self.port, view, right, requests=requests, clients=concurrency
        )

    def talk(
        self, path: str, right: str, *, messages: int, concurrency: int
    ) -> clients.Outcome:
        """Have clients send messages over websockets and wait for the answers."""
        return clients.talk(
            self.host, self.port, path, right, messages=messages, clients=concurrency
        )

    @property
    def pid(self) -> int:
        """The server's process; its workers are others where it forks."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Count the server's connections from outside while the block runs."""
        watch, done = Watch(), threading.Event()

        def look() -> None:
            while not done.wait(PAUSE):
                watch.look(count())

        assert self._count is not None
        with self._count(self.pid) as count:
            thread = threading.Thread(target=look, name="watch")
            thread.start()
            try:
                yield watch
            finally:
                done.set()
                thread.join()
                watch.look(count())

    def stats(self) -> djpool.PoolStats:
        """Return what `djpool.stats()` says in the server, by way of a view."""
        address = f"http://{self.host}:{self.port}/stats/"
        with urllib.request.urlopen(address, timeout=DRAIN) as answer:
            return djpool.PoolStats.from_dict(json.load(answer)["default"])

    def poolstats(self) -> djpool.PoolStats:
        """Return what the command `poolstats` says of the server, from outside."""
        command = [sys.executable, "-m", "djpool", "poolstats", "--format", "json"]
        done = subprocess.run(
            [*command, "--pid", str(self.pid)],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (process,) = json.loads(done.stdout)["processes"]
        return djpool.PoolStats.from_dict(process["pools"]["default"])

    def wait_until_at_rest(self) -> None:
        """Wait until no lease is out and nobody waits for one.

        Raises:
            ServerError: That did not come; the message has the last figures.
        """
        seen: list[djpool.PoolStats] = []

        def at_rest() -> bool:
            seen[:] = [self.stats()]
            return not seen[0].in_use and not seen[0].waiting

        wait_until(at_rest, f"all leases to come back; {seen}", timeout=DRAIN)

    def alarms(self, mark: int) -> str:
        """Return the log since `mark` if it says that something went wrong, else ""."""
        log = self.log_since(mark)
        return log if any(alarm in log for alarm in ALARMS) else ""

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.host}:{self.port}/stats/").close()
        except OSError:
            return False
        return True

    def _environment(self) -> Mapping[str, str]:
        return {
            **super()._environment(),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *_pythonpath()])),
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.shop.settings",
            "DJPOOL_STATS_DIR": str(self.directory / "stats"),
            "SHOP_DATABASE": json.dumps(self._database),
            "SHOP_MIDDLEWARE": json.dumps(self._middleware),
        }


def _pythonpath() -> list[str]:
    # Where djpool is imported from here, be it installed or not.
    return [str(Path(djpool.__path__[0]).parent)]


def postgres_count(postgres: PostgresServer) -> Count:
    """Count as PostgreSQL itself does, by the application's name."""

    @contextmanager
    def counting(_pid: int) -> Iterator[Callable[[], int]]:
        with postgres.admin() as admin:

            def count() -> int:
                row = admin.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s",
                    [APPLICATION_NAME],
                ).fetchone()
                assert row is not None
                return int(row[0])

            yield count

    return counting


def file_count(path: Path) -> Count:
    """Count as the kernel does: how often the process has the database's file open."""

    @contextmanager
    def counting(pid: int) -> Iterator[Callable[[], int]]:
        def count() -> int:
            found = 0
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    found += descriptor.readlink() == path
                except FileNotFoundError:  # closed since
                    continue
            return found

        yield count

    return counting


def postgres_settings(postgres: PostgresServer) -> dict[str, Any]:
    """Give the DATABASES entry of a PostgreSQL server, but for its ENGINE."""
    return {
        "NAME": postgres.database,
        "USER": postgres.user,
        "PASSWORD": postgres.password,
        "HOST": postgres.host,
        "PORT": str(postgres.port),
        "OPTIONS": {"application_name": APPLICATION_NAME},
    }
