"""Requests one after the other, on one alias, and what came of them."""

from __future__ import annotations

import gc
import os
import random
import socket
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connections

import djpool
from tests.interruption.statements import KINDS, Statements, WrongAnswer
from tests.interruption.strikes import HANGS, Alarm, TimeLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper as Connection

# Seconds for a request that nothing interrupts. The pool gives up before.
PATIENCE = 12.0
# A request that takes longer counts as an error. After a few of them a worker ends.
SLOW, ENOUGH_SLOW = 4.0, 3
# After so many failures a worker ends.
ENOUGH = 50
# It tells so many of each kind of failure in full.
EXAMPLES = 6
# This process's open files, where the system shows them.
FILES = Path("/proc/self/fd")


@dataclass
class Counts:
    """What a worker reports."""

    rounds: int = 0
    queries: int = 0
    #: Requests in which an exception struck before their statement was over.
    interrupted: int = 0
    #: The same, by the kind of statement.
    kinds: dict[str, int] = field(default_factory=dict)
    #: Ends of requests that an exception interrupted.
    ends_interrupted: int = 0
    #: Requests that got another answer than their own.
    wrong: int = 0
    #: Requests that nothing interrupted, and that raised or took too long.
    errors: int = 0
    #: Interrupted requests whose driver then waited for more than `HANGS` seconds. Some
    #: drivers do so without a pool, too.
    hung: int = 0
    #: Statements that followed in an interrupted request, and got another's answer.
    own_wrong: int = 0
    #: Django connections that Django itself cannot use any more, with a pool or
    #: without, because an exception interrupted its `atomic()`.
    stuck: int = 0
    #: Rows that a request has written, and that are not there.
    lost: int = 0
    #: Transactions of which only a part was committed.
    halves: int = 0
    #: Connections that can be leased at once in the end, and all that there are then.
    capacity: int = 0
    size: int = 0
    in_use: int = 0
    #: Sockets that lead to the server then; None if the system does not show them.
    sockets: int | None = None
    opened: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


