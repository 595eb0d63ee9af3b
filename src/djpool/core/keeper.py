"""Upkeep: one daemon thread for all pools of a process.

It closes what nobody has used for too long, keeps `min_size` connections open,
and takes back what was lost. A pool works without it; only these come later.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING

from djpool.core.aside import Aside
from djpool.core.options import LONGEST
from djpool.core.telling import in_a_serving_thread, teller

if TYPE_CHECKING:
    from djpool.core.pool import Pool

logger = logging.getLogger("djpool.pool")


class Keeper:
    """Calls each pool's `maintain()` when it says that it is due.

    Thread-safe. The thread starts with the first pool that has a connection,
    and holds no pool alive; when the last one is gone, it ends.
    """

    def __init__(self) -> None:
        # Guards _pools, closing and _thread. Handlers of signals may come here, too.
        self._lock = threading.RLock()
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        # Closed ones with leases out. Whoever forgets such a lease forgets its
        # pool with it, and then nobody would close the connection.
        self.closing: set[Pool] = set()
        self._thread: threading.Thread | None = None
        # SimpleQueue, because finalisers put into it, wherever they run.
        self._inbox: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: A thread for what takes a moment, and need not keep anybody waiting.
        self.aside = Aside()
        self._forked = False  # this is a child, and the pools are its parent's

    def watch(self, pool: Pool) -> None:
        """Look after `pool` from now on. Does nothing the second time."""
        with self._lock:
            known = pool in self._pools
            alive = self._thread is not None and self._thread.is_alive()
            if known and alive:
                return
            self._pools.add(pool)
            if not alive:
                self._thread = threading.Thread(
                    target=self._run, name="djpool-keeper", daemon=True
                )
                self._thread.start()
        self.nudge()

    def see_off(self, pool: Pool) -> None:
        """Keep a closed pool until its last connection is closed, too."""
        with self._lock:
            if not pool.empty:
                self.closing.add(pool)

    def nudge(self) -> None:
        """Look at all pools now. May be called from a finaliser."""
        self._inbox.put(None)

    def after_fork(self) -> None:
        """In a forked child: look after nothing any more. Takes no lock."""
        self._forked = True
        self.aside.after_fork()

    def _run(self) -> None:
        in_a_serving_thread()
        due: weakref.WeakKeyDictionary[Pool, float] = weakref.WeakKeyDictionary()
        nudged = True
        while True:
            with self._lock:
                pools = list(self._pools)
                if not pools:
                    self._thread = None
                    break
            for pool in pools:
                if nudged or due.get(pool, 0.0) <= time.monotonic():
                    due[pool] = self._maintain(pool)
            del pool
            pools.clear()  # or this thread would keep them alive while it waits
            if not self._pools:
                continue  # the last one was closed: nobody may nudge any more
            wait = min(due.values(), default=0.0) - time.monotonic()
            nudged = self._sleep(min(max(wait, 0.0), LONGEST))
            # Threads are gone after a fork, but greenlets in their place go on. They
            # had better not end: Python's threading has forgotten them.
            while self._forked:
                self._inbox.get()
        self.aside.end()  # no pool is left that could need it

    def _maintain(self, pool: Pool) -> float:
        try:
            seconds = pool.maintain()
        except Exception:
            # The thread must outlive any surprise; the pool works without it.
            logger.exception("pool %r: upkeep failed", pool.options.name)
            seconds = 60.0
        teller.clean_up()
        with self._lock:
            if pool.closed and pool.empty:
                self._pools.discard(pool)
                self.closing.discard(pool)
                # Somebody may refer to it for long, and what its upkeep said last would
                # be due for all that time.
                return LONGEST
            if pool.closed:
                self.closing.add(pool)
        return LONGEST if seconds is None else time.monotonic() + seconds

    def _sleep(self, seconds: float) -> bool:
        """Sleep until nudged, or for so long. Whether it was nudged."""
        try:
            self._inbox.get(timeout=seconds)
        except queue.Empty:
            return False
        while not self._inbox.empty():  # many nudges are one
            self._inbox.get()
        return True
