"""The way back: from the end of a lease to a slot for the next caller."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from djpool.core.aside import Aside
from djpool.core.collecting import COLLECTING, is_collecting
from djpool.core.connections import Connections, own_method
from djpool.core.session import Change, Irreparable
from djpool.core.slot import Entry, Slot
from djpool.core.stats import CloseCause

logger = logging.getLogger("djpool.pool")


# What ended where nothing may be waited for, and is taken back later.
Postponed = deque[Slot]


class Checkin:
    """Takes connections back as they were in the beginning, or closes them.

    Thread-safe. Nothing here raises into whoever ends a lease.
    """

    def __init__(
        self, connections: Connections, aside: Aside | None, postponed: Postponed
    ) -> None:
        """Without a thread `aside`, whoever gives a connection back restores it.

        On `postponed` is put what ended in a finaliser, or in the handler of a signal
        that has interrupted the gate; the upkeep takes it back.
        """
        self._postponed = postponed
        self._connections = connections
        self._aside = aside
        self._driver = connections.driver
        self._resets = connections.resets
        self._resets_always = connections.options.reset == "always"
        # Seconds, for a rollback and for restoring a session each.
        self._patience = connections.options.check_timeout
        # Looked up once, for the hot path.
        self._gate = connections.gate
        self._free, self._waiters = self._gate.free, self._gate.waiters
        self._clock = connections.clock
        self._at_rest = own_method(connections.driver, "at_rest")
        self._stacks = connections.native is None

    def take_back(self, slot: Slot) -> None:
        """A lease has ended; its slot is for the next caller."""
        if slot.on_lost is None:
            return  # its finaliser has run, and reported it
        if self._gate.is_inside() or (COLLECTING and is_collecting()):
            self._postponed.append(slot.moved())
            self._connections.nudge()
            return
        mark = slot.returning = object()
        try:
            self._take_back(slot)
        except BaseException:
            # If the mark is another one, the slot is the next caller's already.
            if slot.returning is mark:
                self._connections.abandon(slot)
            raise

    def is_in_order(self, entry: Entry) -> bool:
        """Whether it could be lent again as it is, with nothing done to it."""
        return (
            not (entry.calls or entry.changed or entry.suspect or self._gate.tight)
            and self._clock() < entry.expires_at
            and (self._at_rest is None or self._at_rest(entry.connection))
        )

    def _take_back(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was leased
        if entry.calls:
            logger.info(
                "pool %r: a connection is closed, because a call of the driver was "
                "interrupted on it",
                self._connections.name,
            )
            if entry.suspect:  # the driver itself gave it up
                self._connections.suspect_all()
            self._connections.discard(slot, CloseCause.BROKEN)
            return
        try:
            if self._at_rest is not None and not self._at_rest(entry.connection):
                self._call(entry, self._driver.tidy)
            elif not self._resets and entry.changed & Change.UNKNOWN:
                self._call(entry, self._driver.prove)
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info("pool %r: beyond repair: %s", self._connections.name, error)
            self._connections.suspect_all()
            self._connections.discard(slot, CloseCause.BROKEN)
            return
        if self._resets_always or entry.changed:
            self._restore(slot, entry)
        else:
            self._come_back(slot, entry)

    def _call(self, entry: Entry, step: Callable[..., None], *args: Any) -> None:
        """Have the driver do something that must end before another lease begins."""
        entry.calls += 1  # until it is known to have ended
        step(entry.connection, *args, self._patience)
        entry.calls -= 1

    def _come_back(self, slot: Slot, entry: Entry) -> None:
        """The session is as it was in the beginning: its slot is for the next one."""
        now = self._clock()
        if now >= entry.expires_at or self._gate.tight:
            cause = self._connections.surplus_cause(entry)
            self._connections.discard(slot, cause)
            return
        entry.idle_since = now
        if entry.owner is not None:
            self._connections.end_use(entry, now)
        if self._stacks:
            slot.returning = None
            self._free.append(slot)
            if self._waiters:
                self._gate.serve()
            if self._gate.tight:
                self._connections.leave_no_surplus()
        else:
            self._connections.lay_down(slot)

    # -- sessions that were changed -------------------------------------------------

    def _restore(self, slot: Slot, entry: Entry) -> None:
        """Bring the session back, in another thread if that hurts nobody."""
        if entry.changed & Change.TYPES:
            self._connections.drain()
        if not self._resets or self._clock() >= entry.expires_at or self._gate.tight:
            entry.changed = 0
            self._come_back(slot, entry)
            return
        # For a lock, others may be waiting already.
        if self._aside is not None and not entry.changed & Change.LOCKS:
            self._connections.end_use(entry, self._clock())
            self._gate.mend(slot)
            if self._hand_over(slot, self._aside):
                return
            self._gate.mended(slot)
        self._restore_now(slot)

    def _hand_over(self, slot: Slot, aside: Aside) -> bool:
        """Have the other thread restore it; False if that one is busy."""
        mark, slot.returning = slot.returning, None
        # The thread that takes it from here has it, also if this one is interrupted.
        handed, done = [slot], False
        try:
            done = aside.do(functools.partial(self._restore_aside, handed))
        finally:
            if not done and _taken_from(handed) is not None:
                slot.returning = mark
        return done

    def _restore_aside(self, handed: list[Slot]) -> None:
        slot = _taken_from(handed)
        if slot is None:
            return
        try:
            self._restore_now(slot)
        finally:
            self._gate.mended(slot)

    def _restore_now(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was leased
        change = Change(entry.changed)
        try:
            if change & Change.BEYOND:
                raise Irreparable("it did what cannot be undone")
            self._call(entry, self._driver.restore, change)
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info(
                "pool %r: a session is closed, since it cannot be restored: %s",
                self._connections.name,
                error,
            )
            self._connections.discard(slot, CloseCause.RESET)
            return
        with self._gate.lock:
            self._gate.counters.resets += 1
        entry.changed = 0
        self._come_back(slot, entry)


def _taken_from(handed: list[Slot]) -> Slot | None:
    try:
        return handed.pop()
    except IndexError:
        return None