class Requests:
    """Requests one after the other, on the alias "default"."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """`plan` is what `tests.interruption.conftest.make_plan()` returns."""
        self.plan = plan
        self.random = random.Random(plan["seed"])
        self.counts = Counts()
        self.alarm = Alarm()
        self.statements = Statements(
            connections["default"].vendor,
            plan["driver"],
            prefix=plan["prefix"],
            folder=plan["folder"],
            rows=plan["rows"],
        )
        self.kinds: tuple[str, ...] = tuple(plan["kinds"]) or KINDS[plan["driver"]]
        self._tokens = 0
        self._slow = 0
        self._until = time.monotonic() + plan["seconds"]

    @property
    def over(self) -> bool:
        """Whether there are enough failures to report, or no time is left."""
        counts = self.counts
        return (
            counts.wrong + counts.errors + counts.lost >= ENOUGH
            or self._slow >= ENOUGH_SLOW
            or time.monotonic() > self._until
        )

    @property
    def connection(self) -> Connection:
        """This thread's Django connection."""
        return connections["default"]

    def new_ask(self, kind: str) -> Callable[[], None]:
        """Return what a request does: a statement with a token of its own."""
        return partial(self._ask, kind, self.connection, self._new_token())

    def _ask(self, kind: str, connection: Connection, token: str) -> None:
        self.counts.queries += 1
        getattr(self.statements, kind)(connection, token)

    def _new_token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens}x{self.random.randrange(10**6)}"

    def calmly(self, call: Callable[[], object]) -> BaseException | None:
        """Call without interruption; return what it raised."""
        started = time.monotonic()
        error = self.alarm.attempt(call, PATIENCE, TimeLimit)
        if time.monotonic() - started < SLOW:
            return error
        self._slow += 1
        return error or TimeoutError(f"it took more than {SLOW:g} s")

    def run(self, kind: str) -> tuple[float, float]:
        """Run a request; return the seconds that its statement and its end took."""
        started = time.perf_counter()
        self.judge(self.calmly(self.new_ask(kind)), f"what was before {kind}")
        asked = time.perf_counter()
        self.end(kind)
        return asked - started, time.perf_counter() - asked

    def end(self, after: str, connection: Connection | None = None) -> None:
        """End a request, without interruption."""
        connection = connection or self.connection
        self.judge(self.calmly(connection.close), f"{after}, at the end of a request")
        self.statements.kept.clear()
        if connection.in_atomic_block and connection is self.connection:
            # Django would refuse to connect in this thread from now on.
            self.counts.stuck += 1
            del connections["default"]

    # -- After an interruption --------------------------------------------------------

    def interrupted(self, kind: str) -> None:
        """Count a statement that an exception has interrupted."""
        self.counts.interrupted += 1
        self.counts.kinds[kind] = self.counts.kinds.get(kind, 0) + 1

    def again(self, after: str) -> None:
        """Ask in the same request. An error is all right; another's answer is not."""
        error = self.alarm.attempt(self.new_ask("one"), HANGS, TimeLimit)
        self.counts.hung += self.alarm.rang > 0
        if isinstance(error, WrongAnswer):
            self.counts.own_wrong += 1
            self._tell("own", after, error)

    def follow(self, after: str) -> None:
        """Run two requests of other users."""
        self._other("one", self.connection, after)
        if self.counts.rounds % 8 == 1:
            self._write(after)
        elif self.counts.rounds % 8 == 5:
            self._other("one", connections.create_connection("default"), after)
        else:
            self._other("one", self.connection, after)

    def _other(self, kind: str, connection: Connection, after: str) -> None:
        if self._slow < ENOUGH_SLOW:
            ask = partial(self._ask, kind, connection, self._new_token())
            self.judge(self.calmly(ask), after)
            self.end(after, connection)

    def _write(self, after: str) -> None:
        """Write a row in one request, and look for it in another."""
        token = self._new_token()
        for kind in ("write", "read"):
            error = self.calmly(partial(self._ask, kind, self.connection, token))
            self.end(after)
            if kind == "read" and isinstance(error, WrongAnswer):
                self.counts.lost += 1
                self._tell("lost", after, error)
                return
            self.judge(error, after)
            if error is not None:
                return

    def judge(self, error: BaseException | None, after: str) -> None:
        """Count the outcome of a request that nothing interrupted."""
        if isinstance(error, WrongAnswer):
            self.counts.wrong += 1
            self._tell("wrong", after, error)
        elif error is not None:
            self.counts.errors += 1
            self._tell("error", after, error)

    def _tell(self, what: str, after: str, error: BaseException) -> None:
        examples = self.counts.examples
        if sum(each.startswith(what) for each in examples) < EXAMPLES:
            told = f"{type(error).__name__}: {error}"
            examples.append(f"{what} after {after}: {told:.300}")

    # -- Before and after all of them -------------------------------------------------

    def begin(self, kinds: Iterable[str]) -> None:
        """Make the tables, and run some kinds of statements once."""
        self.statements.create(self.connection)
        self.connection.close()
        for kind in kinds:
            if not self.over:
                self.run(kind)

    def finish(self) -> dict[str, Any]:
        """Count what there is in the end; return all counts."""
        gc.collect()  # of connections that were being opened
        for step in (self._settle, self._count_capacity, self._count_halves):
            self.judge(self.calmly(step), "everything")
        self._settle()
        stats = djpool.stats("default")
        self.counts.in_use, self.counts.opened = stats.in_use, stats.opened_total
        self.counts.sockets = self._count_sockets()
        return asdict(self.counts)

    def _settle(self) -> None:
        """Give the pool time to take back what it has lost."""
        until = time.monotonic() + SLOW / 2
        while djpool.stats("default").in_use and time.monotonic() < until:
            time.sleep(0.01)

    def _count_capacity(self) -> None:
        """Lease as many connections at once as there can be."""
        held = []
        try:
            for _ in range(djpool.stats("default").max_size):
                connection = connections.create_connection("default")
                held.append(connection)
                self.statements.kept_cursor(connection, self._new_token())
            stats = djpool.stats("default")
            self.counts.capacity, self.counts.size = stats.in_use, stats.size
        finally:
            for connection in held:
                connection.close()
            self.statements.kept.clear()

    def _count_halves(self) -> None:
        self.counts.halves = len(self.statements.halves(self.connection))
        self.connection.close()

    def _count_sockets(self) -> int | None:
        """Count sockets to the server, after the time that djpool has to close them.

        A watchdog that was interrupted has a handle of its own for `check_timeout`.
        """
        until = time.monotonic() + PATIENCE
        while True:
            gc.collect()
            found = count_sockets(self.plan["host"], self.plan["port"])
            enough = not found or found <= self.counts.size
            if enough or time.monotonic() > until:
                return found
            time.sleep(0.01)


def count_sockets(host: str, port: int | None) -> int | None:
    """Return how many sockets of this process lead to a server.

    None if the system does not show them, or if there is no server.

    Args:
        host: As `DATABASES` says it: the path of a Unix socket, or of its folder, if it
            begins with a slash.
        port: The server's port; None if there is no server.
    """
    if port is None or not FILES.is_dir():
        return None
    found = set()
    for each in FILES.iterdir():
        with suppress(OSError):  # closed by now, or not connected
            status = each.stat()
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with socket.socket(fileno=os.dup(int(each.name))) as handle:
                if leads_to(handle, host, port):
                    found.add(status.st_ino)  # one connection may have two handles
    return len(found)


def leads_to(handle: socket.socket, host: str, port: int) -> bool:
    """Return True if the other end of a connected socket is this server."""
    peer = handle.getpeername()
    if handle.family == socket.AF_UNIX:
        # Both ends of a pair have no name.
        named = isinstance(peer, str) and bool(peer)
        return named and f"{peer}/".startswith(f"{host}/")
    internet = handle.family in {socket.AF_INET, socket.AF_INET6}
    return internet and bool(peer[1] == port)
