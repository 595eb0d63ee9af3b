"""Upkeep: what looks after all pools of a process.

It has what nobody has used for too long closed, `min_size` connections kept open, and
what was lost taken back. A pool works without it; only these come later.

One thread keeps the dates, and does nothing that could take long. The upkeep itself
runs in others, so that a pool whose server is silent, or whose project's code is slow,
holds up no other one.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from djpool.core.aside import Aside
from djpool.core.options import LONGEST
from djpool.core.telling import in_a_serving_thread, teller
from djpool.core.workers import Workers, is_the_end, join

if TYPE_CHECKING:
    from djpool.core.pool import Pool

logger = logging.getLogger("djpool.pool")

# Seconds until the next try, after an upkeep that failed, or had no thread.
SURPRISED = 60.0
NO_THREAD = 1.0
# After so many seconds the part of an upkeep is done beside the whole.
SLOW = 0.02


class Chore:
    """Something to do for a pool again and again, one time after the other.

    Only the keeper's thread uses it.
    """

    __slots__ = ("again", "due", "name", "pool", "runs")

    def __init__(self, pool: weakref.ref[Pool], name: str, due: float) -> None:
        self.pool = pool
        self.name = name  # of the pool's method, which says when to come back
        self.due = due  # on `time.monotonic()`
        self.runs = False
        self.again = False  # it is to be done once more as soon as it has ended


class Keeper:
    """Has each pool's `maintain()` called when it says that it is due.

    Thread-safe. The thread starts with the first pool that has a connection,
    and holds no pool alive; when the last one is gone, it ends.
    """

    def __init__(self, begins: Callable[[], None] | None = None) -> None:
        """`begins` is called in the thread when that starts: there can be threads."""
        self._begins = begins
        # Guards _pools, closing and _thread. Handlers of signals may come here, too.
        self._lock = threading.RLock()
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        # Closed ones with leases out. Whoever forgets such a lease forgets its
        # pool with it, and then nobody would close the connection.
        self.closing: set[Pool] = set()
        self._thread: threading.Thread | None = None
        self._told = False  # that no thread can be started
        # Pools to look at, and chores that have ended, with the seconds until the next
        # time; None to wake the thread. SimpleQueue, because finalisers put into it,
        # wherever they run.
        self._inbox: queue.SimpleQueue[
            weakref.ref[Pool] | tuple[Chore, float] | None
        ] = queue.SimpleQueue()
        # The thread's own: the whole upkeep of each pool, and the part that callers may
        # be waiting for, which is done beside the whole if that takes its time.
        self._chores: dict[weakref.ref[Pool], tuple[Chore, Chore]] = {}
        self._next_at = float("inf")  # nothing is due before
        #: Threads for what may take its time.
        self.workers = Workers("djpool-upkeep")
        #: A thread for what takes a moment, and need not keep anybody waiting.
        self.aside = Aside()
        self._forked = False  # this is a child, and the pools are its parent's
        self._ends = False

    def watch(self, pool: Pool) -> None:
        """Look after `pool` from now on. Does nothing the second time.

        If no thread can be started, the next call tries again. Never raises.
        """
        told = ""
        with self._lock:
            known = pool in self._pools
            alive = self._thread is not None and self._thread.is_alive()
            if known and alive:
                return
            self._pools.add(pool)
            if not (alive or self._ends):
                told = self._start_locked()
        if told:
            logger.warning(
                "no thread for the upkeep of pools, which comes later: %s", told
            )
        self.nudge(pool.reference)

    def _start_locked(self) -> str:
        """Start the thread; what to say where that cannot be."""
        thread = threading.Thread(target=self._run, name="djpool-keeper", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            # The process has too many, or has come to its end.
            news = not (self._told or is_the_end(error))
            self._told = True
            return str(error) if news else ""
        self._told = False
        return ""

    def see_off(self, pool: Pool) -> None:
        """Keep a closed pool until its last connection is closed, too."""
        with self._lock:
            if not pool.empty:
                self.closing.add(pool)

    def nudge(self, pool: weakref.ref[Pool]) -> None:
        """Look at a pool now. May be called from a finaliser."""
        # Where there can be no thread, nobody would take it out. One that begins later
        # looks at every pool.
        if self._thread is not None:
            self._inbox.put(pool)

    def stop(self) -> None:
        """Begin nothing any more: the process ends, whatever its threads do."""
        self._ends = True

    def end(self, patience: float) -> None:
        """End the threads, after what they do now; wait for so many seconds at most.

        What they might run beside the interpreter's end can bring it to a crash.
        """
        self.stop()
        threads = [*self.workers.end(), self._thread, self.aside.end()]
        self._inbox.put(None)
        join([each for each in threads if each], patience)

    def after_fork(self) -> None:
        """In a forked child: look after nothing any more. Takes no lock."""
        self._forked = True
        self.workers.after_fork()
        self.aside.after_fork()

    # -- in the keeper's thread --------------------------------------------------------

    def _run(self) -> None:
        in_a_serving_thread()
        if self._begins is not None:
            self._begins()
        with self._lock:
            references = self._references()
        for reference in references:
            self._inbox.put(reference)
        while self._goes_on():
            now = time.monotonic()
            if now >= self._next_at:
                self._look_round(now)
            self._sleep(self._next_at - now)
            # Threads are gone after a fork, but greenlets in their place go on. They
            # had better not end: Python's threading has forgotten them.
            while self._forked:
                self._inbox.get()
        self.aside.end()  # no pool is left that could need it

    def _references(self) -> list[weakref.ref[Pool]]:
        return [pool.reference for pool in self._pools]

    def _goes_on(self) -> bool:
        with self._lock:
            if not self._ends and (
                self._pools
                or any(each.runs for both in self._chores.values() for each in both)
            ):
                return True
            self._thread = None
            self._chores.clear()
            return False

    def _sleep(self, seconds: float) -> None:
        """Sleep until something has come, or for so long; see to what has come."""
        try:
            # Never with a timeout of 0: Python 3.10 may wait for ever then.
            news = self._inbox.get(seconds > 0, min(max(seconds, 0.0), LONGEST))
            while True:
                if isinstance(news, tuple):
                    self._done(*news)
                elif news is not None:
                    self._look_at(news)
                news = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _look_round(self, now: float) -> None:
        """Begin what is due, forget pools that are no more, find the next date."""
        self._next_at = float("inf")
        for reference, both in list(self._chores.items()):
            if reference() not in self._pools and not any(each.runs for each in both):
                del self._chores[reference]
                continue
            for chore in both:
                if not chore.runs:
                    if chore.due <= now:
                        self._begin(chore)
                    else:
                        self._next_at = min(self._next_at, chore.due)

    def _look_at(self, reference: weakref.ref[Pool]) -> None:
        if reference() not in self._pools:
            self._next_at = 0.0  # forget it
            return
        both = self._chores.get(reference)
        if both is None:
            both = (
                Chore(reference, "maintain", 0.0),
                Chore(reference, "reclaim", LONGEST),
            )
            self._chores[reference] = both
        whole, part = both
        if whole.runs:
            whole.again = True
            part.due = min(part.due, time.monotonic() + SLOW)
            self._next_at = min(self._next_at, part.due)
        else:
            self._begin(whole)

    def _begin(self, chore: Chore) -> None:
        if self._ends:
            return
        if chore.runs:
            chore.again = True
            return
        chore.runs, chore.again = True, False
        try:
            self.workers.do(functools.partial(self._do, chore))
        except RuntimeError:  # the process has too many threads, or comes to its end
            self._done(chore, NO_THREAD)

    def _done(self, chore: Chore, seconds: float) -> None:
        chore.runs = False
        if chore.pool() not in self._pools:
            self._next_at = 0.0  # forget it
        elif chore.again:
            self._begin(chore)
        else:
            chore.due = time.monotonic() + seconds
            self._next_at = min(self._next_at, chore.due)

    # -- in other threads --------------------------------------------------------------

    def _do(self, chore: Chore) -> None:
        seconds = SURPRISED
        try:
            pool = chore.pool()
            if pool is not None:
                seconds = self._maintain(pool, chore.name)
            teller.clean_up()
        finally:
            pool = None  # or the keeper's next look would find it alive
            self._inbox.put((chore, seconds))

    def _maintain(self, pool: Pool, name: str) -> float:
        seconds: float | None = SURPRISED
        try:
            seconds = getattr(pool, name)()
        except Exception:
            # The pool works without it.
            logger.exception("pool %r: upkeep failed", pool.options.name)
        with self._lock:
            if pool.closed and pool.empty:
                self._pools.discard(pool)
                self.closing.discard(pool)
                # Somebody may refer to it for long, and what its upkeep said last would
                # be due for all that time.
                return LONGEST
            if pool.closed:
                self.closing.add(pool)
        return LONGEST if seconds is None else seconds
