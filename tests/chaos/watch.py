"""Looks at what must always hold, beside the load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import djpool
from tests.chaos.servers import Server

# Seconds for which a server may have sessions above the bound: their clients have
# closed them, and it finds that out when it next looks.
GRACE = 5.0
# States of a socket of which its program has not let go: ESTABLISHED, SYN_SENT and
# CLOSE_WAIT.
HELD = {"01", "02", "08"}


def held_sockets(port: int) -> int:
    """How many sockets this process has to a port."""
    table = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    wanted = f":{port:04X}"
    rows = [line.split() for line in table]
    return sum(row[2].endswith(wanted) and row[3] in HELD for row in rows)


class Watch:
    """Threads that look until they are told to stop; `wrong` grows meanwhile."""

    def __init__(
        self, alias: str, server: Server, port: int, most: int, wrong: list[str]
    ) -> None:
        self._alias = alias
        self._server = server
        self._port = port
        self._most = most
        self._wrong = wrong
        self._over = threading.Event()
        self._above_since: float | None = None
        self.looks = 0
        self._threads = [
            threading.Thread(target=self._run, args=[look])
            for look in (self._look_at_server, self._look_here)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, look: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                look()
            except Exception as error:  # noqa: BLE001 (a test must not go blind)
                self._wrong.append(f"{look.__name__}: {error!r}")
                return
            self.looks += 1
            self._over.wait(0.01)

    def _look_at_server(self) -> None:
        count, now = len(self._server.sessions()), time.monotonic()
        if count <= self._most:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        elif now - self._above_since > GRACE:
            self._wrong.append(f"the server has {count} sessions, not {self._most}")

    def _look_here(self) -> None:
        stats = djpool.stats(self._alias)
        if stats.in_use + stats.idle + stats.opening != stats.size:
            self._wrong.append(f"figures that do not add up: {stats}")
        if stats.size > self._most:
            self._wrong.append(f"size {stats.size} is more than {self._most}")
        # The table is not of one moment: what was closed and what was opened since may
        # both be in it. Not so again and again.
        if all(held_sockets(self._port) > self._most for _ in range(5)):
            self._wrong.append(f"more than {self._most} connections are open")
