"""Ways to interrupt requests. Each takes a plan and returns the worker's report."""

from __future__ import annotations

import collections
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.interruption.drivers import DRIVERS
from tests.interruption.requests import PATIENCE, Requests
from tests.interruption.statements import NoError, WrongAnswer
from tests.interruption.strikes import (
    HANGS,
    STRIKES,
    Alarm,
    Calls,
    Sender,
    Strike,
    TimeLimit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = dict[str, Any]

# How often each kind of statement runs to see how long it takes.
WARM = 9
# Exceptions strike within so many times its least duration then.
SPREAD = 1.8
# This share of the rounds runs the first kind of statement, the shortest one.
SHARE = 0.6
# How often the other kinds run in the rest. The default is 1.
WEIGHTS = {"slow": 3.0, "many": 0.7, "half": 0.7, "load": 0.5, "begun": 0.0}
# The statements that leave work for the end of their request.
LEAVING = ("begun", "kept_cursor", "half", "several_left", "raw")


class Plot:
    """Chooses what a round does, and when an exception strikes in it."""

    def __init__(self, requests: Requests) -> None:
        """Measure how long each kind of statement takes, and the end of a request."""
        self._random = requests.random
        self._first, *self._others = requests.kinds
        times = collections.defaultdict(list)
        for kind in requests.kinds:
            for done in range(WARM):
                if done and requests.over:
                    break
                requests.run(self._first)  # connects, if the last one cost a connection
                asked, ended = requests.run(kind)
                times[kind].append(asked)
                times["end"].append(ended)
        self._seconds = {kind: min(times[kind]) for kind in times}
        self._weights = [WEIGHTS.get(kind, 1.0) for kind in self._others]

    def choose(self) -> str:
        """Return a kind of statement."""
        if not self._others or self._random.random() < SHARE:
            return self._first
        return self._random.choices(self._others, self._weights)[0]

    def moment(self, kind: str) -> float:
        """Return seconds after its start; "end" is the end of a request."""
        return self._random.uniform(0.0, SPREAD * self._seconds[kind])


def by_signals(plan: dict[str, Any]) -> Report:
    """Interrupt `count` statements by signals, and every other end of a request."""
    requests = Requests(plan)
    requests.begin(requests.kinds)
    plot = Plot(requests)
    while requests.counts.interrupted < plan["count"] and not requests.over:
        requests.counts.rounds += 1
        kind = plot.choose()
        strike = STRIKES[requests.counts.rounds % 2]
        _strike_at_random(requests, requests.alarm, plot, kind, strike)
    return requests.finish()


def by_threads(plan: dict[str, Any]) -> Report:
    """Interrupt `count` statements by exceptions that another thread sets."""
    requests = Requests(plan)
    requests.begin(requests.kinds)
    plot = Plot(requests)
    sender = Sender()
    try:
        while requests.counts.interrupted < plan["count"] and not requests.over:
            requests.counts.rounds += 1
            kind = plot.choose()
            strike = STRIKES[requests.counts.rounds % 2]
            _strike_at_random(requests, sender, plot, kind, strike)
    finally:
        sender.stop()
    return requests.finish()


def _strike_at_random(
    requests: Requests, by: Alarm | Sender, plot: Plot, kind: str, strike: Strike
) -> None:
    """Run a request with an exception at a random moment, and two other ones."""
    ask = requests.new_ask(kind)
    finished: list[bool] = []

    def ask_and_say() -> None:
        ask()
        finished.append(True)

    error = by.attempt(ask_and_say, plot.moment(kind), strike)
    after = f"{kind} ({_name(error)})"
    if isinstance(by, Alarm):
        struck = by.rang > 0
        requests.counts.hung += by.rang > 1
        after += f" at {by.where}" * struck
    else:
        struck = by.sent
    if not struck or isinstance(error, WrongAnswer):
        requests.judge(error, after)
    elif not finished:
        requests.interrupted(kind)
    if requests.random.random() < 0.5:
        # And with it the frames, and the cursors in them. PyMySQL's unbuffered ones may
        # wait for ever in their finalisers, with a pool or without.
        held = [error]
        error = None
        requests.alarm.attempt(held.clear, HANGS, TimeLimit)
        requests.counts.hung += requests.alarm.rang > 0
    if requests.random.random() < 0.2:
        requests.again(after)
    if isinstance(by, Alarm) and requests.random.random() < 0.5:
        close = requests.connection.close
        by.attempt(close, plot.moment("end"), strike)
        if by.rang:
            requests.counts.ends_interrupted += 1
            after += f", its end interrupted at {by.where}"
    requests.end(after)
    del error
    requests.follow(after)


def _name(error: BaseException | None) -> str:
    return "no error" if error is None else type(error).__name__


def at_calls(plan: dict[str, Any]) -> Report:
    """Interrupt each kind of statement at each call of the driver's functions.

    If a statement has more than `count` calls and returns, at so many of them. The
    first kind of statement is interrupted at each.
    """
    requests = Requests(plan)
    requests.begin(requests.kinds)
    calls = Calls(DRIVERS[plan["driver"]].packages)
    kinds = [(kind, False) for kind in requests.kinds]
    kinds += [(kind, True) for kind in LEAVING if kind in requests.kinds]
    for kind, ends in kinds:
        if requests.over:
            break
        # As many places as there are when nothing strikes.
        places = _strike_at_call(requests, calls, kind, 0, ends=ends)
        where = list(range(1, places + 1))
        if places > plan["count"] and kind != requests.kinds[0]:
            where = sorted(requests.random.sample(where, plan["count"]))
        for at in where:
            if not requests.over:
                _strike_at_call(requests, calls, kind, at, ends=ends)
    return requests.finish()


def _strike_at_call(
    requests: Requests, calls: Calls, kind: str, at: int, *, ends: bool
) -> int:
    """Run a request with an exception at a call, and two other ones.

    The exception strikes in the end of the request if `ends`, else in its statement.

    Returns:
        How many calls and returns there were.
    """
    requests.counts.rounds += 1
    ask: Callable[[], object] = requests.new_ask(kind)
    if ends:
        requests.judge(requests.calmly(ask), f"what was before {kind}")
        ask = requests.connection.close
    found: list[BaseException | None] = []
    strike = partial(calls.attempt, ask, at, requests.random.choice(STRIKES))
    # The alarm is for a driver that waits for ever after that.
    limit = HANGS if at else PATIENCE
    error = requests.alarm.attempt(lambda: found.append(strike()), limit, TimeLimit)
    requests.counts.hung += requests.alarm.rang > 0
    error = error or found.pop()
    after = f"{kind}{', its end' * ends} ({calls.struck or 'to the end'})"
    if not calls.struck or isinstance(error, WrongAnswer):
        requests.judge(error, after)
    elif ends:
        requests.counts.ends_interrupted += 1
    else:
        requests.interrupted(kind)
    seen = calls.seen
    if requests.random.random() < 0.5:
        # And with it the frames, and the cursors in them. PyMySQL's unbuffered ones may
        # wait for ever in their finalisers, with a pool or without.
        held = [error]
        error = None
        requests.alarm.attempt(held.clear, HANGS, TimeLimit)
        requests.counts.hung += requests.alarm.rang > 0
    if not ends and requests.random.random() < 0.2:
        requests.again(after)
    requests.end(after)
    del error
    requests.follow(after)
    return seen


def left_over(plan: dict[str, Any]) -> Report:
    """Run each kind of statement `count` times, with no exception from outside."""
    requests = Requests(plan)
    requests.begin(())
    for kind in requests.kinds:
        for _ in range(plan["count"]):
            if requests.over:
                break
            requests.counts.rounds += 1
            # The alarm is for a driver that waits for ever when it closes a cursor.
            ask = requests.new_ask(kind)
            error = requests.alarm.attempt(ask, HANGS, TimeLimit)
            requests.counts.hung += requests.alarm.rang > 0
            if isinstance(error, (WrongAnswer, NoError)):
                requests.judge(error, kind)
            # It may also clean up what the next request would find.
            if requests.counts.rounds % 2:
                requests.again(kind)
            requests.end(kind)
            for _ in range(4):
                requests.follow(kind)
    return requests.finish()


WAYS: dict[str, Callable[[dict[str, Any]], Report]] = {
    "signals": by_signals,
    "calls": at_calls,
    "threads": by_threads,
    "left over": left_over,
}


def run(plan: dict[str, Any]) -> Report:
    """Carry out a plan; return the counts."""
    started = time.monotonic()
    report = WAYS[plan["way"]](plan)
    report["seconds"] = round(time.monotonic() - started, 1)
    return report
