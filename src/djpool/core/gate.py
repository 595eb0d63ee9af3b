"""Who gets a connection next: strictly first come, first served.

The gate counts slots and knows nothing of connections. It decides under its
lock and returns at once; everything slow (connecting, pinging, closing) is done
by the one who got the slot, without a lock.

Free slots lie on a stack: the last one used is the next one lent, so a few stay
warm while the others grow old and are closed. Taking one from it, and laying
one down, are atomic (`deque.pop()`, `deque.append()`) and need no lock while
nobody waits. Who lays a slot down looks at the queue afterwards, and who joins
the queue looks at the stack afterwards: one of the two sees the other.

The lock is reentrant, because a signal's handler may query, and Python runs handlers
between any two calls: inside a critical section, too, in the thread that holds the
lock. Such a handler gives the lock up for as long as it takes (`outside()`). So after
each call inside a critical section the numbers are right, and everything that was
looked at before may have changed: slots and numbers change in stores with no call
between them. Finalisers, which run there as well, leave their work to others: see
`djpool.core.collecting`.

The pools of one alias are a family, which has one lock and one limit for all: see
`djpool.core.family`. A slot counts in its gate and in the family.

While connections are slow to open, or fail to, the first in the queue also waits for
the time at which another may be tried, or is worth it. It wakes itself then, and serves
the queue.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from djpool.core.family import LOOK_AROUND, Family
from djpool.core.options import LONGEST
from djpool.core.slot import OnLost, Slot
from djpool.core.stats import Counters

# After so many seconds a connect is slow, and another may begin beside it: what it
# waits for may never come. With each of those the time doubles.
SLOW = 0.5
# One that takes no longer is made by the caller itself: a thread would cost more.
QUICK = 0.02


class Refused(enum.Enum):
    """Why a caller did not get a slot."""

    TIMEOUT = enum.auto()
    BUSY = enum.auto()
    CLOSED = enum.auto()


class Waiter:
    """A place in the queue. The gate's lock guards it, but for `wake`."""

    __slots__ = ("again", "alarm", "called", "failure", "gone", "since", "slot", "wake")

    def __init__(self, since: float | None = None) -> None:
        """`since` is for who had a turn already, and comes back to the same place."""
        self.again = since is not None
        self.since = time.monotonic() if since is None else since
        self.slot: Slot | None = None
        #: Why a connect failed whose outcome it shares.
        self.failure: BaseException | None = None
        #: Whether it waits no more.
        self.gone = False
        #: When it wakes by itself, on `time.monotonic()`, to serve the queue.
        self.alarm = float("inf")
        #: Whether `wake` is released already.
        self.called = False
        self.wake = threading.Lock()
        self.wake.acquire()

    def call(self) -> None:
        """Have it look at what has changed."""
        if not self.called:
            self.called = True
            self.wake.release()


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
        on_lost: OnLost,
        clock: Callable[[], float] = time.monotonic,
        *,
        family: Family | None = None,
    ) -> None:
        if family is None:
            family = Family()
            family.max_size = max_size
        self.family = family
        self.lock = family.lock
        #: True if this thread is inside a critical section already.
        self.is_inside: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001 (threading.Condition asks, too)
        self._clock = clock  # for connects; waiters wait in real time
        self.min_size = min_size
        self.max_size = max_size
        self.max_waiting = max_waiting
        self.on_lost = on_lost  # what every slot's finaliser calls
        self.size = 0  # slots that exist: at rest, lent, or being opened
        self.opening = 0  # of these: their connection is being opened
        self._begun = float("-inf")  # when the last of them began to be
        self._paused_until = float("-inf")  # until then no other begins
        # Whether what came back has served anybody, since a connect failed.
        self._serves = True
        # What a connect takes, by the last one; None before the first.
        self._takes: float | None = None
        # Whether the queue is there since a connect failed: no herd for the server.
        self._wary = False
        # How many that waited were served with what came back, and since when.
        self._came_back, self._counted_since = 0, float("-inf")
        self.mending = 0  # of these: given back, and not ready yet
        self._mending_since = float("-inf")  # when that was none the last time
        self.free: deque[Slot] = deque()
        self.waiters: deque[Waiter] = deque()
        self.barred = False  # nobody is let in: suspended, or closed
        self.closed = False
        self.inherited = False  # it is the parent's, and this a forked child
        self.tight = False  # what comes back is surplus: size > max_size, or closed
        self.counters = Counters()

    # -- in ---------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether so many wait that nobody else may. Ask under the lock."""
        return self.max_waiting is not None and len(self.waiters) >= self.max_waiting

    @property
    def suspended(self) -> bool:
        """Whether callers are to wait for `resume()`."""
        return self.barred and not self.closed

    def queue(
        self, timeout: float, waiter: Waiter | None = None
    ) -> Slot | Refused | BaseException:
        """A slot, when the caller's turn has come, in `timeout` seconds at most.

        A slot that is `opening` is the right to open a connection. An exception is
        why a connect in another thread failed, which the caller has waited for: to be
        raised, a copy of it. `waiter` is for who had a turn already.
        """
        waiter = waiter or Waiter()
        ends = time.monotonic() + min(timeout, LONGEST)
        try:
            with self.lock:
                refused = self._join_locked(waiter, patient=timeout > 0)
            if refused is not None:
                return refused
            if waiter.slot is None:
                self.make_room()
            self._wait(waiter, ends)
            return self._leave_queue(waiter)
        except BaseException:
            # Nobody else has this waiter by then, so its slot can be had from it again.
            turn = self._leave_queue(waiter)
            if isinstance(turn, Slot):
                self.lay_down(turn)
            raise

    def make_room(self) -> None:
        """Have an idle connection of another pool of the family closed, if need be."""
        if self.family.several:
            self.family.make_room(self)

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Give the lock up, which this thread has, for as long as the block runs.

        For the handler of a signal that has interrupted a critical section, and may
        take its time.
        """
        held = self.lock._release_save()  # type: ignore[attr-defined]  # noqa: SLF001 (as threading.Condition does)
        try:
            yield
        finally:
            self.lock._acquire_restore(held)  # type: ignore[attr-defined]  # noqa: SLF001

    def _join_locked(self, waiter: Waiter, *, patient: bool) -> Refused | None:
        """Join the queue, or say why not. A slot that is free it gets at once."""
        if self.closed:
            return Refused.CLOSED
        if waiter.failure is not None:
            return None  # it need not wait any more
        if not self.waiters:
            waiter.slot = self._admit_locked(patient)
            if waiter.slot is not None:
                return None
        if not patient:
            self.counters.timeouts += 1
            return Refused.TIMEOUT
        if not self.waiters:
            self._count_anew_locked()
            self._wary = self._wary and self._paused_until > float("-inf")
        if waiter.again:
            self.waiters.insert(self._place_locked(waiter), waiter)
        elif self.crowded:
            self.counters.rejected += 1
            return Refused.BUSY
        else:
            self.counters.waited += 1
            self.waiters.append(waiter)
        if self.family.several:
            self.family.tighten_locked()
        # What was laid down since the look at the stack, by somebody who saw an
        # empty queue, is for the first in it.
        self.serve_locked()
        return None

    def _place_locked(self, waiter: Waiter) -> int:
        """Where one who comes back belongs. Nearly all in the queue came later."""
        place = 0
        try:
            while self.waiters[place].since < waiter.since:
                place += 1
        except IndexError:
            return len(self.waiters)
        return place

    def _wait(self, waiter: Waiter, ends: float) -> None:
        # A loop with a function of its own: see `djpool.core.slot`.
        while waiter.slot is None and self._goes_on_waiting(waiter, ends):
            self.make_room()

    def _goes_on_waiting(self, waiter: Waiter, ends: float) -> bool:
        """Wait for something to happen; whether the waiter is to wait for more."""
        wakes = min(ends, waiter.alarm)
        called = waiter.wake.acquire(timeout=max(wakes - time.monotonic(), 0.0))
        with self.lock:
            if called:
                waiter.called = False
            now = time.monotonic()
            if now >= waiter.alarm:
                waiter.alarm = float("inf")
                self.serve_locked()
            waits = waiter.slot is None and waiter.failure is None
            return waits and now < ends and not self.closed

    def _leave_queue(self, waiter: Waiter) -> Slot | Refused | BaseException:
        with self.lock:
            # Turns are given under this lock. So it has come by now, or the
            # waiter goes and cannot be given one: no slot ever goes to a caller
            # who left.
            if waiter.slot is None and waiter.failure is None:
                # Perhaps what came free for us was announced by nobody, because
                # whoever laid it down was interrupted after that.
                self.serve_locked()
            if waiter.slot is None:
                # It is gone already if it was told why it gets none.
                with contextlib.suppress(ValueError):
                    self.waiters.remove(waiter)
                    self.serve_locked()  # the next in the queue may need an alarm
            elif self.waiters and self.waiters[0] is waiter:
                # Who let it in was interrupted before that. Who is served leaves
                # without a look through the queue, which may be long.
                self.waiters.popleft()
                self.serve_locked()
            if self.family.several:
                self.family.tighten_locked()
            waiter.gone = True
            if waiter.slot is not None:
                return waiter.slot
            if waiter.failure is not None:
                return waiter.failure
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

    def replace(self, slot: Slot, *, patient: bool) -> Slot | None:
        """Go on after the connection of `slot` was closed, or went missing.

        With a free slot if there is one, else with the right to open another
        connection in the same place. Or with nothing, if the caller is `patient` and
        somebody opens one already: then it is to queue, as the first, because one
        connection often serves all whose own were lost together.
        """
        other = None
        try:
            with self.lock:
                other = self._pop_for_locked(slot)
                if other is not None:
                    return other
                now = self._clock()
                if patient and (self.opening or now < self._paused_until):
                    self._remove_locked(slot)
                    return None
                self._begun = now
                self.opening += 1
                slot.opening = True
                return slot
        except BaseException:
            if other is not None:
                other.lose()
            raise

    def _pop_for_locked(self, slot: Slot) -> Slot | None:
        """A free slot in place of `slot`, if there is one."""
        if self.closed or not self.free:
            return None
        try:
            other = self.free.pop()
        except IndexError:
            return None  # somebody was faster
        self.size -= 1
        self.family.size -= 1
        slot.on_lost = None
        return other

    # -- out ----------------------------------------------------------------

    def opened(self, slot: Slot, seconds: float, *, spare: bool = False) -> None:
        """The connection was opened in so many seconds; its slot counts as lent.

        What is `spare` is about to be laid down, which serves the queue.
        """
        with self.lock:
            self.opening -= 1
            slot.opening = False
            self.counters.opened += 1
            self.counters.opens.add(seconds)
            self._paused_until = float("-inf")
            self._serves = True
            self._takes = seconds
            self._count_anew_locked()
            if not spare:
                self.serve_locked()

    def mend(self, slot: Slot) -> None:
        """It is given back, and not ready yet."""
        with self.lock:
            if not slot.mending:
                if not self.mending:
                    self._mending_since = self._clock()
                self.mending += 1
                slot.mending = True

    def mended(self, slot: Slot) -> None:
        """It is ready, or will not be."""
        with self.lock:
            self.mending -= slot.mending
            slot.mending = False
            self.serve_locked()

    def lay_down(self, slot: Slot) -> None:
        """The slot is for the next caller; the right to open one is given up."""
        if slot.opening:
            self.remove(slot)
            return
        slot.returning = None
        self.free.append(slot)
        if self.waiters:
            self.serve()

    def remove(self, slot: Slot) -> None:
        """The connection is closed, or was never opened: its place is free.

        Does nothing for a slot that does not count any more.
        """
        with self.lock:
            if slot.on_lost is not None:
                self._remove_locked(slot)

    def back_off(self, seconds: float) -> None:
        """A connect failed: let the next one begin only in so many seconds."""
        with self.lock:
            self._paused_until = self._clock() + seconds
            self._wary = True

    def share(self, failure: BaseException) -> None:
        """Tell those in the queue why a connect failed, unless waiting can help.

        It can while connections come back that are in use. Whether they do shows in
        whether anybody was served with one since the last failure.
        """
        with self.lock:
            helps = self._serves and self.size > self.opening
            self._serves = False
            if helps or self.barred:
                return
            self._share_locked(failure)

    def _share_locked(self, failure: BaseException) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if waiter.slot is None:
                waiter.failure = failure
                waiter.call()

    def dismiss(self, waiter: Waiter, failure: BaseException) -> bool:
        """Tell a caller why the connect made for it failed; False if it has its turn.

        Or if it waits no more. It need not have joined the queue yet.
        """
        with self.lock:
            if waiter.slot is not None or waiter.gone:
                return False
            waiter.failure = failure
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)
                self.serve_locked()  # the next in the queue may need an alarm
            waiter.call()
            return True

    def serve(self) -> None:
        """Let in whoever can be let in."""
        with self.lock:
            self.serve_locked()

    # -- from outside ---------------------------------------------------------

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the bounds; waiters may be let in, connections be surplus."""
        with self.lock:
            self.min_size = min_size
            self.max_size = self.family.max_size = max_size
            self.tighten_locked()
            self.serve_locked()
            if self.family.several:
                self.family.serve_locked()

    def suspend(self) -> None:
        """Let nobody in until `resume()`; callers wait as long as they may."""
        with self.lock:
            self.barred = True

    def resume(self) -> None:
        """Let callers in again, those who waited first."""
        with self.lock:
            self.barred = self.closed
            self.serve_locked()

    def after_fork(self, family: Family) -> list[Slot]:
        """In a forked child: let nobody in ever again; returns what was free.

        Takes no lock, and uses that of a new family: a thread that is no more may have
        the one of before.
        """
        self.family = family
        self.lock = family.lock
        self.is_inside = self.lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001
        self.inherited = self.closed = self.barred = self.tight = True
        self.size = self.opening = self.mending = 0
        left = list(self.free)
        self.free.clear()
        self.waiters.clear()
        return left

    def close(self) -> None:
        """Let nobody in ever again, and send the waiters away."""
        with self.lock:
            self._close_locked()

    def close_if_unused(self) -> bool:
        """Close it if it has neither connections nor callers; whether that was done."""
        with self.lock:
            if self.size or self.waiters:
                return False
            # From here on no handler of a signal comes between.
            self.closed = self.barred = self.tight = True
            return True

    def _close_locked(self) -> None:
        self.closed = self.barred = True
        self.tighten_locked()
        while self.waiters:
            waiter = self.waiters.popleft()
            waiter.call()

    # -- decisions: the caller holds the lock ----------------------------------

    def _admit_locked(self, patient: bool = True) -> Slot | None:
        if self.barred:
            return None
        try:
            slot = self.free.pop()
        except IndexError:
            pass
        else:
            self._serves = True
            return slot
        return self._open_locked() if self._due_locked(patient) == 0 else None

    def waits_since(self) -> float:
        """When the first one in the queue came; the family asks, under the lock."""
        try:
            return self.waiters[0].since
        except IndexError:
            return float("inf")

    def _due_locked(self, patient: bool = True) -> float | None:
        """Seconds until another connect may begin; None if it is not time that lacks.

        Who is not `patient` cannot wait for the end of a pause.
        """
        # Not while a connection is about to be ready, and one at a time unless several
        # are worth it: meanwhile others come back, and a burst of callers is often
        # served by fewer than it has heads. What should be ready soon, and is not, is
        # waited for no longer.
        if self.barred or self.size >= self.max_size:
            return None
        if self.family.several and self.family.size >= self.family.max_size:
            return None
        due = self._paused_until if patient else float("-inf")
        if self.mending:
            due = max(due, self._mending_since + SLOW)
        if self.opening:
            due = max(due, min(self._begun + self._slow_locked(), self._worth_locked()))
        return max(due - self._clock(), 0.0)

    def others_may_come_first(self) -> bool:
        """Whether another connection may come free before one is opened."""
        with self.lock:
            slow = self._takes is None or self._takes > QUICK
            return slow and self.size > 1

    def _slow_locked(self) -> float:
        """Seconds after which the connects under way are slow, and may never end."""
        usual = SLOW if self._takes is None else max(SLOW, 2.0 * self._takes)
        return float(usual * 2.0 ** (self.opening - 1))

    def _worth_locked(self) -> float:
        """When another connect is worth it beside those that are under way.

        It is for a caller that would still wait by the end of the connect: one of those
        that neither the connects under way will serve by then, nor what comes back. Of
        that as many may come as have come since the count began, and one more.
        """
        left = len(self.waiters) - self.opening
        if left > 0 and self.size < self.min_size and not self._wary:
            return float("-inf")  # it is wanted in any case
        # Where there is no connection, it is not known how soon one would come back.
        if self._takes is None or self._wary or left <= 0 or self.size == self.opening:
            return float("inf")
        return self._counted_since + self._takes * (self._came_back + 1) / left

    def _count_anew_locked(self) -> None:
        self._came_back, self._counted_since = 0, self._clock()

    def _open_locked(self) -> Slot | None:
        slot, now = Slot(), self._clock()
        # Looked at again: from here on no handler of a signal comes between.
        family = self.family
        if self.size >= self.max_size or (
            family.several and family.size >= family.max_size
        ):
            return None
        self._begun = now
        self.size += 1
        family.size += 1
        self.opening += 1
        slot.opening = True
        slot.on_lost = self.on_lost
        return slot

    def serve_locked(self) -> None:
        """Let in whoever can be let in."""
        while self.waiters:
            waiter = self.waiters[0]
            if waiter.slot is None:
                slot = self._admit_locked()
                if slot is None:
                    self._set_alarm_locked(waiter)
                    return
                if waiter.slot is not None:  # the handler of a signal came between
                    self._put_back_locked(slot)
                    continue
                waiter.slot = slot
                waiter.call()
                if not slot.opening:
                    self._came_back += 1
            # Woken before it leaves the queue: after an interruption between the
            # two the next call passes over it, or it removes itself.
            if self.waiters and self.waiters[0] is waiter:
                self.waiters.popleft()

    def _put_back_locked(self, slot: Slot) -> None:
        if slot.opening:
            self.size -= 1
            self.family.size -= 1
            self.opening -= 1
            slot.on_lost = None
        else:
            self.free.append(slot)

    def _set_alarm_locked(self, waiter: Waiter) -> None:
        """Have the first in the queue wake when another connect may begin."""
        if (due := self._due_locked()) is None:
            if not self.family.several or self.barred or self.size >= self.max_size:
                return
            self.family.tighten_locked()  # it may just have become full
            due = LOOK_AROUND
        alarm = time.monotonic() + max(due, 0.001)
        if alarm < waiter.alarm:
            waiter.alarm = alarm
            waiter.call()

    def _remove_locked(self, slot: Slot) -> None:
        self.size -= 1
        self.family.size -= 1
        self.opening -= slot.opening
        self.mending -= slot.mending
        slot.mending = False
        slot.on_lost = None
        self.tighten_locked()
        if self.family.several:
            self.family.serve_locked()
        else:
            self.serve_locked()

    def tighten_locked(self) -> None:
        """Find out whether what comes back is surplus."""
        tight = self.closed or self.size > self.max_size
        if self.family.several and not tight:
            tight = self.family.wants_more_locked(self)
        self.tight = tight
