"""The pools of one alias: one for its settings, and what is left of former ones.

They share one limit, which is the `max_size` of the first of them, and one lock, so
that what is counted for all of them is of one moment. Who waits in one of them can be
let in when another one gives something up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from djpool.core.stats import Counters

if TYPE_CHECKING:
    from djpool.core.connections import Connections
    from djpool.core.gate import Gate

# While callers of one pool need what another one has, how often the first of them
# looks for it. It is told as a rule, but what is laid down without a lock says nothing.
LOOK_AROUND = 0.1


def _nothing() -> None:
    """There are no settings to compare with."""


class Family:
    """Pools of one alias, the one for its present settings first. Most often one.

    `lock` guards everything; it is the lock of each gate. The tuple is replaced, never
    changed, so that it can be read without it.
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
        #: What the pools that have gone had counted.
        self.past = Counters()
        #: Compares the pools with the settings. May not be called with a lock held.
        self.review: Callable[[], object] = _nothing

    @property
    def reviewed(self) -> bool:
        """Whether there are settings to compare with."""
        return self.review is not _nothing

    def after_fork(self) -> None:
        """In a forked child: no pool has this one any more. Takes no lock."""
        self.lock = threading.RLock()
        self.members = ()
        self.several = False

    def set_locked(self, members: tuple[Connections, ...]) -> None:
        """These are the pools from now on. The caller holds the lock."""
        self.members = members
        self.several = len(members) > 1
        if members:
            self.max_size = members[0].gate.max_size
        self.serve_locked()

    def serve_locked(self) -> None:
        """Let in whoever can be let in, first those who have waited longest."""
        for gate in self.waiting_locked():
            gate.serve_locked()
        self.tighten_locked()

    def waiting_locked(self) -> list[Gate]:
        """The gates with a queue, in the order in which the first one came."""
        gates = [each.gate for each in self.members if each.gate.waiters]
        return sorted(gates, key=lambda gate: gate.waits_since())

    def tighten_locked(self) -> None:
        """Have each gate know whether what comes back to it is surplus."""
        for member in self.members:
            member.gate.tighten_locked()

    def wants_more_locked(self, gate: Gate) -> bool:
        """Whether what comes back to `gate` had better be closed for another pool."""
        if self.size < self.max_size:
            return False
        return self.size > self.max_size or any(
            each.gate.waiters
            and each.gate is not gate
            and not each.gate.barred
            and each.gate.size < each.gate.max_size
            for each in self.members
        )

    def make_room(self, gate: Gate) -> None:
        """Close what lies idle in another pool, if the callers of `gate` need the room.

        One connection at a time, of former settings first. May block, as closing does.
        """
        if self.size < self.max_size or gate.size >= gate.max_size or gate.free:
            return
        for member in reversed(self.members):
            if member.gate is not gate and member.shed():
                return
