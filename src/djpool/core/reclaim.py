"""What was never given back: it comes back here, whoever had it."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from functools import partial

from djpool.core.checkin import Checkin, Postponed
from djpool.core.connections import Connections
from djpool.core.handing import hand_over
from djpool.core.holders import describe_holder
from djpool.core.lease import Lease
from djpool.core.slot import Entry, Slot
from djpool.core.stats import CloseCause
from djpool.core.telling import teller
from djpool.core.workers import Workers

logger = logging.getLogger("djpool.pool")

# Seconds until the next look at a lease that is over, or wanted, but still in use.
IN_USE_PAUSE, SHARED_PAUSE = 0.05, 1.0
# Until the next look for what nobody needs at the moment, while somebody waits.
LOOSE_PAUSE = 0.25

# What finalisers found: see `Slot.on_lost`.
Lost = deque[tuple[Entry | None, bool, bool]]


class Reclaim:
    """Ends leases in place of owners who did not. Thread-safe."""

    def __init__(
        self,
        connections: Connections,
        checkin: Checkin,
        lost: Lost,
        postponed: Postponed,
        workers: Workers | None = None,
    ) -> None:
        """Without `workers`, whoever looks takes back what may take its time, too."""
        self._connections = connections
        self._workers = workers
        self._ending: set[Entry] = set()  # by a thread apart
        self._checkin = checkin
        self._lost = lost
        self._on_lost = connections.gate.on_lost
        self._postponed = postponed
        #: When somebody was last about to wait for a connection.
        self.sought_at = float("-inf")

    def what_is_lost(self) -> None:
        """Take back what finalisers reported since the last time, or left undone."""
        connections, mark = self._connections, object()
        # As many as there are now: what is postponed again waits for the next time.
        for _ in range(len(self._postponed)):
            try:
                slot = self._postponed.popleft()
            except IndexError:
                break  # another thread was faster
            slot.returning = mark
            try:
                self._checkin.take_back(slot)
            except BaseException:
                connections.abandon_if(slot, mark)
                raise
        while self._lost:
            slot = Slot()
            slot.returning = mark
            try:
                with connections.gate.lock:
                    if not self._lost:
                        return  # another thread was faster
                    # Without a call from here to the one that takes it out: either the
                    # queue knows of it at any time, or the slot does.
                    slot.entry, slot.opening, slot.mending = self._lost[0]
                    slot.on_lost = self._on_lost
                    self._lost.popleft()
                entry = slot.entry
                if entry is None or entry.owner is None:
                    connections.discard(slot, CloseCause.BROKEN)
                else:
                    self._take_back_lost(slot, entry)
            except BaseException:
                connections.abandon_if(slot, mark)
                raise

    def _take_back_lost(self, slot: Slot, entry: Entry) -> None:
        if not self._checkin.is_in_order(entry):
            work = partial(self._take_back_unasked, entry=entry)
            abandon = self._connections.abandon
            if hand_over(slot, self._workers, work, abandon):
                return
        self._take_back_unasked(slot, entry)

    def what_is_over(self) -> float | None:
        """End leases of dead owners, and forsaken ones; when to look again."""
        with self._connections.gate.lock:
            over = _over(self._connections.books)
        pause = None
        for entry, reference in over:
            lease = reference() if reference is not None else None
            if lease is None or lease.ended:
                continue
            dead = lease.owner.ended
            if not (dead or entry.forsaken):
                continue  # the connection is another's by now
            apart = self._may_last(lease, entry) and self._ends_apart(lease, entry)
            if apart or not self._end(lease, entry):
                # A dead owner's may be shared with the living, for long.
                pause = SHARED_PAUSE if dead and pause is None else IN_USE_PAUSE
        return pause

    def _may_last(self, lease: Lease, entry: Entry) -> bool:
        """Whether the server may be asked, or the project's code be run, to end it."""
        return lease.ends_slowly() or not self._checkin.is_in_order(entry)

    def _ends_apart(self, lease: Lease, entry: Entry) -> bool:
        """Have another thread end it; False if none can be had."""
        if self._workers is None:
            return False
        if entry in self._ending:
            return True  # one does
        self._ending.add(entry)
        try:
            self._workers.do(partial(self._end_apart, lease, entry))
        except BaseException as error:
            self._ending.discard(entry)
            if isinstance(error, RuntimeError):
                return False
            raise
        return True

    def _end_apart(self, lease: Lease, entry: Entry) -> None:
        try:
            self._end(lease, entry)
        finally:
            self._ending.discard(entry)
            teller.clean_up()

    def _end(self, lease: Lease, entry: Entry) -> bool:
        """End a lease that is over; False if it is in use, or has ended."""
        dead, mark = lease.owner.ended, object()
        slot = lease.take_away()
        if slot is None:
            return False
        slot.returning = mark
        try:
            if dead and not entry.forsaken:
                self._take_back_unasked(slot, entry)
            else:
                self._checkin.take_back(slot)
        except BaseException:
            self._connections.abandon_if(slot, mark)
            raise
        return True

    def what_is_loose(self, *, coming: int = 0) -> float | None:
        """End leases that nothing needs at the moment; when to look again.

        In transaction mode, each that nothing needs between two statements. Usually it
        ends with its last statement. But some have none (a mere `ensure_connection()`),
        and some cursors are forgotten and not closed, or closed where djpool does not
        see it.

        In request mode, while somebody waits, those of threads that are at rest: they
        wait for a job, or for an event loop. What goes on there may wait in turn for
        the threads that wait for a connection: the loop's executor has only a few.
        `coming` are about to wait, and in no queue yet.
        """
        gate = self._connections.gate
        early = self._connections.options.release == "transaction"
        full = gate.size >= min(gate.max_size, gate.family.max_size)
        with gate.lock:
            references = _lent_to_the_living(self._connections.books)
            needed = len(gate.waiters) + coming
        wanted, mark = False, object()
        for reference in references:
            lease: Lease | None = reference() if reference is not None else None
            if lease is None:
                continue
            mine = lease.is_wanted()
            wanted = wanted or mine
            if not (early or mine or (full and needed > 0)):
                continue
            slot = lease.take_away(over=False)
            if slot is not None:
                needed -= 1
                slot.returning = mark
                try:
                    self._checkin.take_back(slot)
                except BaseException:
                    self._connections.abandon_if(slot, mark)
                    raise
        if wanted:
            return IN_USE_PAUSE
        sought = self._connections.clock() - self.sought_at < 2.0 * LOOSE_PAUSE
        return LOOSE_PAUSE if references and (gate.waiters or sought) else None

    def _take_back_unasked(self, slot: Slot, entry: Entry) -> None:
        connections = self._connections
        held = connections.clock() - entry.acquired_at
        with connections.gate.lock:
            connections.gate.counters.reclaimed += 1
        logger.warning(
            "pool %r: a connection was never given back, and has been taken "
            "back now. It was leased by %s%s",
            connections.name,
            describe_holder(entry, held),
            "" if connections.traces else "; set leak_threshold to see where",
        )
        self._checkin.take_back(slot)


# Loops inside of critical sections: see `djpool.core.slot`.


def _over(books: set[Entry]) -> list[tuple[Entry, weakref.ref[Lease] | None]]:
    return [
        (entry, entry.lease)
        for entry in list(books)
        if (owner := entry.owner) is not None and (owner.ended or entry.forsaken)
    ]


def _lent_to_the_living(books: set[Entry]) -> list[weakref.ref[Lease] | None]:
    return [
        each.lease
        for each in list(books)
        if each.owner is not None and not each.owner.ended
    ]
