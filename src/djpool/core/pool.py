"""The pool: one policy for every database, over one driver."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from djpool.core.checkin import Checkin, Postponed
from djpool.core.checkout import Checkout
from djpool.core.clock import passed
from djpool.core.connections import LINGER, Connections, own_method
from djpool.core.driver import Driver, NativePool, check_capacity
from djpool.core.errors import CORE_ERRORS, ErrorKinds, OptionsError
from djpool.core.failover import Failover
from djpool.core.family import Family
from djpool.core.gate import Gate
from djpool.core.holders import borrower_stack
from djpool.core.keeper import Keeper
from djpool.core.lease import Lease
from djpool.core.opening import Opener
from djpool.core.options import PoolOptions
from djpool.core.owner import current_owner
from djpool.core.reclaim import Lost, Reclaim
from djpool.core.refusals import Refusals
from djpool.core.slot import Entry, Slot
from djpool.core.stats import CloseCause, PoolStats
from djpool.core.upkeep import Upkeep

# Seconds between two statements of one request, if it does nothing else.
BETWEEN_STATEMENTS = 0.01


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
        clock: Callable[[], float] = passed,
        keeper: Keeper | None = None,
        facts: Mapping[str, Any] | None = None,
        introduce: Callable[[Any], None] | None = None,
        renew: Callable[[], None] | None = None,
        family: Family | None = None,
        wanted: Callable[[], bool | None] | None = None,
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
            introduce: For who leases, to call with itself before its first lease.
            renew: Called when the server refused the login, which is tried once
                more then, perhaps as somebody else. It must not block.
            family: The pools of this alias, which the registry puts it among; None
                if it is to be the only one.
            wanted: Whether the settings of the alias are those that this pool is for;
                None from it if there is no such alias. Without it, they always are.
        """
        self.options = options
        self.alias = alias
        self.facts: Mapping[str, Any] = {} if facts is None else facts
        self.introduce = introduce
        self.wanted = wanted
        #: Whether the settings of its alias are other ones now.
        self.former = False
        #: Whether the settings of its alias are, or once were, those of this pool.
        self.listed = False
        #: Whether it was closed because they are, and the last connection is closed.
        self.gone = False
        #: By which the keeper knows it, whom finalisers of the pool may tell of it.
        self.reference = weakref.ref(self, None if keeper is None else keeper.nudge)
        self._errors = errors
        self._keeper = keeper
        self._lost = Lost()
        self._gate = Gate(
            options.min_size,
            options.max_size,
            options.max_waiting,
            self._lose,
            family=family,
        )
        self._connections = Connections(
            options,
            driver,
            native,
            self._gate,
            alias=alias,
            clock=clock,
            renew=renew,
            watch=self._watch,
            nudge=self.nudge,
        )
        if family is None:
            self._gate.family.set_locked((self._connections,))
        postponed = Postponed()
        checkin = Checkin(
            self._connections, None if keeper is None else keeper.aside, postponed
        )
        workers = None if keeper is None else keeper.workers
        reclaim = Reclaim(self._connections, checkin, self._lost, postponed, workers)
        self._reclaim = reclaim
        refusals = Refusals(self._connections, errors)
        opener = Opener(self._connections, workers)
        self._checkout = Checkout(self._connections, opener, refusals, reclaim)
        self._upkeep = Upkeep(self._connections, opener, reclaim)
        #: A lease has ended; its slot is for the next caller.
        self.take_back = checkin.take_back
        self._is_in_order = checkin.is_in_order
        #: An exception struck on a slot's way: its connection is to be closed.
        self.abandon = self._connections.abandon
        #: A statement failed: perhaps the server is to be left.
        self.notice = Failover(self._connections).notice
        # Looked up once, for the hot path.
        self._free = self._gate.free
        self._waiters = self._gate.waiters
        self._native = native
        self._clock = clock
        self._peek = self._connections.peek
        # Idle for so long, a connection can be lent without more than the look.
        self._fresh_for = min(
            self._connections.check_after, options.max_idle or float("inf")
        )
        #: Whether leases end with each transaction.
        self.releases_early = options.release == "transaction"
        # Idle for no longer than that, a connection is lent without a look. Where
        # leases end with the request, each has one; where they end with each
        # transaction, the statements of a request follow each other faster than this.
        self._look_after = BETWEEN_STATEMENTS if self.releases_early else -1.0
        #: What a statement does to its session.
        self.changes = driver.changes
        #: Tells the driver what is known of a statement; None if it need not be told.
        self.tell = own_method(driver, "tell")
        #: What one may ask of a connection without a change.
        self.looks = driver.looks
        self.takes_stand_ins = driver.takes_stand_ins
        #: True if an error is the server's whole answer.
        self.answered = driver.answered
        #: A call of the driver was interrupted, and its owner may go on.
        self.doubt = driver.doubt
        #: Whether a transaction is on, as far as is known without asking.
        self.in_transaction = driver.in_transaction
        #: Whether it keeps in mind where each connection was borrowed.
        self.traces = self._connections.traces

    def __repr__(self) -> str:
        gate = self._gate
        return (
            f"<Pool {self.options.name!r}: {gate.size} of {gate.max_size} open, "
            f"{len(gate.free)} idle, {len(gate.waiters)} waiting>"
        )

    def begin(self) -> None:
        """Have `min_size` connections opened, now that whoever made it has it."""
        if self.options.min_size:
            self._watch()

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
        slot = None
        try:
            try:
                slot = self._free.pop()
            except IndexError:
                return self._acquire_slowly(None, timeout)
            if self._native is not None:
                self._connections.take_native(slot)
                if slot.entry is None:
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
        except BaseException:
            if slot is not None:
                self._connections.abandon(slot)
            raise

    def pass_on(self, slot: Slot) -> Lease | None:
        """A lease has ended: lend its slot to the caller, who waits for nobody.

        If its connection is not in order, it is taken back as ever, and None returned.
        If an exception comes, it is for the caller to abandon the slot.
        """
        entry: Entry = slot.entry  # type: ignore[assignment]  # it was leased
        if self._gate.barred or not self._is_in_order(entry):
            self.take_back(slot)
            return None
        now = self._clock()
        self._connections.end_use(entry, now)
        entry.direct += 1
        return self._lend(slot, entry, now)

    def _acquire_slowly(self, slot: Slot | None, timeout: float | None) -> Lease:
        """Lease a connection after queueing, or after a look at the one in `slot`."""
        if self._gate.is_inside():
            with self._gate.outside():
                return self._acquire_slowly(slot, timeout)
        started = self._clock()
        patience = self.options.timeout if timeout is None else timeout
        # Who does not want to queue may still open a connection.
        deadline = started + (patience or self.options.timeout)
        try:
            if slot is None:
                slot = self._checkout.queue(patience)
            slot = self._checkout.insist(slot, patience, deadline)
            entry: Entry = slot.entry  # type: ignore[assignment]  # it is sound
            now = self._clock()
            with self._gate.lock:
                self._gate.counters.acquired += 1
                self._gate.counters.waits.add(now - started)
            return self._lend(slot, entry, now)
        except BaseException:
            if slot is not None:
                self._connections.abandon(slot)
            raise

    def _lend(self, slot: Slot, entry: Entry, now: float) -> Lease:
        owner = current_owner()
        entry.acquired_at = now
        entry.owner = owner
        owner.holding.add(entry)
        if self.traces:
            entry.stack = borrower_stack(__file__)
        lease = Lease(self, slot, entry, owner)
        entry.lease = weakref.ref(lease)
        return lease

    # -- taking back ----------------------------------------------------------

    def throw_away(self, slot: Slot) -> None:
        """A lease has ended, and its connection with it."""
        if slot.entry is not None:
            slot.entry.calls += 1  # so it is closed
        self.take_back(slot)

    def _lose(self, entry: Entry | None, opening: bool, mending: bool) -> None:
        """A slot was collected while it counted. Runs in finalisers: no locks."""
        self._lost.append((entry, opening, mending))
        self.nudge()

    # -- upkeep -----------------------------------------------------------------

    def maintain(self) -> float | None:
        """Close what is too old, open up to `min_size`: see `Upkeep`. May block."""
        return self._upkeep.maintain()

    def reclaim(self) -> float | None:
        """Take back what nobody will give back: a part of `maintain()`. May block."""
        return self._upkeep.reclaim()

    def nudge(self) -> None:
        """Have `maintain()` called soon. For finalisers, too: takes no lock."""
        if self._keeper is not None:
            self._keeper.nudge(self.reference)

    def _watch(self) -> None:
        if self._keeper is not None:
            self._keeper.watch(self)

    # -- control ------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The figures of its alias, all of one moment. Never waits for a database.

        These are its own, and of the alias's pools for other settings.
        """
        return self._connections.stats()

    @property
    def family(self) -> Family:
        """The pools of its alias: orders to one are for all of them."""
        return self._gate.family

    @property
    def connections(self) -> Connections:
        """What it has open."""
        return self._connections

    def _everywhere(self) -> Iterable[Connections]:
        return self._gate.family.members or (self._connections,)

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
        """Change the bounds of a running pool, which are those of its alias.

        A smaller `max_size` closes idle connections at once, and those in use
        when they come back.

        Raises:
            OptionsError: The sizes are no whole numbers, or out of bounds, or more
                than the native pool can keep.
        """
        connections = next(iter(self._everywhere()))
        gate = connections.gate
        low = gate.min_size if min_size is None else min_size
        high = gate.max_size if max_size is None else max_size
        try:
            checked = PoolOptions(min_size=low, max_size=high)
            check_capacity(connections.native, checked.max_size)
        except OptionsError as error:
            raise self._errors.options(f"pool {connections.name!r}: {error}") from None
        gate.resize(checked.min_size, checked.max_size)
        for each in reversed(tuple(self._everywhere())):
            if each.gate.tight:
                # What is surplus is not laid back.
                each.sweep(lambda _entry: None)
        connections.watch()
        self.nudge()

    def drain(self) -> None:
        """Replace every connection: idle ones at once, others when they come back."""
        for each in self._everywhere():
            each.drain()

    def suspend(self) -> None:
        """Lend no more until `resume()`. Callers wait, up to their deadlines."""
        for each in self._everywhere():
            each.gate.suspend()

    def resume(self) -> None:
        """Lend again, first to those who waited."""
        for each in self._everywhere():
            each.gate.resume()

    def close(self, timeout: float = 0.0) -> None:
        """Lend no more, ever; close what is idle, and what comes back.

        Args:
            timeout: Seconds to wait for leases to end. Those still out then are
                closed when they end.
        """
        if self._gate.inherited:
            return  # all of it is the parent's
        # It may have gone, and then the others have its place.
        every = dict.fromkeys((self._connections, *self._everywhere()))
        for each in every:
            each.gate.close()
        for each in every:
            each.sweep(lambda _entry: CloseCause.SHUTDOWN)
        deadline = self._clock() + timeout
        while any(each.gate.size for each in every) and self._clock() < deadline:
            time.sleep(0.005)
            self._reclaim.what_is_lost()
        for each in every:
            if each.native is not None:
                each.native.close()
        self.nudge()

    # -- settings that change -----------------------------------------------------

    def leave(self) -> None:
        """The settings of its alias are other ones: keep open only what is in use.

        Nothing is opened for `min_size` any more; callers that have the former settings
        still are served.
        """
        if self.former:
            return
        with self._gate.lock:
            self._connections.leave_locked()
            self.former = True
        self.nudge()

    def come_back(self) -> None:
        """The settings of its alias are those of this pool again."""
        if not self.former:
            return
        with self._gate.lock:
            self._connections.return_locked()
            self.former = False
        self.nudge()

    def succeed(self, former: Pool) -> None:
        """Hold to what `former` was told, which had the place of this one."""
        if former.family is self.family:
            with self._gate.lock:
                self._connections.succeed_locked(former.connections)

    def has_gone(self) -> bool:
        """Close it if it was left a while ago and is empty; whether that was done.

        Whoever was about to use it finds that out by `PoolClosed` and `gone`.
        """
        left_at = self._connections.left_at
        if left_at is None or self._clock() < left_at + LINGER:
            return False
        gate = self._gate
        with gate.lock:
            if gate.closed or not gate.close_if_unused():
                return gate.closed and not gate.size
            self.gone = True
            return True

    def clean_up(self) -> None:
        """It has gone: end what its native pool has of threads. May take a moment."""
        if self._native is not None:
            self._native.close()
        self.nudge()

    def after_fork(self) -> list[Any]:
        """In a forked child: end all leases, and leave the connections untouched.

        Whoever kept this object finds a closed pool without connections. Returns what
        must not be finalised in this process, as the pool itself must not. Takes no
        lock: whoever had it may be gone.
        """
        books = list(self._connections.books)
        family = Family()
        family.set_locked((self._connections,))
        kept: list[Any] = [self, books, self._gate.after_fork(family)]
        for entry in books:
            lease = entry.lease() if entry.lease is not None else None
            if lease is not None:
                kept += lease.after_fork()
        self._connections.books.clear()
        return kept
