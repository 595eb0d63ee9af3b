"""Cursors: they tell what they do to the session, and end with their lease.

A cursor that is kept longer (by a generator, most often, whose request was
cancelled) would otherwise run on a connection that is another's by then, at
whatever moment the garbage collector closes it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import InterfaceError

from djpool.core.owner import current_owner
from djpool.core.session import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.backends.utils import CursorWrapper

    from djpool.wrapper import PooledWrapper

    _Base = CursorWrapper
else:
    _Base = object

# Attributes of a driver's cursor by which one gets at the connection, or which run
# what is not looked at.
REVEALING = frozenset({"connection", "callfunc", "executescript", "stream"})


class TrackedCursor(_Base):
    """Mixed into a Django cursor's class.

    It says what a statement may do to the session before the statement is run, and
    closing it ends its use of the lease.
    """

    cursor: Any
    db: PooledWrapper
    #: Whether nobody has closed it.
    djpool_open = True

    def _execute(self, sql: Any, params: Any, *context: Any) -> Any:
        changes = self.db.djpool_changes
        if changes is not None and (change := changes(sql)):
            self.db.djpool_changed(change, sql, params)
        return super()._execute(sql, params, *context)  # type: ignore[misc]  # the stubs leave it out

    def _executemany(self, sql: Any, param_list: Any, *context: Any) -> Any:
        changes = self.db.djpool_changes
        if changes is not None and (change := changes(sql)):
            self.db.djpool_changed(change, sql, param_list)
        return super()._executemany(sql, param_list, *context)  # type: ignore[misc]

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure. What it does to the session is not to be seen."""
        self.db.djpool_changed(Change.SETTINGS, procname)
        return super().callproc(procname, *args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr in REVEALING and not self.db.djpool_is_insider(sys._getframe(1)):  # noqa: SLF001
            self.db.djpool_changed(Change.UNKNOWN, attr)
        return super().__getattr__(attr)

    def close(self) -> None:
        """Close the driver's cursor; or have that done when the lease ends.

        The latter where another thread closes it than that which has the lease:
        Python's garbage collector, in most cases, with a generator that a cancelled
        request left behind. Closing may speak to the server, and the one who has
        the lease may be doing so at that moment.
        """
        db = self.db
        lease = db.djpool_lease
        foreign = lease is not None and lease.owner is not current_owner()
        self.djpool_open = False
        try:
            if foreign and not db.allow_thread_sharing:
                db.djpool_abandoned.append(self.cursor)
                self.cursor = ENDED
            else:
                self.cursor.close()
        finally:
            # Not before: until then the connection is in use.
            db.djpool_cursors.discard(self)
            if db.djpool_early:
                if foreign and lease is not None:
                    lease.pool.nudge()  # who has the lease may be amid something
                else:
                    db.djpool_rest()

    def __del__(self) -> None:
        # Runs anywhere. It was its lease's last one, perhaps; whoever can, looks.
        lease = self.db.djpool_lease
        if self.djpool_open and self.db.djpool_early and lease is not None:
            lease.pool.nudge()


class OpenCursors:
    """The cursors of a lease that nobody has closed, as long as somebody has them.

    A `weakref.WeakSet` would do, at several times the cost for each statement.
    """

    __slots__ = ("_refs",)

    def __init__(self) -> None:
        self._refs: set[weakref.ref[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._refs)

    def __iter__(self) -> Iterator[Any]:
        found = (ref() for ref in list(self._refs))
        return (cursor for cursor in found if cursor is not None)

    def add(self, cursor: Any) -> None:
        """Contain it from now on."""
        self._refs.add(weakref.ref(cursor, self._refs.discard))

    def discard(self, cursor: Any) -> None:
        """Contain it no more."""
        self._refs.discard(weakref.ref(cursor))


@functools.cache
def _tracked(kind: Any) -> Any:
    return type(kind.__name__, (TrackedCursor, kind), {"__module__": kind.__module__})


def track(cursor: CursorWrapper, cursors: OpenCursors) -> None:
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
