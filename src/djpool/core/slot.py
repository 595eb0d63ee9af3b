"""Connections, as a pool sees them: the right to one, and what is known of it.

An exception of a signal's handler may strike when a loop goes round. Since Python 3.12,
the jump back may stand outside of every `with` and `try` of its function, if it follows
a condition: then the lock stays locked, and no handler runs. So such a loop inside of a
block has a function of its own, out of which the exception comes as out of any call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from traceback import StackSummary
from typing import TYPE_CHECKING, Any

from djpool.core.stats import Durations

if TYPE_CHECKING:
    from djpool.core.lease import Lease
    from djpool.core.owner import OnOrphaned, Owner

# An `expires_at` in the past of every clock: drain() was called.
EVICTED = float("-inf")


class Entry:
    """One open connection, as it stands in the pool's books.

    The books refer to it for as long as it is open, so the garbage collector
    never finalises a driver's connection in the company of a lease that somebody
    forgot. Only who has the connection writes here, apart from `expires_at`, which
    drain() may bring forward, and `suspect`, which anybody may set. Anybody may read:
    statistics, error messages.
    """

    __slots__ = (
        "about",
        "acquired_at",
        "answered_at",
        "calls",
        "changed",
        "connection",
        "direct",
        "expires_at",
        "forsaken",
        "idle_since",
        "leaked",
        "lease",
        "leftovers",
        "on_orphaned",
        "opened_at",
        "owner",
        "stack",
        "suspect",
        "uses",
    )

    def __init__(self, connection: Any, opened_at: float, expires_at: float) -> None:
        self.connection = connection
        self.opened_at = opened_at
        self.expires_at = expires_at
        self.idle_since = opened_at  # since its last use: what max_idle counts from
        self.answered_at = opened_at  # its last ping, which is no use of it
        self.suspect = False  # ping it before it is lent again
        # Calls of the driver that began, and are not known to have ended. Only a
        # connection without any is lent.
        self.calls = 0
        self.changed = 0  # what this lease may have changed: see `session.Change`
        # Whose it is; None while nobody has leased it.
        self.owner: Owner | None = None
        self.lease: weakref.ref[Lease] | None = None
        self.on_orphaned: OnOrphaned | None = None  # its owner has ended
        # For messages: what it was leased for, if somebody said so.
        self.about: str | None = None
        self.forsaken = False  # nobody will give it back: see Lease.forsake()
        self.leaked = False  # held for longer than leak_threshold, and told of
        self.acquired_at = opened_at
        self.stack: StackSummary | None = None
        # What must not be finalised before the connection is closed.
        self.leftovers: object = None
        # Counted here, without a lock, for as long as the connection lives.
        self.direct = 0  # leases that nobody had to wait for
        self.uses = Durations()

    @property
    def quiet_since(self) -> float:
        """Return when the server was last heard of: the last use, or the last ping."""
        return max(self.idle_since, self.answered_at)


# Told what a slot had that is no more: its entry, and whether it was being opened, or
# was given back and not ready yet. May only put on a queue.
OnLost = Callable[["Entry | None", bool, bool], None]


class Slot:
    """The right to one connection, of which a pool has `max_size`.

    Whoever refers to the slot has the right: the gate's stack of free ones, a
    lease, or a function that is moving it from the one to the other. When the
    last reference goes and the slot still counts (an interruption between two
    steps, a lease that nobody ended), its finaliser reports what it had. So no
    step needs protection against interruption; but a slot and the gate's numbers
    must change together, in stores with no call between them.
    """

    __slots__ = ("entry", "mending", "on_lost", "opening", "returning")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.opening = False  # counts as being opened
        self.mending = False  # counts as given back, and not ready yet
        # Set while the gate counts this slot; None once it was reported as lost.
        self.on_lost: OnLost | None = None
        # An object of the call that moves it, until that hands it over.
        self.returning: object = None

    def moved(self) -> Slot:
        """The same right, in an object that the garbage collector has not found.

        The collector finalises all that it found, also what a finaliser before has
        put to use again.
        """
        slot = Slot()
        slot.become(self)
        return slot

    def become(self, other: Slot) -> None:
        """Have the right that the other one had, which has none afterwards."""
        self.entry, self.opening = other.entry, other.opening
        self.mending = other.mending
        self.on_lost, other.on_lost = other.on_lost, None

    def __del__(self) -> None:
        # Runs wherever the last reference went, perhaps inside a lock of ours.
        self.lose()

    def lose(self) -> None:
        """Report what it had: nobody will use it.

        The frames that an exception went through can keep a slot from its finaliser
        for as long as the exception is kept. So a function that sees an exception come
        calls this for the slot that it moves.
        """
        # The callback may only put something on a queue.
        on_lost, self.on_lost = getattr(self, "on_lost", None), None
        if on_lost is not None:
            on_lost(self.entry, self.opening, self.mending)


def is_held(entry: Entry) -> bool:
    """True if somebody has a lease of it that has not ended, nor was lost."""
    lease = entry.lease() if entry.lease is not None else None
    return lease is not None and not lease.ended
