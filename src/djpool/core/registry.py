"""All pools of this process: one for each identity, made once, closed at exit.

An identity is what a connection *is* (alias, backend, parameters). When it
changes, as it does between a database and its test database, the alias gets
another pool; connections to the one never serve the other.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Any

from djpool.core.immortal import keep_for_ever
from djpool.core.keeper import Keeper
from djpool.core.pool import Pool


class Registry:
    """Finds or makes the pool of an alias and identity. Thread-safe."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        # Guards changes of _pools, whose values are replaced, never changed: a
        # reader needs no lock. Making a pool connects to nothing. Handlers of signals
        # may come here, too.
        self._lock = threading.RLock()
        self._pools: dict[str, tuple[tuple[Any, Pool], ...]] = {}
        atexit.register(self.close_all)
        os.register_at_fork(after_in_child=self.after_fork_in_child)

    def find(self, alias: str, identity: Any) -> Pool | None:
        """The pool of `alias` for this identity, if it was made already."""
        for known, pool in self._pools.get(alias, ()):
            if known == identity:
                return pool
        return None

    def make(self, alias: str, identity: Any, make: Callable[[Keeper], Pool]) -> Pool:
        """The pool of `alias` for this identity, made by `make` if there is none."""
        with self._lock:
            pool = self.find(alias, identity)
            if pool is None:
                made = make(self.keeper)
                pool = self.find(alias, identity)  # a handler may have made one
            if pool is None:
                pool, pools = made, self._pools.get(alias, ())
                self._pools[alias] = ((identity, pool), *pools)
            return pool

    def current(self) -> dict[str, Pool]:
        """For each alias that has pools, the one made last."""
        return {alias: pools[0][1] for alias, pools in self._pools.items() if pools}

    def every(self) -> list[Pool]:
        """All pools: an alias whose settings changed has several."""
        pools = list(self._pools.values())
        return [pool for each in pools for _identity, pool in each]

    def close(self, alias: str, timeout: float = 0.0) -> None:
        """Close the pools of `alias` and forget them; the next use makes a new one.

        Waits up to `timeout` seconds for the leases of each to end.
        """
        with self._lock:
            pools = self._pools.pop(alias, ())
        for _identity, pool in pools:
            pool.close(timeout)
            self.keeper.see_off(pool)

    def close_all(self, timeout: float = 0.0) -> None:
        """Close every pool and forget them, as `close()` does. Also called at exit."""
        for alias in list(self._pools):
            self.close(alias, timeout)

    def after_fork_in_child(self) -> None:
        """Forget the parent's pools. Python calls this in every child of its own."""
        # Threads other than this one are gone, and locks may be held for ever.
        for pool in {*self.every(), *self.keeper.closing}:
            for each in pool.after_fork():
                keep_for_ever(each)
        self.keeper.after_fork()
        keep_for_ever(self.keeper)
        self._lock = threading.RLock()
        self._pools = {}
        self.keeper = Keeper()
