"""One borrowed connection, from `acquire()` until it goes back."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from djpool.core.slot import EVICTED

if TYPE_CHECKING:
    from djpool.core.owner import Owner
    from djpool.core.pool import Pool
    from djpool.core.slot import Entry, Slot


class Holder(Protocol):
    """Through whom an owner uses a lease, and who can be asked to let go of it."""

    def djpool_let_go(self, lease: Lease, *, dead: bool, over: bool) -> bool:
        """Let go of the lease unless it is in use; whether that was done.

        Called in any thread. If `dead`, its owner has ended and can use it no more.
        If `over`, its owner is done with it, but for what is just going on; if not,
        the owner may come back to what it left in the session.
        Who answers True does not use the connection after that.
        """

    def djpool_ends_slowly(self) -> bool:
        """Whether letting go runs the project's code, or asks the server."""

    def djpool_is_wanted(self, lease: Lease) -> bool:
        """Whether another thread waits for a connection in the owner's name."""

    def djpool_forked(self, lease: Lease) -> list[Any]:
        """In a forked child: forget the lease, without a word to the server.

        Returns what else of the driver's was in use, and must not be finalised.
        """


class Lease:
    """The use of one connection; as a context manager it releases at the end.

    An exception out of the block that is not the server's whole answer to a statement
    closes the connection: an answer may still be under way on it.

    `connection` is the driver's own object, None once the lease has ended.

    Its slot is its token: whoever pops it ends the lease, its owner or somebody
    who takes the connection back. The other one finds nothing to pop, so
    `release()` and `discard()` of an ended lease do nothing. Thread-safe.
    """

    __slots__ = (
        *("__weakref__", "_pool", "_token", "connection", "entry", "holder", "owner"),
    )

    def __init__(self, pool: Pool, slot: Slot, entry: Entry, owner: Owner) -> None:
        self._pool = pool
        self._token = [slot]  # list.pop() is atomic: the one step that decides
        self.connection: Any = entry.connection
        #: Its connection, as it stands in the books; another lease's after its end.
        self.entry = entry
        #: The thread or greenlet that leased it.
        self.owner = owner
        #: Who is told when the lease is taken away. It refers to the lease, so not
        #: the other way round.
        self.holder: weakref.ref[Holder] | None = None

    @property
    def pool(self) -> Pool:
        """The pool that the connection goes back to."""
        return self._pool

    @property
    def ended(self) -> bool:
        """Whether the connection has gone back, or been taken back."""
        return not self._token

    def release(self) -> None:
        """Give the connection back for the next caller. Never raises.

        An open transaction is rolled back first. A connection that cannot be
        brought back to rest is closed instead.
        """
        try:
            slot = self._token.pop()
        except IndexError:
            return
        slot.returning = self._token
        try:
            self.connection = None
            self._pool.take_back(slot)
        except BaseException:
            self._abandon(slot)
            raise

    def discard(self) -> None:
        """Close the connection instead of giving it back. Never raises."""
        try:
            slot = self._token.pop()
        except IndexError:
            return
        slot.returning = self._token
        try:
            self.connection = None
            self._pool.throw_away(slot)
        except BaseException:
            self._abandon(slot)
            raise

    def _abandon(self, slot: Slot) -> None:
        """An exception struck: have the connection closed, unless the pool has it."""
        if slot.returning is self._token:
            self._pool.abandon(slot)

    def take_away(self, *, over: bool = True) -> Slot | None:
        """End it in place of its owner; None if it is in use, or has ended.

        `over` is whether the owner is done with it.
        """
        holder = self.holder() if self.holder is not None else None
        dead = self.owner.ended
        if holder is None:
            if not (dead or over):
                return None  # nobody could tell whether it is in use
        elif not holder.djpool_let_go(self, dead=dead, over=over):
            return None
        try:
            slot = self._token.pop()
        except IndexError:
            return None
        self.connection = None
        return slot

    def ends_slowly(self) -> bool:
        """Whether taking it away may take its time."""
        holder = self.holder() if self.holder is not None else None
        return holder is not None and holder.djpool_ends_slowly()

    def is_wanted(self) -> bool:
        """Whether it would serve its owner better in another thread, which waits."""
        holder = self.holder() if self.holder is not None else None
        return holder is not None and holder.djpool_is_wanted(self)

    def move(self) -> Lease | None:
        """Lease its connection to the caller instead, in whose name its owner had it.

        None if the owner needs it, or if its connection is not in order. Never raises.
        """
        slot = self.take_away(over=False)
        if slot is None:
            return None
        slot.returning = self._token
        try:
            return self._pool.pass_on(slot)
        except BaseException:
            self._abandon(slot)
            raise

    def forsake(self) -> None:
        """Give it back as soon as it is not in use: its owner will not. Never raises.

        That may be now, or when the holder lets go of it.
        """
        slot = self.take_away()
        if slot is None:
            self.forsake_soon()
            return
        slot.returning = self._token
        try:
            self._pool.take_back(slot)
        except BaseException:
            self._abandon(slot)
            raise

    def forsake_soon(self) -> None:
        """The same, but not now: its owner is about to use it."""
        for slot in list(self._token):
            if slot.entry is not None:
                slot.entry.forsaken = True
        self._pool.nudge()

    def keep(self) -> None:
        """Take `forsake_soon()` back: somebody has it who will give it back."""
        for slot in list(self._token):  # one, or none any more
            if slot.entry is not None:
                slot.entry.forsaken = False

    def after_fork(self) -> list[Any]:
        """In a forked child: it has ended, and nobody may touch the connection."""
        kept: list[Any] = list(self._token)
        self._token.clear()
        self.connection = None
        holder = self.holder() if self.holder is not None else None
        return kept if holder is None else [*kept, *holder.djpool_forked(self)]

    def spoil(self) -> None:
        """Have the connection closed when the lease ends, whoever ends it."""
        for slot in list(self._token):
            if slot.entry is not None:
                slot.entry.expires_at = EVICTED

    def changed(self, change: int) -> None:
        """Have the session restored when the lease ends: see `session.Change`."""
        for slot in list(self._token):  # one, or none any more
            if slot.entry is not None:
                slot.entry.changed |= change

    def tell(self, about: str) -> None:
        """Say what it is for, in words for messages."""
        for slot in list(self._token):  # one, or none any more
            if slot.entry is not None:
                slot.entry.about = about

    def notice(self, error: BaseException) -> None:
        """Tell the pool what a statement failed of: perhaps the server is to be left.

        Must not be called with a lock held. Never raises.
        """
        for slot in list(self._token):
            if slot.entry is not None:
                self._pool.notice(slot.entry, error)

    def doubt(self) -> None:
        """Have the connection closed: an answer may still be under way on it."""
        for slot in list(self._token):  # one, or none any more
            if slot.entry is not None:
                slot.entry.calls += 1

    def suspect(self) -> None:
        """Have the connection pinged before its next lease: an error was seen."""
        for slot in list(self._token):  # one, or none any more
            if slot.entry is not None:
                slot.entry.suspect = True

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None and not self._pool.answered(exc):
            self.doubt()
        self.release()
