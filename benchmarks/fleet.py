"""How long callers wait, and what a server has to take, for fleets of processes.

A simulation, not a measurement: requests arrive at random, hold a connection of their
process's pool while they ask a few statements, and compute between these. The server
works on all statements at once, at the speed of its cores. Every fleet gets the same
requests. What it prints is in docs/scaling.md.

    python benchmarks/fleet.py
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

SEED = 20
SECONDS = 10.0


@dataclass(frozen=True)
class Load:
    """What is asked for. Times are means, exponentially distributed."""

    requests_per_second: float = 1000.0
    statements: int = 4
    # Of a core of the server, for a statement.
    statement_seconds: float = 0.0012
    # In the process, between two statements.
    between_seconds: float = 0.005


@dataclass(frozen=True)
class Server:
    """What answers."""

    cores: int = 8
    # Sessions it lets in: PostgreSQL's 100, less 3 that are reserved.
    limit: int = 97
    # The share of its work that each statement above the number of cores costs it:
    # switching, locks, caches. An assumption; servers differ.
    friction: float = 0.005

    def speed(self, active: int) -> float:
        """How fast each of so many statements proceeds; 1 is a core of its own."""
        above = max(0, active - self.cores)
        return min(1.0, self.cores / active) / (1.0 + self.friction * above)


@dataclass(frozen=True)
class Fleet:
    """Processes, each with a pool of `max_size`."""

    name: str
    processes: int
    max_size: int
    # A connection goes back after each statement, not with the request.
    by_transaction: bool = False
    # The sessions of a pooler in transaction mode before the server, if there is one.
    pooler: int | None = None
    # Halfway, new processes take over; the old ones still have their connections.
    deployment: bool = False


@dataclass
class Request:
    """What one caller wants, and how long it waited so far."""

    arrives: float
    lot: float  # from 0 to 1: whose process it is
    # For each statement, what it takes of a core, and the pause after it.
    statements: list[tuple[float, float]]
    done: int = 0
    since: float = 0.0
    waited: float = 0.0
    process: Process = None  # type: ignore[assignment]  # until it arrives


@dataclass
class Process:
    """A pool's state."""

    size: int = 0
    idle: int = 0
    queue: deque[Request] = field(default_factory=deque)


@dataclass
class Result:
    """What became of the requests, in seconds, and what the server had to take."""

    waits: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    refused: int = 0
    sessions: int = 0  # open at once, at most
    in_use: int = 0  # of them lent to somebody, at most


def requests(load: Load, seconds: float, seed: int) -> Iterator[Request]:
    """Give the same requests each time."""
    draw = random.Random(seed)
    now = 0.0
    while (now := now + draw.expovariate(load.requests_per_second)) < seconds:
        lot = draw.random()
        statements = [
            (
                draw.expovariate(1.0 / load.statement_seconds),
                draw.expovariate(1.0 / load.between_seconds),
            )
            for _ in range(load.statements)
        ]
        yield Request(now, lot, statements)


