"""All pools of this process: one for each identity, made once, closed at exit.

An identity is what a connection *is* (alias, backend, parameters). When it
changes, as it does between a database and its test database, the alias gets
another pool; connections to the one never serve the other. The pool of the former
identity is left: it serves whoever has that still, keeps nothing open for long, and
goes when it is empty.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from djpool.core.family import Family
from djpool.core.immortal import keep_for_ever
from djpool.core.keeper import Keeper
from djpool.core.pool import Pool

# Seconds between two looks for aliases that are no more, when pools are made.
LOOK_ROUND = 10.0
# For so many seconds at most the process's end waits for the upkeep's.
_EXIT_SECONDS = 0.3

Pools = tuple[tuple[Any, Pool], ...]


class Registry:
    """Finds or makes the pool of an alias and identity. Thread-safe."""

    def __init__(self, begins: Callable[[], None] | None = None) -> None:
        """`begins` is called when the upkeep starts, in its thread; it never raises."""
        self._begins = begins
        self.keeper = Keeper(begins)
        # Guards changes of _pools, whose values are replaced, never changed: a
        # reader needs no lock. Handlers of signals may come here, too.
        self._lock = threading.RLock()
        # The one for the present settings comes first.
        self._pools: dict[str, Pools] = {}
        self._families: dict[str, Family] = {}
        self._look_round_at = float("-inf")
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=self.after_fork_in_child)

    def find(self, alias: str, identity: Any) -> Pool | None:
        """The pool of `alias` for this identity, if it was made already."""
        for known, pool in self._pools.get(alias, ()):
            if known == identity:
                return pool
        return None

    def family(self, alias: str) -> Family:
        """What the pools of `alias` share, for making one."""
        with self._lock:
            family = self._families.get(alias)
            if family is None:
                family = Family()
                family.review = functools.partial(self.review, alias)
                family = self._families.setdefault(alias, family)
            return family

    def make(self, alias: str, identity: Any, make: Callable[[Keeper], Pool]) -> Pool:
        """The pool of `alias` for this identity, made by `make` if there is none.

        Several threads may come here at once, and each make one: `make` is called
        without a lock, because it may import what the project has named. One of the
        pools is for all of them.
        """
        pool = self.find(alias, identity)
        while pool is None:
            family = self.family(alias)
            made = make(self.keeper)
            gone: list[Pool] = []
            with self._lock:
                pool = self.find(alias, identity)
                # If not, `close()` came meanwhile, and its family is no more.
                if pool is None and self._families.get(alias) is family:
                    pool = made
                    gone = self._arrange_locked(alias, (identity, pool))
            if pool is not made:
                made.clean_up()
            self._clean_up(gone)
            if pool is not None:
                pool.begin()
        self._look_round()
        return pool

    def review(self, alias: str) -> None:
        """Compare the pools of `alias` with its settings; leave what is not wanted."""
        with self._lock:
            gone = self._arrange_locked(alias)
        self._clean_up(gone)

    def _look_round(self) -> None:
        """Review aliases that are no more, whose pools may have no upkeep."""
        now = time.monotonic()
        if now < self._look_round_at:
            return
        self._look_round_at = now + LOOK_ROUND
        for alias, pools in list(self._pools.items()):
            if any(_judge(pool) is None for _identity, pool in pools):
                self.review(alias)

    def _arrange_locked(
        self, alias: str, newcomer: tuple[Any, Pool] | None = None
    ) -> list[Pool]:
        """Put the pool for the present settings first, and leave the other ones.

        Where no pool is for what the settings say, the one made last stays the first:
        a Django connection may be given settings of its own. Returns the pools that
        have gone.
        """
        while True:
            before = self._pools.get(alias, ())
            every = before if newcomer is None else (newcomer, *before)
            if not every:
                return []
            judged = [(each, _judge(each[1])) for each in every]
            wanted = [each for each, verdict in judged if verdict]
            first = wanted[0] if wanted else every[0]
            left = [
                each[1]
                for each, verdict in judged
                if verdict is not True
                and (verdict is None or each is not first or each[1].listed)
                and each[1].wanted is not None
            ]
            if newcomer is None:
                gone = [pool for pool in left if pool.has_gone()]
            else:
                gone = []
            after = tuple(
                each
                for each in (first, *(each for each in every if each is not first))
                if each[1] not in gone
            )
            # A handler of a signal may have come here meanwhile.
            if self._pools.get(alias, ()) is before:
                self._pools[alias] = after
                break
        try:
            self._settle_locked(alias, before, newcomer, left, gone)
        except BaseException:
            # It struck amid the steps, which may all be taken twice.
            self._settle_locked(alias, before, newcomer, left, gone)
            raise
        return gone

    def _settle_locked(
        self,
        alias: str,
        before: Pools,
        newcomer: tuple[Any, Pool] | None,
        left: list[Pool],
        gone: list[Pool],
    ) -> None:
        """Tell pools what they are from now on."""
        pools = self._pools.get(alias, ())
        family = self._families.get(alias)
        if pools:
            first = pools[0][1]
            if first not in left:
                first.come_back()
            if before and (former := before[0][1]) not in (first, *gone):
                first.succeed(former)
            if newcomer is not None and newcomer[1] is not first:
                newcomer[1].succeed(first)
        for pool in left:
            pool.leave()
        if family is None:
            return
        with family.lock:
            for pool in gone:
                family.past.absorb(pool.connections.gate.counters)
            family.set_locked(
                tuple(
                    pool.connections
                    for _, pool in self._pools.get(alias, ())
                    if pool.family is family
                )
            )
        if not pools and all(_judge(pool) is None for pool in gone):
            self._pools.pop(alias, None)
            self._families.pop(alias, None)

    def _clean_up(self, gone: list[Pool]) -> None:
        for pool in gone:
            pool.clean_up()

    def current(self) -> dict[str, Pool]:
        """For each alias that has pools, the one for its present settings."""
        pools = list(self._pools.items())
        return {alias: each[0][1] for alias, each in pools if each}

    def every(self) -> list[Pool]:
        """All pools: an alias whose settings have just changed has several."""
        pools = list(self._pools.values())
        return [pool for each in pools for _identity, pool in each]

    def close(self, alias: str, timeout: float = 0.0) -> None:
        """Close the pools of `alias` and forget them; the next use makes a new one.

        Waits up to `timeout` seconds for the leases of each to end.
        """
        with self._lock:
            pools = self._pools.pop(alias, ())
            self._families.pop(alias, None)
        for _identity, pool in pools:
            pool.close(timeout)
            self.keeper.see_off(pool)

    def close_all(self, timeout: float = 0.0) -> None:
        """Close every pool and forget them, as `close()` does."""
        for alias in {*list(self._pools), *list(self._families)}:
            self.close(alias, timeout)

    def _at_exit(self) -> None:
        self.keeper.stop()
        self.close_all()
        self.keeper.end(_EXIT_SECONDS)

    def after_fork_in_child(self) -> None:
        """Forget the parent's pools. Python calls this in every child of its own."""
        # Threads other than this one are gone, and locks may be held for ever.
        for family in self._families.values():
            family.after_fork()
        for pool in {*self.every(), *self.keeper.closing}:
            for each in pool.after_fork():
                keep_for_ever(each)
        self.keeper.after_fork()
        keep_for_ever(self.keeper)
        self._lock = threading.RLock()
        self._pools = {}
        self._families = {}
        self.keeper = Keeper(self._begins)


def _judge(pool: Pool) -> bool | None:
    """Whether the settings are those of the pool; None if its alias is no more."""
    if pool.wanted is None:
        return False
    verdict = pool.wanted()
    if verdict:
        pool.listed = True
    return verdict
