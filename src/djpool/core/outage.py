"""That no connection can be opened: since when, why, and what to do meanwhile.

Whoever needs a new connection meanwhile tries, because a server that is back should
be noticed by the first who asks. But they try one after the other, with pauses that
are short, grow and are never quite the same; and what one of them is told is told to
all who waited for it. See `Gate`, which keeps the pauses.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds between two attempts. The longest is what a recovery can go unnoticed for.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
# The share of a pause that is left out at random, so that processes do not march in
# step.
SPREAD = 0.5
# How often a pause doubles at most.
DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """An outage that is over."""

    seconds: float
    failures: int


class Outage:
    """Failed connects in a row. Thread-safe; there is none while one works."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` gives numbers from 0 to 1."""
        self._clock = clock
        self._chance = chance
        self._lock = (
            threading.RLock()
        )  # guards what follows; handlers of signals connect, too
        self._since = 0.0
        self._told = False
        #: How many connects failed, without one that worked.
        self.failures = 0
        #: What the last of them was told.
        self.error: BaseException | None = None

    def failed(self, error: BaseException) -> float:
        """A connect failed; the seconds after which the next may be tried."""
        with self._lock:
            if not self.failures:
                self._since = self._clock()
            doublings = min(self.failures, DOUBLINGS)
            self.failures += 1
            self.error = error
        pause = min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)
        return pause * (1.0 - SPREAD * self._chance())

    def is_news(self) -> bool:
        """Whether it should be told of now: once, to the first who asks."""
        with self._lock:
            news = self.failures > 0 and not self._told
            self._told = self._told or news
            return news

    def end(self) -> Ended | None:
        """A connect worked; what it ended, if that was told of."""
        with self._lock:
            ended = Ended(self._clock() - self._since, self.failures)
            told, self._told = self._told, False
            self.failures, self.error = 0, None
            return ended if told and ended.failures else None
