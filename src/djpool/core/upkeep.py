"""What a pool does when nobody asks: the keeper calls it when it is due."""

from __future__ import annotations

import logging

from djpool.core.connections import JITTER, LINGER, Connections
from djpool.core.errors import in_one_line
from djpool.core.holders import describe_holder
from djpool.core.opening import Opener
from djpool.core.reclaim import Reclaim
from djpool.core.slot import Entry, Slot
from djpool.core.stats import CloseCause

logger = logging.getLogger("djpool.pool")

# Seconds until the next look whether the settings have changed without a word.
REVIEW = 10.0
# After failing to open one up to min_size: the first and the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Upkeep:
    """Closes what is too old, opens up to `min_size`, takes back what was lost.

    Thread-safe, though one thread after the other is enough.
    """

    def __init__(
        self, connections: Connections, opener: Opener, reclaim: Reclaim
    ) -> None:
        options = connections.options
        self._connections = connections
        self._opener = opener
        self._reclaim = reclaim
        self._gate = connections.gate
        self._options = options
        self._failures = 0  # in a row, of connects up to min_size
        self._review_at = float("-inf")  # when to compare the settings again
        # Idle for so long, one that is kept for min_size is pinged.
        self._keepalive = max(options.check_after, options.check_timeout)
        if options.check is False:
            self._keepalive = float("inf")

    def maintain(self) -> float | None:
        """Do what is due; the seconds until there may be more. May block.

        None is for not before somebody uses the pool. What is laid down after this
        call is not due any sooner, so whoever sleeps that long misses nothing.
        """
        connections, options = self._connections, self._options
        again = self.reclaim()
        if self._gate.closed:
            return again
        settled = self._compare()
        if connections.clock() >= connections.sweep_at:
            connections.sweep(connections.age)
        self._keep_alive()
        due: list[float | None] = [
            self._fill(),
            connections.max_idle,
            settled,
            self._tell_of_leaks(),
            again,
        ]
        if options.max_lifetime is not None:
            due.append(options.max_lifetime * (1.0 - JITTER))
        due += self._due_dates()
        dates = [seconds for seconds in due if seconds is not None]
        if not dates:
            return None
        pause = max(min(dates), 0.01)
        connections.sweep_at = connections.clock() + pause
        return pause

    def reclaim(self) -> float | None:
        """Take back what nobody will give back; when to look again. May block.

        Callers may be waiting for this, while the rest of `maintain()` connects.
        """
        reclaim = self._reclaim
        reclaim.what_is_lost()
        looks = [reclaim.what_is_over(), reclaim.what_is_loose()]
        self._gate.serve()  # who waits beside a free slot, if somebody was interrupted
        return min((each for each in looks if each is not None), default=None)

    def _compare(self) -> float | None:
        """Compare the pool with the settings; the seconds until the next time."""
        connections, gate = self._connections, self._gate
        now, former = connections.clock(), connections.left_at is not None
        if former or now >= self._review_at or gate.size < gate.min_size:
            gate.family.review()
            self._review_at = now + REVIEW
        if connections.left_at is not None:
            return LINGER
        return max(self._review_at - now, 0.01) if gate.family.reviewed else None

    def _due_dates(self) -> list[float]:
        """In how many seconds each idle connection wants to be looked at."""
        max_idle = self._connections.max_idle
        now = self._connections.clock()
        with self._gate.lock:
            if self._gate.size <= self._gate.min_size:
                max_idle = None  # none is surplus
            due = _due_dates(self._connections.books, now, max_idle)
        due += [
            entry.quiet_since + self._keepalive - now for _slot, entry in self._kept()
        ]
        return due

    def _kept(self) -> list[tuple[Slot, Entry]]:
        """Return the `min_size` idle connections used last, which `max_idle` leaves.

        The connection that was idle for longest comes first.
        """
        least = self._gate.min_size
        if not least:
            return []
        # Looked at once: another thread may lease and close a connection meanwhile.
        idle = [(slot, slot.entry) for slot in list(self._gate.free)]
        open_ones = [(slot, entry) for slot, entry in idle if entry is not None]
        open_ones.sort(key=lambda pair: pair[1].idle_since)
        return open_ones[-least:]

    def _keep_alive(self) -> None:
        """Ping what is kept for `min_size` before it is idle for too long.

        So a caller finds a live connection, and no firewall forgets it. One at a time:
        callers can lease the others meanwhile. A ping is no use of a connection, so
        `max_idle` goes on counting. The surplus gets none, and is closed by then.
        """
        connections, patience = self._connections, self._options.check_timeout
        now = connections.clock()
        due = [
            slot
            for slot, entry in self._kept()
            if now - entry.quiet_since >= self._keepalive
        ]
        mark = object()
        slot = None
        try:
            while due:
                slot = due.pop(0)
                try:
                    self._gate.free.remove(slot)
                except ValueError:
                    continue  # a caller has leased it meanwhile
                slot.returning = mark
                connections.take_native(slot)
                entry = slot.entry
                if entry is None or not connections.ping(entry, patience):
                    connections.discard(slot, CloseCause.BROKEN)
                else:
                    connections.put_aside(slot)
        except BaseException:
            if slot is not None:
                connections.abandon_if(slot, mark)
            # If it struck before the mark was set, here is the last reference.
            slot = None
            due.clear()
            raise

    def _fill(self) -> float | None:
        """Open connections up to `min_size`; the pause until the next attempt."""
        outage, timeout = self._connections.outage, self._options.timeout
        if not outage.failures:
            self._failures = 0
        mark, deadline = object(), 0.0
        while (slot := self._gate.grow()) is not None:
            slot.returning = mark
            try:
                deadline = self._connections.clock() + timeout
                self._opener.open_spare(slot, deadline)
                self._failures = 0
            except Exception as error:  # noqa: BLE001 (each driver has its own)
                self._connections.abandon_if(slot, mark)
                self._failures += 1
                if outage.is_news():
                    logger.warning(
                        "pool %r: cannot keep min_size=%s connections open: %s",
                        self._connections.name,
                        self._gate.min_size,
                        in_one_line(error),
                    )
                self._opener.share(error, deadline)
                return min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE)
            except BaseException:
                self._connections.abandon_if(slot, mark)
                raise
        return None

    def _tell_of_leaks(self) -> float | None:
        """Warn of leases that last; the seconds until it is worth another look."""
        threshold = self._options.leak_threshold
        if threshold is None:
            return None
        books, now = self._connections.books, self._connections.clock()
        with self._gate.lock:
            late = _late(books, now - threshold)
            self._gate.counters.leaks += len(late)
        for entry in late:
            logger.warning(
                "pool %r: a connection is held for longer than leak_threshold=%g s "
                "by %s",
                self._connections.name,
                threshold,
                describe_holder(entry, now - entry.acquired_at),
            )
        return threshold / 4  # of what is leased from now on, none is told of late


# Loops inside of critical sections: see `djpool.core.slot`.


def _due_dates(books: set[Entry], now: float, max_idle: float | None) -> list[float]:
    due: list[float] = []
    for entry in list(books):
        if entry.owner is not None:
            continue  # what is lent is looked at when it comes back
        due.append(entry.expires_at - now)
        if max_idle is not None:
            due.append(entry.idle_since + max_idle - now)
    return due


def _late(books: set[Entry], since: float) -> list[Entry]:
    """Return what is held since then or longer, and mark it as told of."""
    held = [
        each
        for each in list(books)
        if each.owner and not (each.leaked or each.owner.tells)
    ]
    late = [each for each in held if each.acquired_at <= since]
    for entry in late:
        entry.leaked = True
    return late
