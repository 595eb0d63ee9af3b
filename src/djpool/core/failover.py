"""A server that steps down is left at once, with all connections to it."""

from __future__ import annotations

import logging

from djpool.core.connections import Connections
from djpool.core.errors import in_one_line
from djpool.core.slot import EVICTED, Entry

logger = logging.getLogger("djpool.pool")

# After all connections were replaced because their server stepped down: seconds in
# which the same costs only the connection that meets it.
EVICTION_PAUSE = 10.0


class Failover:
    """Hears what statements fail of. Thread-safe."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        # When a server that steps down may cost all connections again. Guarded by the
        # gate's lock.
        self._evicts_again_at = float("-inf")

    def notice(self, entry: Entry, error: BaseException) -> None:
        """A statement failed on this connection. Leave its server, if it says so.

        Then this connection, and all that were opened before this moment, are
        replaced. What is opened from now on, and meets the same, is a case of its
        own: either the server has not moved yet, or the session made itself
        read-only. Such a connection is replaced alone until some time has passed.
        """
        connections = self._connections
        if entry.expires_at == EVICTED or not connections.driver.stepped_down(error):
            return
        if entry.changed:
            return  # perhaps it made itself read-only, and that ends with the lease
        now = connections.clock()
        with connections.gate.lock:
            entry.expires_at = EVICTED
            if now < self._evicts_again_at:
                return
            self._evicts_again_at = now + EVICTION_PAUSE
            count = connections.evict_locked()
        connections.sweep_at = now
        logger.warning(
            "pool %r: the server is read-only or shuts down, so all connections to "
            "it (%d) are replaced: %s",
            connections.name,
            count,
            in_one_line(error),
        )
        connections.nudge()  # the keeper closes those that are idle
