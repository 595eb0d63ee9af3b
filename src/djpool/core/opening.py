"""How a connection is opened: by the caller, or beside it while it waits for any."""

from __future__ import annotations

import logging
import threading
from functools import partial

from djpool.core.connections import Connections
from djpool.core.errors import in_one_line, without_frames
from djpool.core.gate import Waiter
from djpool.core.handing import hand_over
from djpool.core.slot import Slot
from djpool.core.stats import CloseCause
from djpool.core.telling import teller
from djpool.core.workers import Workers

logger = logging.getLogger("djpool.pool")

# A connect that fails as late as this before its deadline fails because of that.
OUT_OF_TIME = 0.05


class Opener:
    """Opens connections for slots that have the right to. Thread-safe."""

    def __init__(self, connections: Connections, workers: Workers | None) -> None:
        self._connections = connections
        self._gate = connections.gate
        self._workers = workers

    def open_spare(self, slot: Slot, deadline: float) -> None:
        """Open a connection for whoever is first in the queue, or for later. May block.

        What the driver raises is passed on, and the slot is gone then.
        """
        try:
            self._connections.open(slot, deadline, spare=True)
        except BaseException:
            self._connections.discard(slot, CloseCause.BROKEN)
            raise
        self._connections.put_aside(slot)

    def open_beside(self, slot: Slot, deadline: float, waiter: Waiter) -> bool:
        """Have another thread open it, for whoever is first in the queue then.

        `waiter`, who had the right, is told if that fails while it waits. False if no
        thread can be had: then the right is the caller's as before.
        """
        work = partial(self._open_for, deadline, waiter)
        return hand_over(slot, self._workers, work, self._connections.abandon)

    def _open_for(self, deadline: float, waiter: Waiter, slot: Slot) -> None:
        try:
            self.open_spare(slot, deadline)
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            told = self._gate.dismiss(waiter, error)
            # A server that is full is asked again, and says so to who gets none.
            if not (told or self._connections.driver.is_full(error)):
                self.share(error, deadline)
        finally:
            teller.clean_up()

    def share(self, error: Exception, deadline: float) -> None:
        """A connect failed: tell of it, in the log and to those who wait for it."""
        outage = self._connections.outage
        # When the process ends, drivers close what they have before djpool does.
        ends = self._gate.closed or not threading.main_thread().is_alive()
        if not ends and outage.is_news():
            logger.warning(
                "pool %r: no connection can be opened: %s",
                self._connections.name,
                in_one_line(error),
            )
        # One that fails may have had bad luck; a second one did not. And who ran out of
        # time says nothing about the time that others have.
        late = self._connections.clock() >= deadline - OUT_OF_TIME
        if outage.failures > 1 and not late:
            self._gate.share(without_frames(error))
