"""The demo itself: servers, load, figures, verdict."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from djpool.core.stats import PoolStats
from djpool.demo.database import CONN_MAX_AGE, Database, sqlite
from djpool.demo.load import Load, client
from djpool.demo.screen import Row, Screen, milliseconds
from djpool.demo.server import Server
from djpool.demo.site import FIGURES
from djpool.demo.watch import Watch, watch

# Seconds between two looks at everything, and at the site's own figures.
STEP, PAUSE = 0.02, 0.1
# Seconds in which the leases have to come back when all requests have ended.
RETURN = 15.0
# The load may take so many seconds, and so many more for each request.
LONGEST, PER_REQUEST = 60.0, 0.05
# So many kinds of errors are shown, the most frequent first.
KINDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for. Without a database: an SQLite file that is gone after."""

    database: Database | None
    requests: int
    clients: int
    max_size: int
    compare: bool


class Contender:
    """A server under its load, with all its figures."""

    def __init__(
        self, server: Server, counted: Watch, load: Load, *, pooled: bool
    ) -> None:
        self.name = "djpool" if pooled else "stock"
        self.server = server
        self.watch = counted
        self.load = load
        self.pooled = pooled
        self.stats: PoolStats | None = None

    def row(self) -> Row:
        """The figures as they are now."""
        return Row(
            name=self.name,
            answered=self.load.answered,
            requests=self.load.requests,
            errors=sum(self.load.errors.values()),
            p50=self.load.quantile(0.5),
            p99=self.load.quantile(0.99),
            open=self.watch.open,
            most=self.watch.most,
            leased=self.stats.in_use if self.stats else None,
            waiting=self.stats.waiting if self.stats else None,
        )

    def steer(self) -> None:
        """Stop the load where going on makes no sense."""
        # Each client may be about to open one more.
        most = self.watch.ceiling - self.load.clients
        enough = not self.pooled and self.watch.open >= most
        if enough or not self.server.running:
            self.load.stop()

    async def look(self, asking: httpx.AsyncClient) -> None:
        """Have the site tell its own figures; the last ones stay if it does not."""
        with suppress(httpx.HTTPError, ValueError):
            told = (await asking.get(FIGURES)).json()
            self.watch.told(**told["connections"])
            if self.pooled:
                self.stats = PoolStats.from_dict(told["pools"]["default"])

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        async with client(self.server.address) as asking:
            while True:
                await self.look(asking)
                await asyncio.sleep(PAUSE)

    async def come_to_rest(self) -> None:
        """Wait, not for ever, until no lease is out and nobody waits for one."""
        deadline = time.monotonic() + RETURN
        async with client(self.server.address) as asking:
            while self.pooled and self.server.running and time.monotonic() < deadline:
                await self.look(asking)
                if self.stats and not self.stats.in_use and not self.stats.waiting:
                    return
                await asyncio.sleep(PAUSE)

    def problems(self, max_size: int) -> list[str]:
        """What is not as djpool promises."""
        found = []
        if not self.server.running:
            found.append("the server ended")
        if errors := sum(self.load.errors.values()):
            kinds = self.load.errors.most_common(KINDS)
            told = "; ".join(f"{count} times {what}" for what, count in kinds)
            found.append(f"{errors} requests failed ({told})")
        elif self.load.answered < self.load.requests:
            found.append("the requests took too long, and not all were made")
        if self.watch.failure:
            found.append(f"counting connections failed: {self.watch.failure}")
        elif self.watch.most > max_size:
            found.append(f"{self.watch.most} connections were open, not {max_size}")
        elif not self.watch.most:
            found.append("no connection was seen")
        if self.stats is None:
            found.append("the pool did not tell its figures")
        elif self.stats.in_use or self.stats.waiting:
            found.append(
                f"{self.stats.in_use} leases did not come back, and "
                f"{self.stats.waiting} callers still wait"
            )
        return found


