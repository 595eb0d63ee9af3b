"""The pools of one alias: one for its present settings, and those of former settings.

The pools share one limit, the `max_size` of the first pool. They share one lock, so
that their numbers are of one moment. A caller that waits in one pool can get the place
that another pool gives up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from djpool.core.stats import Counters

if TYPE_CHECKING:
    from djpool.core.connections import Connections
    from djpool.core.gate import Gate

# While a caller needs a place that another pool has: seconds between two looks. A
# connection can return to the other pool's stack without a lock, and so unnoticed.
LOOK_AROUND = 0.1


def _nothing() -> None:
    """There are no settings to compare with."""


class Family:
    """Pools of one alias, first the pool for its present settings. Most often one.

    `lock` guards everything. It is the lock of each gate. `members` is replaced and
    never changed, so that a reader needs no lock.
    """

    __slots__ = ("lock", "max_size", "members", "past", "review", "several", "size")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Slots that exist in all of the gates. Changes together with theirs.
        self.size = 0
        self.max_size = 0
        self.members: tuple[Connections, ...] = ()
        #: Whether there is more than one, which each gate asks.
        self.several = False
        #: The counters of the pools that have gone.
        self.past = Counters()
        #: Compares the pools with the settings. May not be called with a lock held.
        self.review: Callable[[], object] = _nothing

    @property
    def reviewed(self) -> bool:
        """True if there are settings to compare with."""
        return self.review is not _nothing

    def after_fork(self) -> None:
        """In a forked child: no pool has this one any more. Takes no lock."""
        self.lock = threading.RLock()
        self.members = ()
        self.several = False

    def set_locked(self, members: tuple[Connections, ...]) -> None:
        """Replace the members. The caller holds the lock."""
        self.members = members
        self.several = len(members) > 1
        if members:
            self.max_size = members[0].gate.max_size
        self.serve_locked()

    def serve_locked(self) -> None:
        """Let callers in, first the caller that has waited longest."""
        for gate in self.waiting_locked():
            gate.serve_locked()
        self.tighten_locked()

    def waiting_locked(self) -> list[Gate]:
        """Return the gates with a queue, in the order of their first callers."""
        gates = [each.gate for each in self.members if each.gate.waiters]
        return sorted(gates, key=lambda gate: gate.waits_since())

    def tighten_locked(self) -> None:
        """Tell each gate whether to close connections that return."""
        for member in self.members:
            member.gate.tighten_locked()

    def wants_more_locked(self, gate: Gate) -> bool:
        """True if a connection that returns to `gate` must make room for others."""
        if self.size != self.max_size:
            return self.size > self.max_size
        for each in self.members:
            other = each.gate
            if (
                other.waiters
                and other is not gate
                and not other.barred
                and other.size < other.max_size
            ):
                return True
        return False

    def make_room(self, gate: Gate) -> None:
        """Close an idle connection of another pool, if callers of `gate` need room.

        Take former settings first. May block, as closing does.
        """
        if self.size < self.max_size or gate.size >= gate.max_size or gate.free:
            return
        for member in reversed(self.members):
            if member.gate is not gate and member.shed():
                return
