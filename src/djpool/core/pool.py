"""The pool: one policy for every database, over one driver."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

from djpool.core.driver import Driver, NativePool, check_capacity
from djpool.core.errors import (
    CORE_ERRORS,
    ErrorKinds,
    OptionsError,
    PoolError,
    without_frames,
)
from djpool.core.gate import Gate, Refused
from djpool.core.holders import borrower_stack, describe_holder, describe_holders
from djpool.core.keeper import Keeper
from djpool.core.lease import Lease
from djpool.core.options import PoolOptions
from djpool.core.outage import Outage
from djpool.core.owner import current_owner
from djpool.core.session import Change, Irreparable
from djpool.core.slot import EVICTED, Entry, Slot
from djpool.core.stats import CloseCause, Durations, PoolStats

logger = logging.getLogger("djpool.pool")

# The share of max_lifetime by which connections grow old earlier, at random, so
# that those opened together are not all replaced at once.
JITTER = 0.25
# After failing to open one up to min_size: the first and the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# After all connections were replaced because their server stepped down: seconds in
# which the same costs only the connection that meets it.
EVICTION_PAUSE = 10.0
# How long a caller waits for a server that is full, or about to start, to take one
# more; after that it is told so.
FULL_PATIENCE = 2.0
# A connect that fails as late as this before its deadline fails because of that.
OUT_OF_TIME = 0.05
# After a login was refused, before it is tried again with what is in force by then.
RENEWAL_PAUSE = 0.1


# Seconds between two statements of one request, if it does nothing else.
BETWEEN_STATEMENTS = 0.01
# Seconds until the next look at a lease that is over but still in use.
IN_USE_PAUSE, SHARED_PAUSE = 0.05, 1.0


@final
class Pool:
    """Lends connections to one database, each to one caller at a time.

    Thread-safe: any thread may call any public method at any time. No lock is
    held while connecting, pinging, closing, logging or calling a driver.

    There are never more than `max_size` connections, counting those being
    opened and closed. Callers are served in the order in which they came.
    """

    def __init__(
        self,
        options: PoolOptions,
        driver: Driver,
        native: NativePool | None = None,
        *,
        alias: str = "default",
        errors: ErrorKinds = CORE_ERRORS,
        clock: Callable[[], float] = time.monotonic,
        keeper: Keeper | None = None,
        facts: Mapping[str, Any] | None = None,
        renew: Callable[[], None] | None = None,
    ) -> None:
        """Make a pool; nothing is connected until somebody asks.

        Args:
            options: Checked options.
            driver: How to connect, look, ping, tidy and close.
            native: Where idle connections lie; None for the pool's own stack.
            alias: Whose pool this is, for statistics and messages.
            errors: The classes to raise.
            clock: Seconds that never go back.
            keeper: Calls `maintain()` when it is due. Without one, the owner of
                the pool does.
            facts: What is true of every connection here, for who leases one.
            renew: Called when the server refused the login, which is tried once
                more then, perhaps as somebody else. It must not block.
        """
        self.options = options
        self.alias = alias
        self.facts: Mapping[str, Any] = {} if facts is None else facts
        self._driver = driver
        self._native = native
        self._errors = errors
        self._clock = clock
        self._keeper = keeper
        self._renew = renew
        self._gate = Gate(
            options.min_size, options.max_size, options.max_waiting, self._lose
        )
        self._books: set[Entry] = set()  # guarded by the gate's lock
        # What finalisers found, until _reclaim() comes by.
        self._lost: deque[tuple[Entry | None, bool]] = deque()
        self._outage = Outage()
        # When a server that steps down may cost all connections again.
        self._evicts_again_at = float("-inf")
        self._failures = 0  # in a row, of connects up to min_size
        self._sweep_at = 0.0  # when an idle connection may be too old
        # Looked up once, for the hot path. A driver's word is None if it is
        # only the default one.
        self._free = self._gate.free
        self._waiters = self._gate.waiters
        self._peek = _own(driver, "peek")
        self._at_rest = _own(driver, "at_rest")
        self._check_after = _check_after(options)
        # Idle for so long, one that is kept for min_size is pinged by the keeper.
        self._keepalive = max(options.check_after, options.check_timeout)
        if options.check is False:
            self._keepalive = float("inf")
        # Idle for so long, a connection can be lent without more than the look.
        self._fresh_for = min(self._check_after, options.max_idle or float("inf"))
        #: What a statement may change in its session; None if that is no matter.
        self.changes = _changes(options, driver)
        self._resets = options.reset != "never"
        self._resets_always = options.reset == "always"
        #: Whether leases end with each transaction.
        self.releases_early = options.release == "transaction"
        # Idle for no longer than that, a connection is lent without a look. Where
        # leases end with the request, each has one; where they end with each
        # transaction, the statements of a request follow each other faster than this.
        self._look_after = BETWEEN_STATEMENTS if self.releases_early else -1.0
        #: Whether a transaction is on, as far as is known without asking.
        self.in_transaction = driver.in_transaction
        #: Whether it keeps in mind where each connection was borrowed.
        self.traces = options.leak_threshold is not None
        if keeper is not None and options.min_size:
            keeper.watch(self)

    def __repr__(self) -> str:
        gate = self._gate
        return (
            f"<Pool {self.options.name!r}: {gate.size} of {gate.max_size} open, "
            f"{len(gate.free)} idle, {len(gate.waiters)} waiting>"
        )

    # -- lending ------------------------------------------------------------

    def acquire(self, timeout: float | None = None) -> Lease:
        """Lease a connection, waiting for one if need be.

        Args:
            timeout: Seconds for queueing, connecting and checking together;
                0 for not to queue; the pool's option if None.

        Raises:
            PoolTimeout: No connection came free, or could be opened, in time.
            PoolBusy: `max_waiting` callers were waiting already.
            PoolClosed: `close()` was called, before or while waiting.

        What the driver raises while connecting is passed on unchanged.
        """
        if self._waiters or self._gate.barred:
            return self._acquire_slowly(None, timeout)
        try:
            slot = self._free.pop()
        except IndexError:
            return self._acquire_slowly(None, timeout)
        if self._native is not None:
            try:
                self._native.take(slot)
            except LookupError:
                return self._acquire_slowly(slot, timeout)
        entry: Entry = slot.entry  # type: ignore[assignment]  # it lay in the stack
        now = self._clock()
        if (
            now >= entry.expires_at
            or now - entry.idle_since > self._fresh_for
            or entry.suspect
            or (
                now - entry.idle_since > self._look_after
                and self._peek is not None
                and not self._peek(entry.connection)
            )
        ):
            return self._acquire_slowly(slot, timeout)
        entry.direct += 1
        return self._lend(slot, entry, now)

    def _acquire_slowly(self, slot: Slot | None, timeout: float | None) -> Lease:
        """Lease a connection after queueing, or after a look at the one in `slot`."""
        started = self._clock()
        patience = self.options.timeout if timeout is None else timeout
        # Who does not want to queue may still open a connection.
        deadline = started + (patience or self.options.timeout)
        if slot is None:
            slot = self._queue(patience)
        slot = self._insist(slot, patience, deadline)
        entry: Entry = slot.entry  # type: ignore[assignment]  # it is sound
        now = self._clock()
        with self._gate.lock:
            self._gate.counters.acquired += 1
            self._gate.counters.waits.add(now - started)
        return self._lend(slot, entry, now)

    def _lend(self, slot: Slot, entry: Entry, now: float) -> Lease:
        owner = current_owner()
        entry.acquired_at = now
        entry.owner = owner
        owner.holding.add(entry)
        if self.traces:
            entry.stack = borrower_stack(__file__)
        lease = Lease(self, slot, entry.connection, owner)
        entry.lease = weakref.ref(lease)
        return lease

    def _queue(self, patience: float) -> Slot:
        if self._keeper is None:
            self._reclaim()
        if self.releases_early:
            self._take_what_is_loose()
        if patience:
            self._refuse_the_hopeless()
        slot = self._gate.queue(patience)
        if isinstance(slot, Slot):
            self._take_native(slot)
            return slot
        if isinstance(slot, Refused):
            raise self._refusal(slot, patience)
        raise without_frames(slot)

    def _refuse_the_hopeless(self) -> None:
        """Raise if the caller would wait for what only the caller could give back."""
        gate, me = self._gate, current_owner()
        with gate.lock:
            mine = sum(entry.owner is me for entry in self._books)
            if mine < gate.max_size or gate.barred or gate.crowded:
                return
            gate.counters.timeouts += 1
        stats = self.stats()
        reason = (
            f"no connection came free, and none can: this thread has all {mine} itself"
        )
        raise self._errors.timeout(self._message(reason, stats), stats)

    def _insist(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """`_make_sound()`, and again where that failed and waiting can help."""
        full_until = deadline
        while True:
            try:
                return self._make_sound(slot, patience, deadline)
            except Exception as error:
                until = now = self._clock()
                if self._driver.is_full(error):
                    full_until = min(full_until, now + FULL_PATIENCE)
                    until = full_until
                if self._gate.suspended:
                    until = deadline  # what it failed of may be why
                turn = None
                if patience and until > now:
                    turn = self._gate.queue(until - now, first=True)
                if not isinstance(turn, Slot):
                    self._share(error, deadline)
                    raise
            slot = turn
            self._take_native(slot)

    def _share(self, error: Exception, deadline: float) -> None:
        """A connect failed: tell of it, in the log and to those who wait for it."""
        if not self._gate.closed and self._outage.is_news():
            logger.warning(
                "pool %r: no connection can be opened: %s", self._name, _line(error)
            )
        # Who ran out of time says nothing about the time that others have.
        if self._clock() < deadline - OUT_OF_TIME:
            self._gate.share(without_frames(error))

    def _go_on(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """After the connection of this slot was closed: another turn."""
        other = self._gate.replace(slot, patient=patience > 0)
        if other is not None:
            return other
        turn = self._gate.queue(deadline - self._clock(), first=True)
        if isinstance(turn, Slot):
            return turn
        if isinstance(turn, Refused):
            raise self._refusal(turn, self.options.timeout)
        raise without_frames(turn)

    def _make_sound(self, slot: Slot, patience: float, deadline: float) -> Slot:
        """The checkout loop: until the slot has a connection that can be lent.

        After a dead one it goes on at once: with another that was idle, or by
        opening one in its place. It never sleeps.
        """
        try:
            while not slot.opening:
                # Without an entry, the native pool had none after all.
                if slot.entry is not None:
                    cause = self._fault(slot.entry, deadline)
                    if cause is None:
                        return slot
                    if cause is CloseCause.BROKEN:
                        # What killed this one may have killed them all: look at
                        # every idle one now, and no caller finds the next.
                        self._sweep(self._killed_too)
                    self._close(slot, cause)
                slot = self._go_on(slot, patience, deadline)
                self._take_native(slot)
            self._open(slot, deadline)
        except BaseException:
            self._discard(slot, CloseCause.BROKEN)
            raise
        return slot

    def _take_native(self, slot: Slot) -> None:
        """Have the native pool, where there is one, fill a slot that was free."""
        if self._native is not None and not slot.opening:
            with contextlib.suppress(LookupError):
                self._native.take(slot)

    def _open(self, slot: Slot, deadline: float) -> None:
        started = self._clock()
        if started > deadline:  # spent on queueing, pinging and closing
            with self._gate.lock:
                self._gate.counters.timeouts += 1
            raise self._refusal(Refused.TIMEOUT, self.options.timeout)
        try:
            connection = self._connect(deadline)
        except Exception as error:
            self._gate.back_off(self._outage.failed(without_frames(error)))
            raise
        now = self._clock()
        slot.entry = Entry(connection, now, self._expiry(now))
        slot.entry.on_orphaned = self.nudge
        with self._gate.lock:
            self._books.add(slot.entry)
        if self._native is not None:
            self._native.join(slot)
        self._gate.opened(slot, now - started)
        if self._outage.failures:
            self._tell_of_recovery()
        if self._keeper is not None:
            self._keeper.watch(self)

    def _tell_of_recovery(self) -> None:
        self._failures = 0
        self.nudge()  # there may be connections to open, up to min_size
        if ended := self._outage.end():
            logger.warning(
                "pool %r: connections can be opened again, after %.1f s and %d "
                "failed attempts",
                self._name,
                ended.seconds,
                ended.failures,
            )

    def _connect(self, deadline: float) -> Any:
        try:
            return self._try_to_connect(deadline)
        except Exception as error:
            if self._renew is None or not self._driver.refuses_login(error):
                raise
            self._renew()
            logger.info("pool %r: the login was refused, and is renewed", self._name)
            # Whoever changes a password does so in two places, one after the other.
            time.sleep(RENEWAL_PAUSE)
            if self._clock() >= deadline:
                raise
        return self._try_to_connect(deadline)

    def _try_to_connect(self, deadline: float) -> Any:
        try:
            connection = self._driver.connect(deadline - self._clock())
            if self._resets:
                self._remember(connection)
        except Exception:
            with self._gate.lock:
                self._gate.counters.open_errors += 1
            raise
        return connection

    def _remember(self, connection: Any) -> None:
        try:
            self._driver.remember(connection)
        except BaseException:
            with contextlib.suppress(Exception):  # it is the other one that counts
                self._driver.close(connection)
            raise

    def _expiry(self, now: float) -> float:
        lifetime = self.options.max_lifetime
        if lifetime is None:
            return float("inf")
        return now + lifetime * (1.0 - JITTER * random.random())  # noqa: S311 (spread only)

    def _fault(self, entry: Entry, deadline: float) -> CloseCause | None:
        """Why a connection that was idle until now must not be lent."""
        now = self._clock()
        if (cause := self._age(entry, now)) is not None:
            return cause
        quiet = self._peek is None or self._peek(entry.connection)
        if self.options.check is False:
            return None if quiet else CloseCause.BROKEN
        fresh = now - entry.idle_since <= self._check_after and not entry.suspect
        if quiet and fresh:
            return None
        patience = min(self.options.check_timeout, deadline - now)
        return None if self._ping(entry, patience) else CloseCause.BROKEN

    def _ping(self, entry: Entry, timeout: float) -> bool:
        try:
            self._driver.ping(entry.connection, max(timeout, 0.0))
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info("pool %r: an idle connection is dead: %s", self._name, error)
            alive = False
        else:
            entry.suspect = False
            alive = True
        with self._gate.lock:
            self._gate.counters.checks += 1
            self._gate.counters.check_failures += not alive
        return alive

    # -- taking back ----------------------------------------------------------

    def take_back(self, slot: Slot) -> None:
        """A lease has ended; its slot is for the next caller."""
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was leased
        try:
            if self._at_rest is not None and not self._at_rest(entry.connection):
                self._driver.tidy(entry.connection)
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info("pool %r: beyond repair: %s", self._name, error)
            self._discard(slot, CloseCause.BROKEN)
            return
        if self._resets_always or entry.changed:
            self._restore(slot, entry)
        else:
            self._come_back(slot, entry)

    def _come_back(self, slot: Slot, entry: Entry) -> None:
        """The session is as it was in the beginning: its slot is for the next one."""
        now = self._clock()
        if now >= entry.expires_at or self._gate.tight:
            self._discard(slot, self._surplus_cause(entry))
            return
        entry.idle_since = now
        if entry.owner is not None:
            self._end_use(entry, now)
        if self._native is not None:
            self._lay_down(slot)
            return
        self._free.append(slot)
        if self._waiters:
            self._gate.serve()

    # -- sessions that were changed ---------------------------------------------

    def _restore(self, slot: Slot, entry: Entry) -> None:
        """Bring the session back, in another thread if that hurts nobody."""
        if entry.changed & Change.TYPES:
            self.drain()
        if not self._resets or self._clock() >= entry.expires_at or self._gate.tight:
            entry.changed = 0
            self._come_back(slot, entry)
            return
        # For a lock, others may be waiting already.
        if self._keeper is not None and not entry.changed & Change.LOCKS:
            self._end_use(entry, self._clock())
            self._gate.mend(1)
            if self._keeper.aside.do(functools.partial(self._restore_aside, slot)):
                return
            self._gate.mend(-1)
        self._restore_now(slot)

    def _restore_aside(self, slot: Slot) -> None:
        try:
            self._restore_now(slot)
        finally:
            self._gate.mend(-1)

    def _restore_now(self, slot: Slot) -> None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was leased
        change = Change(entry.changed)
        try:
            if change & Change.BEYOND:
                raise Irreparable("it did what cannot be undone")
            self._driver.restore(entry.connection, change, self.options.check_timeout)
        except Exception as error:  # noqa: BLE001 (each driver has its own)
            logger.info(
                "pool %r: a session is closed, since it cannot be restored: %s",
                self._name,
                error,
            )
            self._discard(slot, CloseCause.RESET)
            return
        with self._gate.lock:
            self._gate.counters.resets += 1
        entry.changed = 0
        self._come_back(slot, entry)

    def _end_use(self, entry: Entry, now: float) -> None:
        entry.uses.add(now - entry.acquired_at)
        self._disown(entry, now)

    def _disown(self, entry: Entry, now: float) -> None:
        """Nobody has the connection any more."""
        owner, entry.owner = entry.owner, None
        if owner is not None:
            owner.holding.discard(entry)
        entry.lease = None
        entry.forsaken = False
        if self.traces:
            if entry.leaked:
                self._tell_of_the_end(entry, now)
            entry.stack = entry.about = None

    def _lay_down(self, slot: Slot) -> None:
        if self._native is not None:
            try:
                self._native.give(slot)
            except Exception:
                logger.exception("pool %r: the native pool took none back", self._name)
                self._discard(slot, CloseCause.BROKEN)
                return
        self._gate.lay_down(slot)

    def notice(self, entry: Entry, error: BaseException) -> None:
        """A statement failed on this connection. Leave its server, if it says so.

        Then this connection, and all that were opened before this moment, are
        replaced. What is opened from now on, and meets the same, is a case of its
        own: either the server has not moved yet, or the session made itself
        read-only. Such a connection is replaced alone until some time has passed.
        """
        if entry.expires_at == EVICTED or not self._driver.stepped_down(error):
            return
        now = self._clock()
        with self._gate.lock:
            entry.expires_at = EVICTED
            if now < self._evicts_again_at:
                return
            self._evicts_again_at = now + EVICTION_PAUSE
            count = self._evict_locked()
        self._sweep_at = now
        logger.warning(
            "pool %r: the server is read-only or shuts down, so all connections to "
            "it (%d) are replaced: %s",
            self._name,
            count,
            _line(error),
        )
        self.nudge()  # the keeper closes those that are idle

    def throw_away(self, slot: Slot) -> None:
        """A lease has ended, and its connection with it."""
        self._discard(slot, CloseCause.BROKEN)

    def _discard(self, slot: Slot, cause: CloseCause) -> None:
        """Close the connection, then let the next caller in its place.

        In this order, so that the server never sees more than `max_size`.
        """
        entry = slot.entry
        if entry is not None and entry.owner is not None:
            self._end_use(entry, self._clock())
        self._close(slot, cause)
        self._gate.remove(slot)
        if self._gate.closed or (entry and self._gate.size < self._gate.min_size):
            self.nudge()  # the keeper waits for the last one, or opens another

    def _close(self, slot: Slot, cause: CloseCause) -> None:
        entry = slot.entry
        if entry is None:
            return  # closed already, or never opened
        connection = entry.connection
        try:
            self._driver.close(connection)
        except Exception as error:  # noqa: BLE001 (it is gone either way)
            logger.debug("pool %r: while closing: %s", self._name, error)
        if self._native is not None:
            self._native.drop(connection)
        with self._gate.lock:
            counters = self._gate.counters
            counters.closed[cause.value] += 1
            counters.acquired += entry.direct
            counters.uses.absorb(entry.uses)
            self._books.discard(entry)
            entry.connection = slot.entry = None

    def _surplus_cause(self, entry: Entry) -> CloseCause:
        if self._gate.closed:
            return CloseCause.SHUTDOWN
        if self._clock() >= entry.expires_at:
            return _age_cause(entry)
        return CloseCause.IDLE

    # -- what got lost ----------------------------------------------------------

    def _lose(self, entry: Entry | None, opening: bool) -> None:
        """A slot was collected while it counted. Runs in finalisers: no locks."""
        self._lost.append((entry, opening))
        self.nudge()

    def nudge(self) -> None:
        """Have `maintain()` called soon. For finalisers, too: takes no lock."""
        if self._keeper is not None:
            self._keeper.nudge()

    def _reclaim(self) -> None:
        """Take back what finalisers reported since the last time."""
        while self._lost:
            try:
                entry, opening = self._lost.popleft()
            except IndexError:
                return  # another thread was faster
            slot = Slot()
            slot.entry, slot.opening = entry, opening
            slot.on_lost = self._lose
            if entry is None or entry.owner is None:
                self._discard(slot, CloseCause.BROKEN)
                continue
            self._take_back_unasked(slot, entry)

    def _take_what_is_over(self) -> float | None:
        """End leases of dead owners, and forsaken ones; when to look again."""
        with self._gate.lock:
            over = [
                (entry, entry.lease)
                for entry in self._books
                if (owner := entry.owner) is not None
                and (owner.ended or entry.forsaken)
            ]
        pause = None
        for entry, reference in over:
            lease = reference() if reference is not None else None
            if lease is None or lease.ended:
                continue
            dead = lease.owner.ended
            if not (dead or entry.forsaken):
                continue  # the connection is another's by now
            slot = lease.take_away()
            if slot is None:
                # A dead owner's may be shared with the living, for long.
                pause = SHARED_PAUSE if dead and pause is None else IN_USE_PAUSE
            elif dead and not entry.forsaken:
                self._take_back_unasked(slot, entry)
            else:
                self.take_back(slot)
        return pause

    def _take_what_is_loose(self) -> None:
        """End leases that nothing needs between two statements.

        Usually each ends with its last statement. But some have none (a mere
        `ensure_connection()`), and some cursors are forgotten and not closed.
        """
        with self._gate.lock:
            leases = [
                each.lease
                for each in self._books
                if each.owner is not None and not each.owner.ended
            ]
        for reference in leases:
            lease = reference() if reference is not None else None
            slot = lease.take_away(over=False) if lease is not None else None
            if slot is not None:
                self.take_back(slot)

    def _take_back_unasked(self, slot: Slot, entry: Entry) -> None:
        held = self._clock() - entry.acquired_at
        with self._gate.lock:
            self._gate.counters.reclaimed += 1
        logger.warning(
            "pool %r: a connection was never given back, and has been taken "
            "back now. It was leased by %s%s",
            self._name,
            describe_holder(entry, held),
            "" if self.traces else "; set leak_threshold to see where",
        )
        self.take_back(slot)

    # -- what is held for long --------------------------------------------------

    def _tell_of_leaks(self) -> float | None:
        """Warn of leases that last; the seconds until it is worth another look."""
        threshold = self.options.leak_threshold
        if threshold is None:
            return None
        now = self._clock()
        with self._gate.lock:
            held = [each for each in self._books if each.owner and not each.leaked]
            late = [each for each in held if now - each.acquired_at >= threshold]
            self._gate.counters.leaks += len(late)
            for entry in late:
                entry.leaked = True
        for entry in late:
            logger.warning(
                "pool %r: a connection is held for longer than leak_threshold=%g s "
                "by %s",
                self._name,
                threshold,
                describe_holder(entry, now - entry.acquired_at),
            )
        return threshold / 4  # of what is leased from now on, none is told of late

    def _tell_of_the_end(self, entry: Entry, now: float) -> None:
        entry.leaked = False
        logger.warning(
            "pool %r: the connection that was held for longer than leak_threshold "
            "came back after %.1f s",
            self._name,
            now - entry.acquired_at,
        )

    # -- upkeep -----------------------------------------------------------------

    def maintain(self) -> float | None:
        """Close what is too old, open up to `min_size`. May block.

        Returns the seconds until it should be called again, None for not before
        somebody uses the pool. What is laid down after this call is not due any
        sooner, so whoever sleeps that long misses nothing.
        """
        self._reclaim()
        again = self._take_what_is_over()
        if self.releases_early:
            self._take_what_is_loose()
        if self._gate.closed:
            return again
        self._gate.serve()  # who waits beside a free slot, if somebody was interrupted
        if self._clock() >= self._sweep_at:
            self._sweep(self._outlived)
        self._keep_alive()
        due: list[float | None] = [
            self._fill(),
            self.options.max_idle,
            self._tell_of_leaks(),
            again,
        ]
        if self.options.max_lifetime is not None:
            due.append(self.options.max_lifetime * (1.0 - JITTER))
        now = self._clock()
        with self._gate.lock:
            surplus = self._gate.size > self._gate.min_size
            for entry in self._books:
                if entry.owner is not None:
                    continue  # what is lent is looked at when it comes back
                due.append(entry.expires_at - now)
                if self._gate.min_size:
                    due.append(entry.idle_since + self._keepalive - now)
                if surplus and self.options.max_idle is not None:
                    due.append(entry.idle_since + self.options.max_idle - now)
        dates: list[float] = [seconds for seconds in due if seconds is not None]
        if not dates:
            return None
        pause = max(min(dates), 0.01)
        self._sweep_at = now + pause
        return pause

    def _keep_alive(self) -> None:
        """Ping what is kept for `min_size` before it is idle for too long.

        So whoever needs one finds one that is alive, and no firewall forgets it. One
        at a time: the others can be lent meanwhile.
        """
        now = self._clock()
        with self._gate.lock:
            due = sum(
                entry.owner is None and now - entry.idle_since >= self._keepalive
                for entry in self._books
            )
        for _ in range(min(due, self._gate.min_size)):
            try:
                slot = self._free.popleft()  # the longest idle
            except IndexError:
                return
            self._take_native(slot)
            entry = slot.entry
            if entry is None or not self._ping(entry, self.options.check_timeout):
                self._discard(slot, CloseCause.BROKEN)
            else:
                entry.idle_since = self._clock()
                self._put_aside(slot)

    def _fill(self) -> float | None:
        """Open connections up to `min_size`; the pause until the next attempt."""
        while (slot := self._gate.grow()) is not None:
            deadline = self._clock() + self.options.timeout
            try:
                slot = self._make_sound(slot, self.options.timeout, deadline)
            except Exception as error:  # noqa: BLE001 (each driver has its own)
                self._failures += 1
                if self._outage.is_news():
                    logger.warning(
                        "pool %r: cannot keep min_size=%s connections open: %s",
                        self._name,
                        self._gate.min_size,
                        _line(error),
                    )
                self._share(error, deadline)
                return min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE)
            self._failures = 0
            self._put_aside(slot)
        return None

    def _sweep(self, judge: Callable[[Slot], CloseCause | None]) -> None:
        """Take every idle connection out, close those judged, lay back the rest."""
        taken: list[Slot] = []
        while True:
            try:
                slot = self._free.pop()
            except IndexError:
                break
            taken.append(slot)
            self._take_native(slot)
        # The longest idle first: so they lie in the order in which they were.
        taken.sort(key=lambda slot: slot.entry.idle_since if slot.entry else 0.0)
        while taken:
            slot = taken.pop(0)
            cause = judge(slot) if slot.entry is not None else CloseCause.BROKEN
            if cause is None:
                self._put_aside(slot)
            else:
                self._discard(slot, cause)

    def _put_aside(self, slot: Slot) -> None:
        """Lay down a connection that was out for upkeep only."""
        entry: Entry = slot.entry  # type: ignore[assignment]  # looked at before
        if self._gate.tight:
            self._discard(slot, self._surplus_cause(entry))
        else:
            self._lay_down(slot)

    def _killed_too(self, slot: Slot) -> CloseCause | None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # _sweep() looked
        if self._peek is None:
            entry.suspect = True
            return None
        return None if self._peek(entry.connection) else CloseCause.BROKEN

    def _outlived(self, slot: Slot) -> CloseCause | None:
        entry: Entry = slot.entry  # type: ignore[assignment]  # _sweep() looked
        return self._age(entry, self._clock())

    def _age(self, entry: Entry, now: float) -> CloseCause | None:
        """Why a connection that was idle until now is too old."""
        if now >= entry.expires_at:
            return _age_cause(entry)
        max_idle, gate = self.options.max_idle, self._gate
        if max_idle is None or now - entry.idle_since < max_idle:
            return None
        return CloseCause.IDLE if gate.size > gate.min_size else None

    # -- control ------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The pool's figures, all of one moment. Never waits for a database."""
        gate, options = self._gate, self.options
        with gate.lock:
            counters = gate.counters
            idle, waiting = len(gate.free), len(gate.waiters)
            acquired, uses = counters.acquired, Durations()
            uses.absorb(counters.uses)
            for entry in self._books:
                acquired += entry.direct
                uses.absorb(entry.uses)
            # Only who had to wait was timed; for the others it took no time.
            at_once = acquired - sum(counters.waits.counts)
            waits = counters.waits.snapshot(at_once)
            opens = counters.opens.snapshot()
            return PoolStats(
                name=options.name,
                alias=self.alias,
                vendor=self._driver.vendor,
                implementation="fallback" if self._native is None else "native",
                pid=os.getpid(),
                min_size=gate.min_size,
                max_size=gate.max_size,
                size=gate.size,
                idle=idle,
                in_use=gate.size - idle - gate.opening,
                opening=gate.opening,
                waiting=waiting,
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

    @property
    def native(self) -> Any:
        """The driver's own pool where the implementation is "native", else None."""
        return None if self._native is None else self._native.native

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._gate.closed

    @property
    def suspended(self) -> bool:
        """Whether `suspend()` was called, and `resume()` not yet."""
        return self._gate.barred and not self._gate.closed

    @property
    def empty(self) -> bool:
        """Whether it has no connection at all, idle, in use or being opened."""
        return not self._gate.size

    def resize(
        self, *, min_size: int | None = None, max_size: int | None = None
    ) -> None:
        """Change the bounds of a running pool.

        A smaller `max_size` closes idle connections at once, and those in use
        when they come back.

        Raises:
            OptionsError: The sizes are no whole numbers, or out of bounds, or more
                than the native pool can keep.
        """
        gate = self._gate
        low = gate.min_size if min_size is None else min_size
        high = gate.max_size if max_size is None else max_size
        try:
            checked = PoolOptions(min_size=low, max_size=high)
            check_capacity(self._native, checked.max_size)
        except OptionsError as error:
            raise self._errors.options(f"pool {self._name!r}: {error}") from None
        gate.resize(checked.min_size, checked.max_size)
        if gate.tight:
            self._sweep(lambda _slot: None)  # what is surplus is not laid back
        if self._keeper is not None:
            self._keeper.watch(self)
            self._keeper.nudge()

    def drain(self) -> None:
        """Replace every connection: idle ones at once, others when they come back."""
        with self._gate.lock:
            self._evict_locked()
        self._sweep(self._outlived)

    def _evict_locked(self) -> int:
        for entry in self._books:
            entry.expires_at = EVICTED
        return len(self._books)

    def suspend(self) -> None:
        """Lend no more until `resume()`. Callers wait, up to their deadlines."""
        self._gate.suspend()

    def resume(self) -> None:
        """Lend again, first to those who waited."""
        self._gate.resume()

    def close(self, timeout: float = 0.0) -> None:
        """Lend no more, ever; close what is idle, and what comes back.

        Args:
            timeout: Seconds to wait for leases to end. Those still out then are
                closed when they end.
        """
        self._gate.close()
        self._sweep(lambda _slot: CloseCause.SHUTDOWN)
        deadline = self._clock() + timeout
        while self._gate.size and self._clock() < deadline:
            time.sleep(0.005)
            self._reclaim()
        if self._native is not None:
            self._native.close()
        if self._keeper is not None:
            self._keeper.nudge()

    def after_fork(self) -> list[Any]:
        """In a forked child: end all leases, and leave the connections untouched.

        Returns what must not be finalised in this process, as the pool itself must
        not. Takes no lock: whoever had it may be gone.
        """
        kept: list[Any] = [self]
        for entry in list(self._books):
            lease = entry.lease() if entry.lease is not None else None
            if lease is not None:
                kept += lease.after_fork()
        return kept

    # -- errors ---------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self.options.name

    def _refusal(self, why: Refused, patience: float) -> PoolError:
        """The error for a caller that got no connection."""
        stats = self.stats()
        if why is Refused.CLOSED:
            return self._errors.closed(f"pool {self._name!r} is closed", stats)
        if why is Refused.BUSY:
            limit = self._gate.max_waiting
            reason = f"{stats.waiting} callers wait already, and max_waiting is {limit}"
        elif self._gate.barred:
            reason = f"no connection in {patience:g} s: the pool is suspended"
        elif stats.size == stats.opening:
            reason = f"no connection could be opened in {patience:g} s"
        else:
            reason = f"no connection came free in {patience:g} s"
        kind = self._errors.busy if why is Refused.BUSY else self._errors.timeout
        error = kind(self._message(reason, stats), stats)
        if stats.size - stats.opening < stats.max_size:
            error.__cause__ = self._outage.error  # why there are not more
        return error

    def _message(self, reason: str, stats: PoolStats) -> str:
        figures = (
            f"size {stats.size} of max_size {stats.max_size}, {stats.in_use} in use, "
            f"{stats.idle} idle, {stats.opening} opening, {stats.waiting} waiting"
        )
        return f"pool {self._name!r}: {reason} ({figures}){self._holders()}"

    def _holders(self) -> str:
        with self._gate.lock:
            held = [entry for entry in self._books if entry.owner is not None]
        return describe_holders(held, self._clock())


def _own(driver: Driver, name: str) -> Callable[[Any], bool] | None:
    """A driver's method, or None where it only has the default one."""
    if getattr(type(driver), name) is getattr(Driver, name):
        return None
    method: Callable[[Any], bool] = getattr(driver, name)
    return method


def _changes(options: PoolOptions, driver: Driver) -> Callable[[Any], int] | None:
    if options.reset == "auto" or options.release == "transaction":
        return driver.changes
    return None


def _check_after(options: PoolOptions) -> float:
    if options.check is True:
        return -1.0  # no time is short enough: ping every time
    return options.check_after if options.check == "auto" else float("inf")


def _line(error: BaseException) -> str:
    """What it says, in one line of a log."""
    return " ".join(str(error).split())


def _age_cause(entry: Entry) -> CloseCause:
    evicted = entry.expires_at == EVICTED
    return CloseCause.EVICTED if evicted else CloseCause.LIFETIME
