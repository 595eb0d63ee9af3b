"""A worker with a full queue, and what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import djpool
from djpool import PoolStats
from tests.backends.engines import engine_of, server_database
from tests.servers.process import (
    ServerError,
    ServerProcess,
    own_account,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]

# What a worker's log says when something went wrong.
ALARMS = ("Traceback", "ERROR", "Error", "ResourceWarning", "never given back")

# A line for each connection that was made, in the server's own log.
CONNECTS = {
    "postgresql": re.compile(r"connection authorized: user=djpool "),
    "mysql": re.compile(r"\tdjpool@\S+ on "),
}

# Seconds for a queue to be worked off, on a machine with other things to do.
PATIENCE = 120.0


class Run(NamedTuple):
    """A task that was run; see `tests.workers.project.models`."""

    number: int
    process: int
    thread: int
    session: int


def read_runs(cursor: Any, *, own: bool = False) -> list[Run]:
    """Return the runs of tasks, or those that are of no task."""
    cursor.execute(
        "SELECT number, process, thread, session FROM project_run"
        f" WHERE number {'<' if own else '>='} 0 ORDER BY number"
    )
    return [Run(*row) for row in cursor.fetchall()]


def sessions(runs: list[Run]) -> dict[int, set[int]]:
    """Return for each process the sessions that its tasks used."""
    found: dict[int, set[int]] = {}
    for run in runs:
        found.setdefault(run.process, set()).add(run.session)
    return found


class Worker(ServerProcess):
    """A worker's main process and its children, with a database of their own."""

    def __init__(
        self,
        command: list[str],
        engine: str,
        server: Any,
        *,
        task: str,
        count: int,
        max_size: int,
    ) -> None:
        """Make the database, and a queue with tasks 0 to `count` - 1 in it.

        Args:
            command: The arguments of `python` that start the worker.
            engine: What the project's database is.
            server: The engine's server.
            task: Of `tests.workers.project.tasks`.
            count: How many tasks there are.
            max_size: The size of the pool, in each process.
        """
        super().__init__("worker", own_account())
        self._command = command
        self._engine = engine
        self._server = server
        self._count = count
        self._max_size = max_size
        self._name = server.database
        try:
            prepare = [sys.executable, "-m", "tests.workers.project.prepare"]
            self.run([*prepare, task, str(count)])
            self._name = f"test_{server.database}"
            self._mark = server.mark()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it; whether it works, `wait_until_done()` sees."""
        command = [sys.executable, "-W", "always::ResourceWarning", *self._command]
        self.spawn(command, lambda: True)

    def end(self, how: int = signal.SIGTERM, *, timeout: float = 30.0) -> None:
        """Have it finish what it does, and leave none of its children behind."""
        group = None if self._process is None else self._process.pid
        super().end(how, timeout=timeout)
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def close(self) -> None:
        """End it, and remove its files and its database."""
        super().close()
        with self._server.admin() as admin, admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS test_{self._server.database}")

    @property
    def pid(self) -> int:
        """Its main process."""
        assert self._process is not None
        return self._process.pid

    def wait_until_done(self) -> list[Run]:
        """Wait until every task was run; return what they wrote down, in order."""
        done: list[Run] = []
        with self._server.admin(self._name) as admin, admin.cursor() as cursor:

            def over() -> bool:
                done[:] = read_runs(cursor)
                return len(done) >= self._count or not self.running

            self._wait_until(over, "the queue to be worked off", done)
        assert [run.number for run in done] == list(range(self._count)), self.log()
        return done

    def own_runs(self) -> list[Run]:
        """Return what its main process wrote down at its begin and at its end."""
        with self._server.admin(self._name) as admin, admin.cursor() as cursor:
            return read_runs(cursor, own=True)

    def pools(self) -> dict[int, PoolStats]:
        """Return what the command `poolstats` says of each process that runs now."""
        done = subprocess.run(
            [sys.executable, "-m", "djpool", "poolstats", "--format", "json"],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {
            process["pid"]: PoolStats.from_dict(process["pools"]["default"])
            for process in json.loads(done.stdout)["processes"]
        }

    def wait_until_at_rest(self, *, held: int = 0) -> dict[int, PoolStats]:
        """Wait until no lease is out, but those that the main process keeps.

        Returns:
            The figures of all processes.
        """
        seen: dict[int, PoolStats] = {}

        def at_rest() -> bool:
            seen.clear()
            seen.update(self.pools())
            in_use = {pid: stats.in_use for pid, stats in seen.items()}
            return in_use.pop(self.pid, 0) == held and not any(in_use.values())

        self._wait_until(at_rest, "all leases to come back", seen)
        return seen

    def connects(self) -> int:
        """Return how many connections it has made, as the database server says."""
        pattern = CONNECTS[engine_of(self._engine).backend]
        return len(pattern.findall(self._server.log_since(self._mark)))

    def log(self) -> str:
        """Return all that the worker has printed."""
        return self.log_since(0)

    def alarms(self) -> str:
        """Return the log if it says that something went wrong, else ""."""
        log = self.log()
        return log if any(alarm in log for alarm in ALARMS) else ""

    def _wait_until(
        self, condition: Callable[[], object], what: str, seen: object
    ) -> None:
        try:
            wait_until(condition, what, timeout=PATIENCE)
        except ServerError as error:
            raise ServerError(f"{error}\n{seen}\n{self.log()}") from None

    def _environment(self) -> Mapping[str, str]:
        engine = engine_of(self._engine)
        pool = {"max_size": self._max_size, "timeout": 60} | engine.pool
        database = {
            **server_database(self._server),
            "ENGINE": f"djpool.backends.{engine.backend}",
            "NAME": self._name,
            "OPTIONS": {"pool": pool},
        }
        path = [str(ROOT), str(Path(djpool.__path__[0]).parent)]
        return {
            **super()._environment(),
            "PYTHONPATH": os.pathsep.join(path),
            "DJANGO_SETTINGS_MODULE": "tests.workers.project.settings",
            "DJPOOL_STATS_DIR": str(self.directory / "stats"),
            "WORKERS_PROJECT": json.dumps(
                {"database": database, "folder": str(self.directory)}
            ),
        }
