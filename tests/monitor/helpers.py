"""Processes to read from: real ones, and a thread that only claims to be one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djpool.monitor import process, protocol
from tests.monitor import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

PROJECT = "abc123"
make_stats = worker.make_stats


class Worker:
    """A process that answers; ended, if it was not, with the block."""

    def __init__(
        self,
        folder: Path | None = None,
        pools: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        project: str = PROJECT,
        fork: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait until it answers."""
        order = {"pools": {"default": {}} if pools is None else pools, "fork": fork}
        if folder is not None:
            order |= {"folder": str(folder), "project": project}
        self._process = subprocess.Popen(
            [sys.executable, worker.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDEVMODE": "1", **(env or {})},
        )
        assert self._process.stdout is not None
        self.paths: dict[int, Path] = {}
        for _ in range(2 if fork else 1):
            line = self._process.stdout.readline()
            if not line:
                raise AssertionError(f"no worker: {self._process.communicate()[1]}")
            pid, path = line.rstrip("\n").split(" ", 1)
            self.paths[int(pid)] = Path(path)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGCONT)
            self.end()

    @property
    def path(self) -> Path:
        """The socket of the process itself, not of its child."""
        return self.paths[self.pid]

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it: nothing of it gets a chance to tidy up."""
        self._process.kill()
        self._process.communicate()

    def end(self) -> str:
        """Let it exit as it would; return what it printed since it began."""
        printed = "".join(self._process.communicate(timeout=60))
        assert self._process.returncode == 0, printed
        return printed


@contextmanager
def impostor(
    folder: Path, answer: Callable[[bytes], bytes | None], *, pid: int | None = None
) -> Iterator[Path]:
    """Listen as a process would, and answer to each connection as told.

    An answer of None is none: the connection stays open until the block ends.
    """
    folder.mkdir(0o700, exist_ok=True)
    path = folder / f"{PROJECT}-{pid or os.getpid()}.sock"
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connected, _ = listener.accept()
                said = answer(connected.recv(1000))
                if said is None:
                    held.append(connected)
                    continue
                with connected:
                    connected.sendall(said)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connected in held:
                connected.close()
            path.unlink(missing_ok=True)


def honest_answer(**changes: Any) -> bytes:
    """Return what this process would say if it had one pool, with changes."""
    answer = {
        "version": 1,
        "ok": True,
        "pid": os.getpid(),
        "born": process.born(os.getpid()),
        "command": "python worker",
        "pools": {"default": make_stats().as_dict()},
    }
    return protocol.encode({**answer, **changes})


def open_files() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
