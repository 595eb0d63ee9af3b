"""A pool's open connections: how each is opened, looked at, laid down and closed.

Who gets one, and when, is not decided here. What is done to a slot is done by
whoever has it: a caller on the way in or out, or the upkeep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypedDict

from djpool.core.driver import Driver, NativePool
from djpool.core.errors import without_frames
from djpool.core.gate import Gate
from djpool.core.options import PoolOptions
from djpool.core.outage import Outage
from djpool.core.slot import EVICTED, Entry, Slot
from djpool.core.stats import CloseCause, Counters, PoolStats

logger = logging.getLogger("djpool.pool")

# The share of max_lifetime by which connections grow old earlier, at random, so
# that those opened together are not all replaced at once.
JITTER = 0.25
# Idle for so long, what is of former settings is closed. Until then it serves
# whoever has them still, and is there if they come back as after a test.
LINGER = 1.0
# After a login was refused, before it is tried again with what is in force by then.
RENEWAL_PAUSE = 0.1


class _Gauges(TypedDict):
    """Numbers of one moment, by their names in `PoolStats`."""

    min_size: int
    max_size: int
    size: int
    idle: int
    in_use: int
    opening: int
    waiting: int


class Connections:
    """What a pool does to its connections, over a driver and perhaps its own pool.

    Thread-safe. No lock is held while the driver or the native pool is called.
    """

    def __init__(
        self,
        options: PoolOptions,
        driver: Driver,
        native: NativePool | None,
        gate: Gate,
        *,
        alias: str,
        clock: Callable[[], float],
        renew: Callable[[], None] | None,
        watch: Callable[[], None],
        nudge: Callable[[], None],
    ) -> None:
        """`watch` is called when there is one, `nudge` when there is upkeep to do."""
        self.options = options
        self.driver = driver
        self.native = native
        self.gate = gate
        self.alias = alias
        self.clock = clock
        self.nudge = nudge
        self.watch = watch
        self._renew = renew
        self.outage = Outage()
        self.books: set[Entry] = set()  # guarded by the gate's lock
        #: When an idle connection may be too old.
        self.sweep_at = 0.0
        #: When the settings that these are for were left; None if they are in force.
        self.left_at: float | None = None
        self._min_size = gate.min_size  # of the time before
        #: The driver's look at the socket; None if it has only the default one.
        self.peek = own_method(driver, "peek")
        #: Idle for longer than that, a connection is pinged before it is lent.
        self.check_after = _check_after(options)
        #: Whether it is kept in mind where each connection was borrowed.
        self.traces = options.leak_threshold is not None
        #: Whether sessions are brought back to how they began.
        self.resets = options.reset != "never"

    @property
    def name(self) -> str:
        """How messages call the pool."""
        return self.options.name

    # -- former settings ----------------------------------------------------------

    @property
    def max_idle(self) -> float | None:
        """Idle for longer than that, a connection above `min_size` is closed."""
        longest = self.options.max_idle
        if self.left_at is None:
            return longest
        return LINGER if longest is None else min(longest, LINGER)

    def leave_locked(self) -> None:
        """These settings are no more: keep nothing open that nobody uses."""
        if self.left_at is None:
            self.left_at = self.clock()
            self._min_size, self.gate.min_size = self.gate.min_size, 0
            self.sweep_at = 0.0

    def return_locked(self) -> None:
        """The settings are in force again."""
        if self.left_at is not None:
            self.left_at = None
            self.gate.min_size = self._min_size

    def succeed_locked(self, former: Connections) -> None:
        """What `former` was told while it ran holds for these, which come after it.

        Other sizes only if the settings do not say other ones.
        """
        gate, mine, its = self.gate, self.options, former.options
        capacity = None if self.native is None else self.native.capacity
        if (mine.min_size, mine.max_size) == (its.min_size, its.max_size) and (
            capacity is None or former.gate.max_size <= capacity
        ):
            left = former.left_at is not None
            gate.min_size = former._min_size if left else former.gate.min_size
            gate.max_size = former.gate.max_size
        if former.gate.suspended:
            gate.barred = True

    def books_of_all(self) -> list[Entry]:
        """What is open of this alias, with former settings, too. Ask under the lock."""
        members = self.gate.family.members or (self,)
        return [entry for each in members for entry in list(each.books)]

    def shed(self) -> bool:
        """Close the connection that was idle longest; whether there was one."""
        try:
            slot = self.gate.free.popleft()
        except IndexError:
            return False
        try:
            self.take_native(slot)
            self.discard(slot, CloseCause.IDLE)
        except BaseException:
            self.abandon(slot)
            raise
        return True

    # -- opening ----------------------------------------------------------------

    def open(self, slot: Slot, deadline: float, *, spare: bool = False) -> None:
        """Open a connection for a slot that has the right to. May block.

        What is `spare` is for nobody yet, and the caller lays it down at once. What the
        driver raises is passed on, and told to the next in the outage.
        """
        started = self.clock()
        try:
            entry = self._connect(slot, deadline)
        except Exception as error:
            self.gate.back_off(self.outage.failed(without_frames(error)))
            raise
        with self.gate.lock:
            self.books.add(entry)
        if self.native is not None:
            self.native.join(slot)
        self.gate.opened(slot, entry.opened_at - started, spare=spare)
        if self.outage.failures:
            self._tell_of_recovery()
        self.watch()

    def _connect(self, slot: Slot, deadline: float) -> Entry:
        try:
            return self._try_to_connect(slot, deadline)
        except Exception as error:
            if self._renew is None or not self.driver.refuses_login(error):
                raise
            self._renew()
            logger.info("pool %r: the login was refused, and is renewed", self.name)
            # Whoever changes a password does so in two places, one after the other.
            time.sleep(RENEWAL_PAUSE)
            if self.clock() >= deadline:
                raise
        return self._try_to_connect(slot, deadline)

    def _try_to_connect(self, slot: Slot, deadline: float) -> Entry:
        connection = None
        try:
            connection = self.driver.connect(deadline - self.clock())
            if self.resets:
                self.driver.remember(connection)
            now = self.clock()
            entry = Entry(connection, now, self._expiry(now))
            entry.on_orphaned = self.nudge
            slot.entry = entry
        except BaseException as error:
            if connection is not None:
                with contextlib.suppress(Exception):  # it is the other one that counts
                    self.driver.close(connection)
            if isinstance(error, Exception):
                with self.gate.lock:
                    self.gate.counters.open_errors += 1
            raise
        return entry

    def _expiry(self, now: float) -> float:
        lifetime = self.options.max_lifetime
        if lifetime is None:
            return float("inf")
        return now + lifetime * (1.0 - JITTER * random.random())  # noqa: S311 (spread only)

    def _tell_of_recovery(self) -> None:
        self.nudge()  # there may be connections to open, up to min_size
        if ended := self.outage.end():
            logger.warning(
                "pool %r: connections can be opened again, after %.1f s and %d "
                "failed attempts",
                self.name,
                ended.seconds,
                ended.failures,
            )

    # -- looking ----------------------------------------------------------------

    def fault(self, entry: Entry, deadline: float) -> CloseCause | None:
        """Why a connection that was idle until now must not be lent. May block."""
        now = self.clock()
        if (cause := self.age(entry)) is not None:
            return cause
        quiet = self._looks_alive(entry)
        fresh = now - entry.quiet_since <= self.check_after and not entry.suspect
        checks = self.options.check is not False
        if quiet and (fresh or not checks):
            entry.suspect = False  # where nothing is pinged, the look was all
            return None
        patience = min(self.options.check_timeout, deadline - now)
        if checks and self.ping(entry, patience):
            return None
        # What killed this one may have killed them all: no caller is to find the next.
        if quiet:
            self.suspect_all()
        else:
            self.sweep(self._killed_too)
        return CloseCause.BROKEN

    def _looks_alive(self, entry: Entry) -> bool:
        return self.peek is None or self.peek(entry.connection)

    def ping(self, entry: Entry, timeout: float) -> bool:
        """Whether the server answers in `timeout` seconds. May block."""
        try:
            self.driver.ping(entry.connection, max(timeout, 0.0))
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info("pool %r: an idle connection is dead: %s", self.name, error)
            alive = False
        else:
            entry.suspect = False
            entry.answered_at = self.clock()
            alive = True
        with self.gate.lock:
            self.gate.counters.checks += 1
            self.gate.counters.check_failures += not alive
        return alive

    def age(self, entry: Entry) -> CloseCause | None:
        """Why a connection that was idle until now is too old."""
        now = self.clock()
        if now >= entry.expires_at:
            return _age_cause(entry)
        max_idle, gate = self.max_idle, self.gate
        if max_idle is None or now - entry.idle_since < max_idle:
            return None
        return CloseCause.IDLE if gate.size > gate.min_size else None

    # -- all that are idle --------------------------------------------------------

    def sweep(self, judge: Callable[[Entry], CloseCause | None]) -> None:
        """Take every idle connection out, close those judged, lay back the rest."""
        taken: list[Slot] = []
        mark = object()
        try:
            self._take_all(taken, mark)
            # The longest idle first: so they lie in the order in which they were, and
            # what is left for min_size are those that the upkeep keeps alive.
            taken.reverse()
            taken.sort(key=lambda slot: slot.entry.idle_since if slot.entry else 0.0)
            for slot in taken:
                entry = slot.entry
                cause = CloseCause.BROKEN if entry is None else judge(entry)
                if cause is None:
                    self.put_aside(slot)
                else:
                    self.discard(slot, cause)
        except BaseException:
            for slot in taken:
                self.abandon_if(slot, mark)
            taken.clear()  # or the exception would keep what is others' by now
            raise

    def _take_all(self, taken: list[Slot], mark: object) -> None:
        # A loop with a function of its own: see `djpool.core.slot`.
        while True:
            try:
                slot = self.gate.free.pop()
            except IndexError:
                return
            slot.returning = mark
            taken.append(slot)
            self.take_native(slot)

    def _killed_too(self, entry: Entry) -> CloseCause | None:
        return None if self._looks_alive(entry) else CloseCause.BROKEN

    def suspect_all(self) -> None:
        """One that looked alive was not: have each pinged before its next lease."""
        with self.gate.lock:
            for entry in self.books:
                entry.suspect = True

    def drain(self) -> None:
        """Replace every connection: idle ones at once, others when they come back."""
        with self.gate.lock:
            self.evict_locked()
        self.sweep(self.age)

    def evict_locked(self) -> int:
        """Have all that are open now replaced; how many these are."""
        for entry in self.books:
            entry.expires_at = EVICTED
        return len(self.books)

    # -- laying down, closing -----------------------------------------------------

    def take_native(self, slot: Slot) -> None:
        """Have the native pool, where there is one, lend what a free slot has.

        Afterwards the slot has no connection if the native pool has lost it.
        """
        if self.native is not None and not slot.opening:
            try:
                self.native.take(slot)
            except LookupError:
                self.close(slot, CloseCause.BROKEN)
            except BaseException:
                self.abandon(slot)
                raise

    def put_aside(self, slot: Slot) -> None:
        """Lay down a connection that was out for upkeep only."""
        entry: Entry = slot.entry  # type: ignore[assignment]  # looked at before
        if self.gate.tight:
            self.discard(slot, self.surplus_cause(entry))
        else:
            self.lay_down(slot)

    def lay_down(self, slot: Slot) -> None:
        """The connection is idle: for the next caller."""
        if self.native is not None:
            try:
                self.native.give(slot)
            except Exception:
                logger.exception("pool %r: the native pool took none back", self.name)
                self.discard(slot, CloseCause.BROKEN)
                return
            except BaseException:
                self.abandon(slot)
                raise
        self.gate.lay_down(slot)
        self.leave_no_surplus()

    def leave_no_surplus(self) -> None:
        """Look again, after a connection was laid down, whether it is surplus.

        The pool may have been closed, or have become smaller, since the look before.
        """
        if self.gate.tight:
            self.sweep(self.age)

    def abandon(self, slot: Slot) -> None:
        """An exception struck on the slot's way: have it closed by another thread.

        Does nothing for a slot that does not count any more.
        """
        entry = slot.entry
        if entry is not None and slot.on_lost is not None:
            entry.calls += 1
            if entry.owner is not None:
                self.end_use(entry, self.clock())
        slot.lose()

    def abandon_if(self, slot: Slot, mark: object) -> None:
        """Do so if nobody has taken the slot over since it was given this mark."""
        if slot.returning is mark:
            self.abandon(slot)

    def discard(self, slot: Slot, cause: CloseCause) -> None:
        """Close the connection, then let the next caller in its place. Never raises.

        In this order, so that the server never sees more than `max_size`.
        """
        entry = slot.entry
        if entry is not None and entry.owner is not None:
            self.end_use(entry, self.clock())
        self.close(slot, cause)
        self.gate.remove(slot)
        gate = self.gate
        if gate.closed or gate.family.several or (entry and gate.size < gate.min_size):
            self.nudge()  # the keeper waits for the last one, or opens another

    def close(self, slot: Slot, cause: CloseCause) -> None:
        """Close the connection, whose slot stays with the caller. Never raises."""
        entry = slot.entry
        if entry is None:
            return  # closed already, or never opened
        connection = entry.connection
        try:
            self.driver.close(connection)
        except Exception as error:  # noqa: BLE001 (it is gone either way)
            logger.debug("pool %r: while closing: %s", self.name, error)
            # Perhaps of a time limit, and then it is open still.
            with contextlib.suppress(Exception):
                self.driver.close(connection)
        if self.native is not None:
            try:
                self.native.drop(connection)
            except Exception as error:  # noqa: BLE001 (it was interrupted when it had it)
                logger.debug("pool %r: while striking off: %s", self.name, error)
        with self.gate.lock:
            counters = self.gate.counters
            counters.closed[cause.value] += 1
            counters.acquired += entry.direct
            counters.uses.absorb(entry.uses)
            self.books.discard(entry)
            entry.connection = slot.entry = None

    def surplus_cause(self, entry: Entry) -> CloseCause:
        """Why one that comes back is not kept."""
        if self.gate.closed:
            return CloseCause.SHUTDOWN
        if self.clock() >= entry.expires_at:
            return _age_cause(entry)
        return CloseCause.IDLE

    def end_use(self, entry: Entry, now: float) -> None:
        """Nobody has the connection any more."""
        entry.uses.add(now - entry.acquired_at)
        owner, entry.owner = entry.owner, None
        if owner is not None:
            owner.holding.discard(entry)
        entry.lease = None
        entry.forsaken = False
        if self.traces:
            if entry.leaked:
                self._tell_of_the_end(entry, now)
            entry.stack = entry.about = None

    def _tell_of_the_end(self, entry: Entry, now: float) -> None:
        entry.leaked = False
        logger.warning(
            "pool %r: the connection that was held for longer than leak_threshold "
            "came back after %.1f s",
            self.name,
            now - entry.acquired_at,
        )

    # -- figures --------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The figures of the alias, all of one moment. Never waits for a database.

        These are the pool's, and those of the pools of former settings.
        """
        family = self.gate.family
        counted: list[Counters] = []
        entries: list[Entry] = []
        # Copied here, and summed below: the collector may run wherever something is
        # made, and the lock is not to be held meanwhile.
        with family.lock:
            for each in family.members:
                counted.append(each.gate.counters.copy())
                entries += each.books
            head, gauges = self._gauges_locked()
            counters = family.past.copy()
        for more in counted:
            counters.absorb(more)
        acquired, uses = counters.acquired, counters.uses
        for entry in entries:
            acquired += entry.direct
            uses.absorb(entry.uses)
        # Only who had to wait was timed; for the others it took no time.
        at_once = acquired - sum(counters.waits.counts)
        waits = counters.waits.snapshot(at_once)
        opens = counters.opens.snapshot()
        return PoolStats(
            name=head.name,
            alias=head.alias,
            vendor=head.driver.vendor,
            implementation="fallback" if head.native is None else "native",
            pid=os.getpid(),
            **gauges,
            acquired_total=acquired,
            waited_total=counters.waited,
            timeouts_total=counters.timeouts,
            rejected_total=counters.rejected,
            opened_total=counters.opened,
            open_errors_total=counters.open_errors,
            checks_total=counters.checks,
            check_failures_total=counters.check_failures,
            resets_total=counters.resets,
            reclaimed_total=counters.reclaimed,
            leaks_total=counters.leaks,
            closed_total=dict(counters.closed),
            wait_seconds_total=waits.sum,
            use_seconds_total=uses.sum,
            open_seconds_total=opens.sum,
            wait_seconds=waits,
            use_seconds=uses.snapshot(),
            open_seconds=opens,
        )

    def stats_since(self, recent: PoolStats) -> PoolStats:
        """Return `recent`, with the gauges and the refusals of this moment.

        Unlike `stats()`, this does not look at each connection.
        """
        family = self.gate.family
        with family.lock:
            timeouts, rejected = family.past.timeouts, family.past.rejected
            for each in family.members:
                timeouts += each.gate.counters.timeouts
                rejected += each.gate.counters.rejected
            _head, gauges = self._gauges_locked()
        return replace(
            recent, **gauges, timeouts_total=timeouts, rejected_total=rejected
        )

    def _gauges_locked(self) -> tuple[Connections, _Gauges]:
        """Whose settings are in force, and the alias's numbers of this moment."""
        idle = waiting = size = opening = 0
        members = self.gate.family.members  # none if all have gone
        for each in members:
            gate = each.gate
            idle += len(gate.free)
            waiting += len(gate.waiters)
            size += gate.size
            opening += gate.opening
        head = members[0] if members else self
        return head, {
            "min_size": head.gate.min_size,
            "max_size": head.gate.max_size,
            "size": size,
            "idle": idle,
            "in_use": size - idle - opening,
            "opening": opening,
            "waiting": waiting,
        }


def own_method(driver: Driver, name: str) -> Callable[..., Any] | None:
    """A driver's method, or None if it only has the default one."""
    if getattr(type(driver), name) is getattr(Driver, name):
        return None
    method: Callable[..., Any] = getattr(driver, name)
    return method


def _check_after(options: PoolOptions) -> float:
    if options.check is True:
        return -1.0  # no time is short enough: ping every time
    return options.check_after if options.check == "auto" else float("inf")


def _age_cause(entry: Entry) -> CloseCause:
    evicted = entry.expires_at == EVICTED
    return CloseCause.EVICTED if evicted else CloseCause.LIFETIME