def run(plan: Plan, screen: Screen) -> bool:
    """Run the demo; return whether djpool kept its promises.

    Raises:
        DemoError: It could not be run.
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="djpool-demo-"))
        )
        database = plan.database or sqlite(
            folder / "demo.sqlite3", "SQLite, in a temporary file"
        )
        contenders = [_start(stack, plan, database, folder, pooled=True)]
        if plan.compare:
            contenders.append(_start(stack, plan, database, folder, pooled=False))
        _introduce(contenders, plan, database, screen)
        asyncio.run(_drive(contenders, screen))
        screen.end([each.row() for each in contenders])
        return _judge(contenders, plan, screen)


def _start(
    stack: ExitStack, plan: Plan, database: Database, folder: Path, *, pooled: bool
) -> Contender:
    name = f"djpool demo {secrets.token_hex(4)}"
    settings = database.pooled(name, plan.max_size) if pooled else database.stock(name)
    wal = database.vendor == "sqlite" and plan.database is None
    server = stack.enter_context(Server(settings, folder, wal=wal))
    counted = stack.enter_context(watch(database, name, server.pid, plan.max_size))
    clients = plan.clients
    if not pooled:
        clients = min(clients, max(1, counted.ceiling // 2))
    load = Load(server.address, plan.requests, clients)
    return Contender(server, counted, load, pooled=pooled)


def _introduce(
    contenders: Sequence[Contender], plan: Plan, database: Database, screen: Screen
) -> None:
    screen.say(f"{plan.requests} requests to each of")
    for each in contenders:
        how = (
            f'OPTIONS["pool"] = {{"max_size": {plan.max_size}}}'
            if each.pooled
            else f"CONN_MAX_AGE = {CONN_MAX_AGE}"
        )
        screen.say(
            f"  {each.name}: {how}, by {each.load.clients} clients at once, "
            f"process {each.server.pid}"
        )
    words = contenders[0].watch.words
    screen.say(f"Database: {database.label}. Connections are counted {words}.")
    screen.say()


async def _drive(contenders: Sequence[Contender], screen: Screen) -> None:
    """Put the servers under load, all at the same time, and show it."""
    longest = LONGEST + PER_REQUEST * sum(each.load.requests for each in contenders)
    deadline = time.monotonic() + longest
    loads = [asyncio.ensure_future(each.load.run()) for each in contenders]
    followers = [asyncio.ensure_future(each.follow()) for each in contenders]
    try:
        while not all(load.done() for load in loads):
            for each in contenders:
                each.steer()
                if time.monotonic() > deadline:
                    each.load.stop()
            for follower in followers:
                if follower.done():
                    follower.result()  # it never returns: it raises
            if screen.due:
                screen.show([each.row() for each in contenders])
            await asyncio.sleep(STEP)
        await asyncio.gather(*loads)
    finally:
        for task in (*loads, *followers):
            task.cancel()
        await asyncio.gather(*loads, *followers, return_exceptions=True)
    for each in contenders:
        await each.come_to_rest()


def _judge(contenders: Sequence[Contender], plan: Plan, screen: Screen) -> bool:
    """Say in words what the table shows; return whether it is as it should be."""
    pooled, *others = contenders
    problems = pooled.problems(plan.max_size)
    screen.say()
    for stock in others:
        screen.say(_told(stock))
    if problems:
        screen.say(f"FAILED: {'; '.join(problems)}.")
        if log := pooled.server.log():
            screen.say(f"The end of the server's log:\n{log}")
    else:
        row = pooled.row()
        screen.say(
            f"OK: {row.answered} requests, no errors, p50 {milliseconds(row.p50)}, "
            f"p99 {milliseconds(row.p99)}; at most {row.most} connections open, of "
            f"{plan.max_size} allowed; every lease returned."
        )
    return not problems


def _told(stock: Contender) -> str:
    """What became of the backend without a pool."""
    row = stock.row()
    told = (
        f"Without a pool: at most {row.most} connections open, and {row.open} still "
        "are, though nobody uses them"
    )
    if row.answered + row.errors < row.requests:
        told += f"; stopped after {row.answered} requests: so many are enough"
    if row.errors:
        (what, _count), *_ = stock.load.errors.most_common(1)
        told += f"; {row.errors} errors, such as {what}"
    return f"{told}."
