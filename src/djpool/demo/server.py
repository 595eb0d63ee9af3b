"""Starting and stopping the site's process."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from djpool.demo.errors import DemoError

# Seconds for the site to end by itself: it drops its table then.
PATIENCE = 20.0
# So much of a server's log is shown.
LAST_LINES = 12


class Server:
    """The site's process: a context manager that starts it, and ends it.

    Args:
        database: Its `DATABASES["default"]`.
        folder: Where its log goes.
        wal: Whether an SQLite file is to be put into write-ahead mode.
    """

    def __init__(
        self, database: Mapping[str, Any], folder: Path, *, wal: bool = False
    ) -> None:
        token = secrets.token_hex(4)
        self._order = {
            "database": database,
            # In somebody's database this must not be a table that is there.
            "table": f"djpool_demo_{token}",
            "wal": wal,
        }
        self._log_path = folder / f"server-{token}.log"
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Its URL, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """The end of what it has logged."""
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:])

    def __enter__(self) -> Server:
        """Start it.

        Raises:
            DemoError: It did not start. The message has what it said.
        """
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "djpool.demo.site.serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # ^C is for the demo, which then ends the server in order.
                start_new_session=True,
            )
        try:
            answer = self._give(self._order)
        except BaseException:
            self._end()
            raise
        if "port" not in answer:
            self._end()
            said = answer.get("error") or self.log() or "it ended without a word"
            raise DemoError(f"the server did not start: {said}")
        self._port = answer["port"]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()

    def _give(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{json.dumps(order)}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return {}
        line = process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=PATIENCE)  # closes its standard input
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