class Simulation:
    """One fleet before one server; `run()` it once."""

    def __init__(self, fleet: Fleet, server: Server, load: Load) -> None:
        self.fleet = fleet
        self.server = server
        self.load = load
        self.result = Result()
        self.now = 0.0
        self._order = count()  # of what happens at the same time
        self._due: list[tuple[float, int, Callable[[Request], None], Request]] = []
        # The server's work: each statement ends when `_work`, what every one of them
        # got so far, reaches its mark.
        self._work = 0.0
        self._active: list[tuple[float, int, Request]] = []
        self._processes = [Process() for _ in range(fleet.processes)]
        self._open = self._used = 0
        self._spare = fleet.pooler or 0
        self._patient: deque[Request] = deque()  # in the pooler's queue

    def run(self) -> Result:
        """Let everything happen."""
        halfway = SECONDS / 2 if self.fleet.deployment else float("inf")
        for request in requests(self.load, SECONDS, SEED):
            self._proceed(request.arrives)
            if request.arrives >= halfway:
                halfway = float("inf")
                self._processes = [Process() for _ in self._processes]
            request.process = self._processes[int(request.lot * len(self._processes))]
            self._acquire(request)
        self._proceed(float("inf"))
        return self.result

    def _proceed(self, until: float) -> None:
        while True:
            speed = self.server.speed(len(self._active)) if self._active else 0.0
            ends = float("inf")
            if self._active:
                ends = self.now + (self._active[0][0] - self._work) / speed
            due = self._due[0][0] if self._due else float("inf")
            then = min(ends, due, until)
            if then == float("inf"):
                return
            self._work += (then - self.now) * speed
            self.now = then
            if then == until:
                return
            if ends <= due:
                self._work, _, request = heapq.heappop(self._active)
                self._answered(request)
            else:
                _, _, act, request = heapq.heappop(self._due)
                act(request)

    # -- a process's pool --------------------------------------------------------

    def _acquire(self, request: Request) -> None:
        pool, request.since = request.process, self.now
        if pool.idle:
            pool.idle -= 1
        elif pool.size >= self.fleet.max_size:
            pool.queue.append(request)
            return
        elif self.fleet.pooler is None and self._open >= self.server.limit:
            self.result.refused += 1
            return
        else:
            pool.size += 1
            self._open += 1
        self._lend(request)

    def _lend(self, request: Request) -> None:
        request.waited += self.now - request.since
        self._used += 1
        if self.fleet.pooler is None:
            self.result.sessions = max(self.result.sessions, self._open)
            self.result.in_use = max(self.result.in_use, self._used)
        self._ask(request)

    def _give_back(self, pool: Process) -> None:
        self._used -= 1
        if pool.queue:
            self._lend(pool.queue.popleft())
        else:
            pool.idle += 1

    # -- statements --------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        if self.fleet.pooler is not None:
            if not self._spare:
                request.since = self.now
                self._patient.append(request)
                return
            self._take_session()
        self._begin(request)

    def _take_session(self) -> None:
        assert self.fleet.pooler is not None
        self._spare -= 1
        used = self.fleet.pooler - self._spare
        self.result.sessions = self.result.in_use = max(self.result.in_use, used)

    def _begin(self, request: Request) -> None:
        work, _pause = request.statements[request.done]
        mark = (self._work + work, next(self._order), request)
        heapq.heappush(self._active, mark)

    def _answered(self, request: Request) -> None:
        if self.fleet.pooler is not None:
            self._spare += 1
            if self._patient:
                first = self._patient.popleft()
                first.waited += self.now - first.since
                self._take_session()
                self._begin(first)
        _work, pause = request.statements[request.done]
        request.done += 1
        over = request.done == len(request.statements)
        if over or self.fleet.by_transaction:
            self._give_back(request.process)
        if over:
            self.result.waits.append(request.waited)
            self.result.times.append(self.now - request.arrives)
            return
        act = self._acquire if self.fleet.by_transaction else self._ask
        event = (self.now + pause, next(self._order), act, request)
        heapq.heappush(self._due, event)


SERVER = Server()
LOADS = {
    "1000 requests/s, 60 % of the server": (
        Load(),
        [
            Fleet("4 processes x 10", 4, 10),
            Fleet("8 x 10", 8, 10),
            Fleet("8 x 5", 8, 5),
            Fleet("8 x 5, by transaction", 8, 5, by_transaction=True),
            Fleet("32 x 3", 32, 3),
            Fleet("32 x 10", 32, 10),
            Fleet("32 x 10, pooler of 20", 32, 10, pooler=20),
            Fleet("8 x 10, deployment", 8, 10, deployment=True),
            Fleet("8 x 5, deployment", 8, 5, deployment=True),
        ],
    ),
    "1600 requests/s, 96 % of the server": (
        Load(requests_per_second=1600.0),
        [
            Fleet("8 processes x 12", 8, 12),
            Fleet("8 x 8", 8, 8),
            Fleet("8 x 6", 8, 6),
            Fleet("48 x 2", 48, 2),
            Fleet("48 x 10, pooler of 12", 48, 10, pooler=12),
            Fleet("48 x 10, pooler of 20", 48, 10, pooler=20),
        ],
    ),
}


def table() -> str:
    """Return what is printed."""
    head = f"{'':24}{'may open':>9}{'sessions':>10}{'in use':>8}{'refused':>9}"
    lines = []
    for title, (load, fleets) in LOADS.items():
        lines += [title, f"{head}{'wait p50':>10}{'p99':>9}{'request p99':>13}"]
        for fleet in fleets:
            result = Simulation(fleet, SERVER, load).run()
            opens = fleet.processes * fleet.max_size * (1 + fleet.deployment)
            lines.append(
                f"{fleet.name:24}{fleet.pooler or opens:9}{result.sessions:10}"
                f"{result.in_use:8}{result.refused:9}"
                f"{milliseconds(result.waits, 0.5):>10}"
                f"{milliseconds(result.waits, 0.99):>9}"
                f"{milliseconds(result.times, 0.99):>13}"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def milliseconds(durations: list[float], share: float) -> str:
    """Return what that share of durations kept to."""
    value = sorted(durations)[int(share * (len(durations) - 1))] * 1000.0
    return f"{value:.0f} ms"


if __name__ == "__main__":
    print(table())
