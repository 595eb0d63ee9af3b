"""The way in: from a caller's turn to a connection that can be lent."""

from __future__ import annotations

import time

from djpool.core.connections import Connections
from djpool.core.errors import without_frames
from djpool.core.gate import Refused, Waiter
from djpool.core.opening import Opener
from djpool.core.owner import current_owner
from djpool.core.reclaim import IN_USE_PAUSE, Reclaim
from djpool.core.refusals import MOMENT, Refusals
from djpool.core.slot import Slot, is_held
from djpool.core.stats import CloseCause
from djpool.core.telling import by_another_thread

# How long a caller waits for a server that is full, or about to start, to take one
# more; after that it is told so.
FULL_PATIENCE = 2.0


class Checkout:
    """Queues for a slot, and sees to it that its connection is sound. Thread-safe.

    One deadline holds for queueing, pinging, closing and connecting together.
    """

    def __init__(
        self,
        connections: Connections,
        opener: Opener,
        refusals: Refusals,
        reclaim: Reclaim,
    ) -> None:
        self._connections = connections
        self._opener = opener
        self._refusals = refusals
        self._reclaim = reclaim
        self._gate = connections.gate
        self._clock = connections.clock
        self._early = connections.options.release == "transaction"

    def queue(self, patience: float) -> Slot:
        """A slot that was free, or is the right to open a connection.

        Raises what `Pool.acquire()` does, or why another one's connect failed.
        """
        if not self._is_refused_anyway():
            self._help_itself()
        if patience:
            self._refuse_the_hopeless()
        else:
            self._gate.make_room()  # there will be no waiting for it
        return self._queue(patience, patience)

    def _is_refused_anyway(self) -> bool:
        """True if too many wait already, and a caller helped itself a moment ago."""
        with self._gate.lock:
            crowded = self._gate.crowded
        return crowded and 0 <= self._clock() - self._reclaim.sought_at < MOMENT

    def _help_itself(self) -> None:
        """Take back what can be: the upkeep may be late, or not run at all."""
        reclaim, now = self._reclaim, self._clock()
        since, reclaim.sought_at = now - reclaim.sought_at, now
        if self._gate.counters.opened:
            self._connections.watch()
        with by_another_thread():  # whose handlers may be slow: this one is in a hurry
            reclaim.what_is_over()
            # In request mode, what threads do takes a moment to look at.
            if self._early or since >= IN_USE_PAUSE:
                again = reclaim.what_is_loose(coming=1)
                # Somebody is to look again later, and goes on while others wait.
                if again is not None and since >= again:
                    self._connections.nudge()
            reclaim.what_is_lost()  # last: the collector may have run meanwhile

    def insist(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """`make_sound()`, and again where that failed and waiting can help."""
        full_until = deadline
        try:
            while True:
                try:
                    return self.make_sound(slot, patience, deadline)
                except Exception as error:
                    until = now = self._clock()
                    if self._connections.driver.is_full(error):
                        full_until = min(full_until, now + FULL_PATIENCE)
                        until = full_until
                    if self._gate.suspended:
                        until = deadline  # what it failed of may be why
                    turn = None
                    if patience and until > now:
                        waiter = self._waiting_since(deadline - patience)
                        turn, _ = self._try_queue(until - now, waiter)
                    if turn is None:
                        self._opener.share(error, deadline)
                        raise
                slot = turn
        except BaseException:
            self._connections.abandon(slot)  # if it is not closed already
            raise

    def make_sound(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """The checkout loop: until the slot has a connection that can be lent.

        After a dead one it goes on at once: with another that was idle, or by
        opening one in its place. It never sleeps.
        """
        try:
            while True:
                turn = self._try_slot(slot, patience, deadline)
                if turn is slot:
                    return slot
                slot = turn
        except BaseException:
            self._connections.discard(slot, CloseCause.BROKEN)
            raise

    def _try_slot(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """The slot, now with a connection that can be lent, or another one to try."""
        connections = self._connections
        if not slot.opening:
            # Without an entry, the native pool had lost its connection.
            if slot.entry is not None:
                cause = connections.fault(slot.entry, deadline)
                if cause is None:
                    return slot
                connections.close(slot, cause)
            turn = self._go_on(slot, patience, deadline)
            if turn is not slot:
                return turn
        if self._clock() > deadline:  # spent on queueing, pinging and closing
            with self._gate.lock:
                self._gate.counters.timeouts += 1
            raise self._refusals.error(Refused.TIMEOUT, connections.options.timeout)
        if patience and self._gate.others_may_come_first():
            waiter = self._waiting_since(deadline - patience)
            if self._opener.open_beside(slot, deadline, waiter):
                return self._queue(deadline - self._clock(), patience, waiter)
        connections.open(slot, deadline)
        return slot

    def _go_on(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """After the connection of this slot was closed: another turn."""
        other = None
        try:
            other = self._gate.replace(slot, patient=patience > 0)
            if other is not None:
                self._connections.take_native(other)
                return other
        except BaseException:
            if other is not None:
                self._connections.abandon(other)
            raise
        waiter = self._waiting_since(deadline - patience)
        return self._queue(deadline - self._clock(), patience, waiter)

    def _waiting_since(self, arrival: float) -> Waiter:
        """A place in the queue for who came then, by the pool's clock."""
        return Waiter(time.monotonic() - max(self._clock() - arrival, 0.0))

    def _queue(
        self, seconds: float, patience: float, waiter: Waiter | None = None
    ) -> Slot:
        """Queue for a slot; `patience` is for the message if none comes."""
        slot, why = self._try_queue(seconds, waiter)
        if slot is not None:
            return slot
        if isinstance(why, BaseException):
            raise without_frames(why)
        raise self._refusals.error(why, patience)

    def _try_queue(
        self, seconds: float, waiter: Waiter | None
    ) -> tuple[Slot | None, Refused | BaseException]:
        """Queue for a slot; return it, or None and why there is none."""
        turn: Slot | Refused | BaseException = Refused.TIMEOUT
        try:
            turn = self._gate.queue(seconds, waiter)
            if isinstance(turn, Slot):
                self._connections.take_native(turn)
                return turn, Refused.TIMEOUT
        except BaseException:
            if isinstance(turn, Slot):
                self._connections.abandon(turn)
            raise
        return None, turn

    # -- refusals ----------------------------------------------------------------

    def _refuse_the_hopeless(self) -> None:
        """Raise if the caller would wait for what only the caller could give back."""
        gate, me = self._gate, current_owner()
        limit = min(gate.max_size, gate.family.max_size)
        if len(me.holding) < limit:
            return  # of any pool: no need to count, under the lock, what are this one's
        self._reclaim.what_is_lost()
        with gate.lock:
            mine = sum(
                entry.owner is me and is_held(entry)
                for entry in self._connections.books_of_all()
            )
            if mine < limit or gate.barred or gate.crowded:
                return
            gate.counters.timeouts += 1
        raise self._refusals.hopeless(mine)
