"""One borrowed connection, from `acquire()` until it goes back."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djpool.core.pool import Pool
    from djpool.core.slot import Slot


class Lease:
    """The use of one connection; as a context manager it releases at the end.

    `connection` is the driver's own object, None once the lease has ended.

    Its slot is its token: whoever pops it ends the lease, its owner or somebody
    who takes the connection back. The other one finds nothing to pop, so
    `release()` and `discard()` of an ended lease do nothing. Thread-safe.
    """

    __slots__ = ("__weakref__", "_pool", "_token", "connection")

    def __init__(self, pool: Pool, slot: Slot, connection: Any) -> None:
        self._pool = pool
        self._token = [slot]  # list.pop() is atomic: the one step that decides
        self.connection: Any = connection

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
        self.connection = None
        self._pool.take_back(slot)

    def discard(self) -> None:
        """Close the connection instead of giving it back. Never raises."""
        try:
            slot = self._token.pop()
        except IndexError:
            return
        self.connection = None
        self._pool.throw_away(slot)

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
        self.release()
