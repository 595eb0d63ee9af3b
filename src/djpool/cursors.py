"""Cursors end with the lease that they were made on.

A cursor that is kept longer (by a generator, most often, whose request was
cancelled) would otherwise run on a connection that is another's by then, at
whatever moment the garbage collector closes it.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import InterfaceError

from djpool.core.owner import current_owner

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterable

    from django.db.backends.utils import CursorWrapper


class TrackedCursor:
    """Mixed into a Django cursor's class: closing it ends its use of the lease."""

    cursor: Any
    db: Any

    def close(self) -> None:
        """Close the driver's cursor; or have that done when the lease ends.

        The latter where another thread closes it than that which has the lease:
        Python's garbage collector, in most cases, with a generator that a cancelled
        request left behind. Closing may speak to the server, and the one who has
        the lease may be doing so at that moment.
        """
        db, lease = self.db, self.db.djpool_lease
        foreign = lease is not None and lease.owner is not current_owner()
        if foreign and not db.allow_thread_sharing:
            db.djpool_abandoned.append(self.cursor)
            self.cursor = ENDED
        else:
            self.cursor.close()
        # Not before: until then the connection is in use.
        db.djpool_cursors.discard(self)


@functools.cache
def _tracked(kind: Any) -> Any:
    return type(kind.__name__, (TrackedCursor, kind), {"__module__": kind.__module__})


def track(cursor: CursorWrapper, cursors: weakref.WeakSet[CursorWrapper]) -> None:
    """Have `cursors` contain the cursor until it is closed, or forgotten."""
    # Its class is the backend's choice, and so extended afterwards.
    kind: Any = type(cursor)
    cursor.__class__ = _tracked(kind)
    cursors.add(cursor)


class EndedCursor:
    """What stands in a Django cursor in place of the driver's, after the lease."""

    closed = True  # as psycopg says it

    def close(self) -> None:
        """Does nothing: it was closed when its lease ended."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InterfaceError(
            f"cursor.{name}: this cursor is closed, because the connection that it "
            "was made on has gone back to the pool"
        )

    def __iter__(self) -> NoReturn:
        self.__getattr__("__iter__")


ENDED = EndedCursor()


def end(cursors: Iterable[CursorWrapper], abandoned: Iterable[Any]) -> None:
    """Close cursors that are still open, and make sure that they never run again.

    `abandoned` are the driver's own that are to be closed with them.
    """
    for driver_s in (*cut_off(cursors), *abandoned):
        # A broken connection is found out by who takes it back.
        with contextlib.suppress(Exception):
            driver_s.close()


def cut_off(cursors: Iterable[CursorWrapper]) -> list[Any]:
    """Make sure that cursors never run again; the driver's own, still open."""
    found: list[Any] = []
    for cursor in list(cursors):
        found.append(cursor.cursor)
        cursor.cursor = ENDED
    return found
