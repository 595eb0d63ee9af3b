"""Who gets a connection next: strictly first come, first served.

The gate counts slots and knows nothing of connections. It decides under its
lock and returns at once; everything slow (connecting, pinging, closing) is done
by the one who got the slot, without a lock.

Free slots lie on a stack: the last one used is the next one lent, so a few stay
warm while the others grow old and are closed. Taking one from it, and laying
one down, are atomic (`deque.pop()`, `deque.append()`) and need no lock while
nobody waits. Who lays a slot down looks at the queue afterwards, and who joins
the queue looks at the stack afterwards: one of the two sees the other.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections import deque
from collections.abc import Callable

from djpool.core.options import LONGEST
from djpool.core.slot import Entry, Slot
from djpool.core.stats import Counters


class Refused(enum.Enum):
    """Why a caller did not get a slot."""

    TIMEOUT = enum.auto()
    BUSY = enum.auto()
    CLOSED = enum.auto()


class Waiter:
    """A place in the queue. `wake` is released once, when its turn has come."""

    __slots__ = ("slot", "wake")

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class Gate:
    """Admission to `max_size` slots. Thread-safe.

    `lock` guards everything but the two deques' own ends; `free` may be popped
    without it by whoever has seen `barred` False and `waiters` empty.
    """

    def __init__(
        self,
        min_size: int,
        max_size: int,
        max_waiting: int | None,
        on_lost: Callable[[Entry | None, bool], None],
    ) -> None:
        self.lock = threading.Lock()
        self.min_size = min_size
        self.max_size = max_size
        self.max_waiting = max_waiting
        self._on_lost = on_lost  # what every slot's finaliser calls
        self.size = 0  # slots that exist: at rest, lent, or being opened
        self.opening = 0  # of these: their connection is being opened
        self.mending = 0  # of these: given back, and not ready yet
        self.free: deque[Slot] = deque()
        self.waiters: deque[Waiter] = deque()
        self.barred = False  # nobody is let in: suspended, or closed
        self.closed = False
        self.tight = False  # what comes back is surplus: size > max_size, or closed
        self.counters = Counters()

    # -- in ---------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether so many wait that nobody else may. Ask under the lock."""
        return self.max_waiting is not None and len(self.waiters) >= self.max_waiting

    def queue(self, timeout: float) -> Slot | Refused:
        """A slot, when the caller's turn has come, in `timeout` seconds at most.

        A slot that is `opening` is the right to open a connection.
        """
        waiter = Waiter()
        try:
            with self.lock:
                refused = self._join_locked(waiter, timeout)
            if refused is not None:
                return refused
            waiter.wake.acquire(timeout=min(timeout, LONGEST))
        except BaseException:
            turn = self._leave_queue(waiter)
            if isinstance(turn, Slot):
                self.lay_down(turn)
            raise
        return self._leave_queue(waiter)

    def _join_locked(self, waiter: Waiter, timeout: float) -> Slot | Refused | None:
        """Join the queue, or say at once what comes of it."""
        if self.closed:
            return Refused.CLOSED
        if not self.waiters and (slot := self._admit_locked()) is not None:
            return slot
        if timeout <= 0:
            self.counters.timeouts += 1
            return Refused.TIMEOUT
        if self.crowded:
            self.counters.rejected += 1
            return Refused.BUSY
        self.counters.waited += 1
        self.waiters.append(waiter)
        # What was laid down since the look at the stack, by somebody who saw an
        # empty queue, is for the first in it.
        self._serve_locked()
        return None

    def _leave_queue(self, waiter: Waiter) -> Slot | Refused:
        with self.lock:
            # Turns are given under this lock. So it has come by now, or the
            # waiter goes and cannot be given one: no slot ever goes to a caller
            # who left.
            if waiter.slot is None:
                # Perhaps what came free for us was announced by nobody, because
                # whoever laid it down was interrupted after that.
                self._serve_locked()
            with contextlib.suppress(ValueError):  # gone, as is usual once served
                self.waiters.remove(waiter)
            slot, waiter.slot = waiter.slot, None
            if slot is not None:
                return slot
            if self.closed:
                return Refused.CLOSED
            self.counters.timeouts += 1
            return Refused.TIMEOUT

    def grow(self) -> Slot | None:
        """The right to open a connection, if there are fewer than `min_size`."""
        with self.lock:
            if self.size < min(self.min_size, self.max_size) and not self.barred:
                return self._open_locked()
        return None

    def replace(self, slot: Slot) -> Slot:
        """Go on after the connection of `slot` was closed, or went missing.

        With a free slot if there is one, else with the right to open another
        connection in the same place.
        """
        with self.lock:
            if not self.closed and self.free:
                try:
                    other = self.free.pop()
                except IndexError:
                    pass  # somebody was faster
                else:
                    self.size -= 1
                    slot.on_lost = None
                    return other
            self.opening += 1
            slot.opening = True
            return slot

    # -- out ----------------------------------------------------------------

    def opened(self, slot: Slot, seconds: float) -> None:
        """The connection was opened in so many seconds; its slot counts as lent."""
        with self.lock:
            self.opening -= 1
            slot.opening = False
            self.counters.opened += 1
            self.counters.opens.add(seconds)
            self._serve_locked()

    def mend(self, change: int) -> None:
        """One more (or, with -1, one fewer) is given back, and not ready yet."""
        with self.lock:
            self.mending += change
            self._serve_locked()

    def lay_down(self, slot: Slot) -> None:
        """The slot is for the next caller; the right to open one is given up."""
        if slot.opening:
            self.remove(slot)
            return
        self.free.append(slot)
        if self.waiters:
            self.serve()

    def remove(self, slot: Slot) -> None:
        """The connection is closed, or was never opened: its place is free.

        Does nothing for a slot that does not count any more.
        """
        with self.lock:
            if slot.on_lost is None:
                return
            self.size -= 1
            self.opening -= slot.opening
            slot.on_lost = None
            self._tighten_locked()
            self._serve_locked()

    def serve(self) -> None:
        """Let in whoever can be let in."""
        with self.lock:
            self._serve_locked()

    # -- from outside ---------------------------------------------------------

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the bounds; waiters may be let in, connections be surplus."""
        with self.lock:
            self.min_size = min_size
            self.max_size = max_size
            self._tighten_locked()
            self._serve_locked()

    def suspend(self) -> None:
        """Let nobody in until `resume()`; callers wait as long as they may."""
        with self.lock:
            self.barred = True

    def resume(self) -> None:
        """Let callers in again, those who waited first."""
        with self.lock:
            self.barred = self.closed
            self._serve_locked()

    def close(self) -> None:
        """Let nobody in ever again, and send the waiters away."""
        with self.lock:
            self.closed = self.barred = True
            self._tighten_locked()
            while self.waiters:
                waiter = self.waiters.popleft()
                if waiter.slot is None:
                    waiter.wake.release()

    # -- decisions: the caller holds the lock ----------------------------------

    def _admit_locked(self) -> Slot | None:
        if self.barred:
            return None
        try:
            return self.free.pop()
        except IndexError:
            pass
        # One connect at a time, and none while a connection is about to be ready.
        # Meanwhile others come back, and a burst of callers is often served by fewer
        # than it has heads.
        if self.size < self.max_size and not self.opening and not self.mending:
            return self._open_locked()
        return None

    def _open_locked(self) -> Slot:
        slot = Slot()
        self.size += 1
        self.opening += 1
        slot.opening = True
        slot.on_lost = self._on_lost
        return slot

    def _serve_locked(self) -> None:
        while self.waiters:
            waiter = self.waiters[0]
            if waiter.slot is None:
                waiter.slot = self._admit_locked()
                if waiter.slot is None:
                    return
                waiter.wake.release()
            # Woken before it leaves the queue: after an interruption between the
            # two the next call passes over it, or it removes itself.
            self.waiters.popleft()

    def _tighten_locked(self) -> None:
        self.tight = self.closed or self.size > self.max_size
