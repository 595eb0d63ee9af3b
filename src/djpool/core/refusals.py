"""The errors for callers that get no connection, cheap for a thousand at once."""

from __future__ import annotations

import threading
from typing import NamedTuple

from djpool.core.connections import Connections
from djpool.core.errors import ErrorKinds, PoolError
from djpool.core.gate import Refused
from djpool.core.holders import describe_holders
from djpool.core.slot import Entry
from djpool.core.stats import PoolStats

# Seconds for which one description of the pool serves every refused caller. Callers
# that are refused together have waited together, for longer than that.
MOMENT = 0.1


class _Description(NamedTuple):
    """What takes a look at every connection. Refers to none of them."""

    at: float
    stats: PoolStats
    holders: str


class Refusals:
    """Makes the error for each caller that gets no connection. Thread-safe.

    An overloaded pool refuses many callers at once, and must not slow down for it.
    So one caller looks at all connections, and the next ones use what it saw.
    """

    def __init__(self, connections: Connections, errors: ErrorKinds) -> None:
        self._connections = connections
        self._errors = errors
        self._gate = connections.gate
        # Held while one caller describes the pool, for the next ones to wait. A signal
        # handler or finaliser that interrupts it may be refused, too: so an RLock.
        self._lock = threading.RLock()
        self._described: _Description | None = None

    def error(self, why: Refused, patience: float) -> PoolError:
        """Return the error for a caller that waited `patience` seconds in vain."""
        if why is Refused.CLOSED:
            return self._closed()
        described, stats = self._look()
        if why is Refused.BUSY:
            limit = self._gate.max_waiting
            reason = f"{stats.waiting} callers wait already, and max_waiting is {limit}"
        elif self._gate.barred:
            reason = f"no connection in {patience:g} s: the pool is suspended"
        elif stats.size == stats.opening:
            reason = f"no connection could be opened in {patience:g} s"
        else:
            reason = f"no connection came free in {patience:g} s"
        kind = self._errors.busy if why is Refused.BUSY else self._errors.timeout
        error = kind(self._message(reason, stats, described.holders), stats)
        if stats.size - stats.opening < stats.max_size:
            error.__cause__ = self._connections.outage.error  # why there are not more
        return error

    def hopeless(self, mine: int) -> PoolError:
        """Return the error for a thread that has all connections itself."""
        described, stats = self._look()
        reason = (
            f"no connection came free, and none can: this thread has all {mine} itself"
        )
        message = self._message(reason, stats, described.holders)
        return self._errors.timeout(message, stats)

    def _closed(self) -> PoolError:
        told = f"pool {self._connections.name!r} is closed"
        if self._gate.inherited:
            told += ", because it is the parent's of this forked process"
        return self._errors.closed(told, self._connections.stats())

    def _look(self) -> tuple[_Description, PoolStats]:
        """Return a description of a moment ago, and the statistics of now."""
        # The thread that describes can be held up, by a signal handler for example.
        # Then another thread describes for itself.
        waited_for = self._lock.acquire(timeout=MOMENT)
        try:
            described, now = self._described, self._connections.clock()
            if described is None or not 0 <= now - described.at < MOMENT:
                described = self._describe(now)
                self._described = described
        finally:
            if waited_for:
                self._lock.release()
        return described, self._connections.stats_since(described.stats)

    def _describe(self, now: float) -> _Description:
        with self._gate.lock:
            books = self._connections.books_of_all()
            # No comprehension, for the sake of interruptions: see `djpool.core.slot`.
            held = list(filter(_is_held, books))
        holders = describe_holders(held, now)
        return _Description(now, self._connections.stats(), holders)

    def _message(self, reason: str, stats: PoolStats, holders: str) -> str:
        figures = (
            f"size {stats.size} of max_size {stats.max_size}, {stats.in_use} in use, "
            f"{stats.idle} idle, {stats.opening} opening, {stats.waiting} waiting"
        )
        return f"pool {self._connections.name!r}: {reason} ({figures}){holders}"


def _is_held(entry: Entry) -> bool:
    return entry.owner is not None
