"""What every server of the tests needs: a port, an account, a bounded wait, an end."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

HOST = "127.0.0.1"

# Below the ports that systems give to outgoing connections. One of those could take a
# server's port while it restarts, even that of a client which keeps trying the port:
# on loopback it would at last connect to itself.
PORTS = range(15000, 30000)

# Every server takes this as "end now", and takes its children with it.
END = signal.SIGQUIT

# Outlives a test run that ended without its teardown (killed, or by its own timeout):
# the pipe then closes with no line read, and nothing of the server stays behind. Each
# leads a group of processes, and not all take their children with them.
WATCHDOG = 'read -r ended || { kill -QUIT "-$0"; sleep 1; rm -rf "$1"; }'


class ServerError(Exception):
    """A server that a test needs cannot be had, or did not do as it was told."""


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise ServerError(f"no free port found from {PORTS.start} to {PORTS.stop - 1}")


def wait_until(
    condition: Callable[[], object], what: str, *, timeout: float = 30.0
) -> None:
    """Wait until `condition()` is true.

    Raises:
        ServerError: It was not within `timeout` seconds; the message names `what`.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as."""

    name: str
    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """Return what makes `subprocess` start a program as this account."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def own_account() -> Account:
    """Return the account that the tests run as."""
    return Account(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid())


def run_as(*names: str) -> Account:
    """Return the account for a server that refuses to run as root.

    That is ourselves, or, for root, the first account of `names` that exists.
    """
    if os.geteuid() != 0:
        names = (pwd.getpwuid(os.geteuid()).pw_name,)
    for name in names:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(f"no account to run a server as: none of {', '.join(names)}")


class ServerProcess:
    """A server's process, its directory and its log; a server's class builds on it.

    Not thread-safe: one test at a time starts and stops a server.
    """

    def __init__(self, name: str, account: Account) -> None:
        """Make the directory, which `close()` removes again."""
        self.name = name
        self.host = HOST
        self.port = free_port()
        self.account = account
        self.directory = Path(tempfile.mkdtemp(prefix=f"djpool-{name}-"))
        self.log_path = self.directory / "server.log"
        self.log_path.touch()
        os.chown(self.directory, account.uid, account.gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop it and remove its files."""
        self.close()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def mark(self) -> int:
        """Return the end of the log, for `log_since()`."""
        return self.log_path.stat().st_size

    def log_since(self, mark: int) -> str:
        """Return what the server has logged since `mark`."""
        with self.log_path.open("rb") as log:
            log.seek(mark)
            return log.read().decode(errors="replace")

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a program to its end as the server's account.

        Raises:
            ServerError: It failed; the message has what it printed.
        """
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=120,
            **self.account.popen_options(),
        )
        if done.returncode:
            output = done.stdout.decode(errors="replace")
            raise ServerError(f"{command[0]} exited with {done.returncode}:\n{output}")

    def spawn(self, command: Sequence[str | Path], ready: Callable[[], bool]) -> None:
        """Start the server and wait until it is `ready()`.

        Raises:
            ServerError: It ended before, or took too long; the message has its log.
        """
        if self.running:
            raise ServerError(f"{self.name} runs already")
        # It may have ended by itself; its watchdog must not outlast it into the next.
        self.end()
        mark = self.mark()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # ^C is for the tests, whose teardown then stops the server.
                start_new_session=True,
                **self.account.popen_options(),
            )
        self._watchdog = subprocess.Popen(
            ["sh", "-c", WATCHDOG, str(self._process.pid), self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(lambda: not self.running or ready(), f"{self.name} to be ready")
            if not self.running:
                raise ServerError(f"{self.name} ended while starting")
        except ServerError as error:
            self.end()
            raise ServerError(f"{error}\n{self.log_since(mark)}") from None

    def freeze(self) -> None:
        """Stop all of its processes as they are: nothing is answered, nothing lost."""
        self._signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on after `freeze()`. Does nothing to those that run."""
        self._signal_family(signal.SIGCONT)

    def _signal_family(self, number: int) -> None:
        """Signal the process, and then its children, which have groups of their own."""
        family = [] if self._process is None else [self._process.pid]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            with suppress(FileNotFoundError, ProcessLookupError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                family += map(int, children.split())

    def end(self, how: int = END, *, timeout: float = 30.0) -> None:
        """Send the process a signal and wait; kill it if it lives `timeout` seconds."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.communicate(b"ended\n")

    def close(self) -> None:
        """Stop the server for good and remove its directory. May be called twice."""
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _environment(self) -> Mapping[str, str]:
        # A variable like PGDATA or LC_ALL of whoever runs the tests changes nothing.
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C"}
