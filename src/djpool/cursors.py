"""Cursors: they tell what they do to the session, and end with their lease.

A cursor that is kept longer (by a generator, most often, whose request was
cancelled) would otherwise run on a connection that is another's by then, at
whatever moment the garbage collector closes it.

What counts is the driver's cursor, and not the Django cursor around it. Toolbars,
query loggers and query builders take the one out of the other and put it into a
Django cursor of their own, of which djpool never hears.
"""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import InterfaceError

from djpool.core.collecting import COLLECTING, is_collecting
from djpool.core.owner import current_owner
from djpool.core.session import Change, Trace
from djpool.onlookers import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.utils import CursorWrapper

    from djpool.core.lease import Lease
    from djpool.wrapper import PooledWrapper

    _Base = CursorWrapper
else:
    _Base = object

# A plain integer, because operations on enums take a microsecond.
OPENS = int(Trace.OPENS)
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
    #: True until this object, and not another one around its driver's cursor, was
    #: closed.
    djpool_open = True

    def _execute(self, sql: Any, params: Any, *context: Any) -> Any:
        run = super()._execute  # type: ignore[misc]  # the stubs leave it out
        db = self.db
        if id(self.cursor) not in db.djpool_cursors:
            self._djpool_gone()
        if verdict := db.djpool_judge(sql):
            db.djpool_judged(verdict, sql, params)
        db.djpool_told = True
        if db.djpool_tell is None:
            answer = run(sql, params, *context)
        else:
            answer = self._djpool_tell(verdict, run, sql, params, *context)
        if verdict:
            db.djpool_leaves(verdict, sql, self.cursor)  # not if it has failed
        return answer

    def _executemany(self, sql: Any, param_list: Any, *context: Any) -> Any:
        run = super()._executemany  # type: ignore[misc]
        db = self.db
        if id(self.cursor) not in db.djpool_cursors:
            self._djpool_gone()
        if verdict := db.djpool_judge(sql):
            db.djpool_judged(verdict, sql, param_list)
        db.djpool_told = True
        if db.djpool_tell is None:
            answer = run(sql, param_list, *context)
        else:
            answer = self._djpool_tell(verdict, run, sql, param_list, *context)
        if verdict and param_list:  # else the driver runs nothing
            db.djpool_leaves(verdict, sql, self.cursor)
        return answer

    def _djpool_tell(self, verdict: int, run: Callable[..., Any], *args: Any) -> Any:
        """Run a statement, and tell the driver what is known of its text."""
        tell, lease = self.db.djpool_tell, self.db.djpool_lease
        assert tell is not None, "only then is this called"
        assert lease is not None, "it is told of leased connections only"
        raw = lease.connection
        tell(raw, known=not verdict & OPENS)
        try:
            return run(*args)
        finally:
            tell(raw, known=False)

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure. What it does to the session is not to be seen."""
        if id(self.cursor) not in self.db.djpool_cursors:
            self._djpool_gone()
        self.db.djpool_changed(Change.SETTINGS, procname)
        self.db.djpool_leaves_all()
        self.db.djpool_told = True
        return super().callproc(procname, *args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if id(self.cursor) not in self.db.djpool_cursors and self.djpool_open:
            if attr == "closed":  # as psycopg says it
                return True
            self._djpool_raise()
        found = super().__getattr__(attr)
        if attr.startswith("copy"):  # rows into a table, unseen
            self.db.djpool_leaves_all()
        if attr in REVEALING and not self.db.djpool_is_insider(sys._getframe(1)):  # noqa: SLF001
            lease = self.db.djpool_lease
            if attr == "connection" and lease is not None and lease.pool.looks:
                return StandIn(found, self.db)
            self.db.djpool_changed(Change.UNKNOWN, attr)
        return found

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows.

        Django's own hands the iteration over to the driver's cursor. Python then
        closes that cursor when the generator is dropped, in whichever thread drops
        it. A chain has nothing to close.
        """
        if id(self.cursor) not in self.db.djpool_cursors:
            self._djpool_gone()
        try:
            yield from chain(self.cursor)
        except GeneratorExit:
            raise
        except BaseException:
            if id(self.cursor) not in self.db.djpool_cursors:
                self._djpool_raise()
            with self.db.wrap_database_errors:
                raise

    def close(self) -> None:
        """Close the driver's cursor; or have that done when the lease ends.

        The latter if another thread closes it than the thread that has the lease, or
        Python's garbage collector does, with a generator that a cancelled request left
        behind. Closing may speak to the server, and the owner of the lease may be
        doing so at that moment. After an interruption it might also wait for an answer
        that never comes.
        """
        db, driver_s = self.db, self.cursor
        was_open, self.djpool_open = self.djpool_open, False
        if id(driver_s) not in db.djpool_cursors:
            if was_open:
                self.cursor = ENDED  # its lease has ended, and it with the lease
            return
        lease, entry = db.djpool_lease, db.djpool_entry
        if lease is not None and entry is not None:
            here = lease.owner is current_owner()
            foreign = not (here or db.allow_thread_sharing)
            if foreign or entry.calls or (COLLECTING and is_collecting()):
                del driver_s
                self._djpool_abandon(lease, here=here)
                return
        try:
            if entry is None:
                driver_s.close()
            else:
                entry.calls += 1
                driver_s.close()
                entry.calls -= 1
        except Exception as error:
            # Not translated, as Django does not translate it.
            if lease is not None and entry is not None and lease.pool.answered(error):
                entry.calls -= 1
            raise
        finally:
            # Not before: until then the connection is in use.
            db.djpool_cursors.pop(id(driver_s), None)
            if db.djpool_early:
                db.djpool_rest()

    def _djpool_abandon(self, lease: Lease, *, here: bool) -> None:
        """Leave the driver's cursor to the end of the lease. `here` is its thread."""
        db, key, self.cursor = self.db, id(self.cursor), ENDED
        db.djpool_cursors.forget(key, here=here)
        if not db.djpool_early:
            return
        if here and not COLLECTING:
            db.djpool_rest()
        else:
            lease.pool.nudge()

    def __del__(self) -> None:
        if self.djpool_open and _ends is not None and not _ends():
            _forget(vars(self))

    def _djpool_gone(self) -> None:
        """Raise if the driver's cursor went with its lease, and was not closed here."""
        if self.djpool_open or self.cursor is ENDED:
            self._djpool_raise()

    def _djpool_raise(self) -> NoReturn:
        raise InterfaceError(
            "this cursor is closed, because the connection that it was made on has "
            "gone back to the pool"
        )


class FetchingCursor(TrackedCursor):
    """A tracked cursor whose class leaves fetching to `__getattr__()`, as Django's do.

    The same without the detour, which takes longer than many a row.
    """

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        if id(self.cursor) not in self.db.djpool_cursors:
            self._djpool_gone()
        with self.db.wrap_database_errors:
            return self.cursor.fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next rows."""
        if id(self.cursor) not in self.db.djpool_cursors:
            self._djpool_gone()
        with self.db.wrap_database_errors:
            return self.cursor.fetchmany(*args, **kwargs)

    def fetchall(self) -> Any:
        """Return all rows that are left."""
        if id(self.cursor) not in self.db.djpool_cursors:
            self._djpool_gone()
        with self.db.wrap_database_errors:
            return self.cursor.fetchall()


# None at the very end, when Python clears modules.
_ends: Callable[[], bool] | None = sys.is_finalizing


def _forget(attributes: dict[str, Any]) -> None:
    """A Django cursor is collected that nobody closed. Runs anywhere: no locks.

    Another Django cursor may have the driver's cursor by now.
    """
    db: PooledWrapper | None = attributes.get("db")
    if db is None:
        return  # it was never finished
    key = id(attributes.pop("cursor", None))
    lease = db.djpool_lease
    here = lease is not None and lease.owner is current_owner()
    db.djpool_cursors.forget(key, here=here)
    if db.djpool_early and lease is not None:
        lease.pool.nudge()  # it was perhaps the last one


# The number of references to an object that only a dictionary has, as the functions
# below count them; None if this Python does not count them.
_count: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)
_example = {0: object()}
_ALONE = _count(_example[0]) if _count is not None else 0


def _is_alone(holders: dict[Any, Any], key: Any) -> bool:
    """True if nothing but that dictionary is known to refer to the object."""
    return _count is not None and _count(holders[key]) <= _ALONE


class OpenCursors(dict[int, Any]):
    """The driver's cursors of one lease that djpool has not seen closed, by `id()`.

    They are referred to from here, so none of them is finalised in a thread that
    does not have the lease. A cursor to which nothing else refers is in nobody's use;
    on a Python that does not count references, each is in use until the lease ends.

    Only the thread that has the lease adds and closes. Any thread may look. It is a
    dictionary because each statement adds, asks and removes.
    """

    __slots__ = ()

    def forget(self, key: int, *, here: bool) -> None:
        """A Django cursor around it is no more. `here` is the lease's own thread.

        If nothing else refers to the driver's cursor, it is finalised at once, as
        it would be without djpool. For SQLite that ends a read. Cursors whose
        finaliser might speak to the server stay until they can be closed.
        """
        try:
            if here and self._is_forgotten(key) and not _speaks(self[key]):
                self.pop(key, None)
        except KeyError:
            pass  # the lease ends in another thread

    def in_use(self) -> bool:
        """True if one of them is open, and something refers to it."""
        for key in list(self):
            try:
                if not self._is_forgotten(key) and not self._is_closed(key):
                    return True
            except KeyError:
                continue
        return False

    def end(self) -> bool:
        """Close all that are left, for good; True if each was closed.

        Only for the thread that ends the lease.
        """
        closed = True
        while self:
            try:
                _key, driver_s = self.popitem()
            except KeyError:
                break
            closed = _close(driver_s) and closed
        return closed

    def cut_off(self) -> list[Any]:
        """Make sure that they never run again; returns them, still open."""
        left = list(self.values())
        self.clear()
        return left

    def close_forgotten(self) -> None:
        """Close those that nobody will, but not the ones on the server."""
        for key in list(self):
            try:
                if self._is_closed(key):
                    del self[key]
                elif self._is_forgotten(key) and not _is_named(self[key]):
                    _close(self.pop(key))
            except KeyError:
                continue  # the garbage collector came, and `forget()` took it out

    def _is_forgotten(self, key: int) -> bool:
        if not _is_alone(self, key):
            return False
        # Backends put the driver's cursor into one of their own.
        inner = getattr(self[key], "__dict__", {})
        return "cursor" not in inner or _is_alone(inner, "cursor")

    def _is_closed(self, key: int) -> bool:
        return getattr(self[key], "closed", False) is True


def _is_named(driver_s: Any) -> bool:
    """True for a cursor on the server, which psycopg and psycopg2 give a name."""
    return getattr(driver_s, "name", None) is not None


def _speaks(driver_s: Any) -> bool:
    """True if its end may need a word to the server."""
    return _is_named(driver_s) or hasattr(driver_s, "cursor")


def _close(driver_s: Any) -> bool:
    try:
        driver_s.close()
    except Exception:  # noqa: BLE001 (each driver has its own)
        return False
    return True


# The class of a tracked cursor, by the backend's own.
_classes: dict[Any, Any] = {}


def _tracked(kind: Any) -> Any:
    own = any(hasattr(kind, name) for name in ("fetchone", "fetchmany", "fetchall"))
    mixin = TrackedCursor if own else FetchingCursor
    return type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})


def track(cursor: CursorWrapper, cursors: OpenCursors) -> None:
    """Have `cursors` contain the driver's cursor that a Django cursor was made for."""
    # Its class is the backend's choice, and so extended afterwards.
    kind: Any = type(cursor)
    try:
        cursor.__class__ = _classes[kind]
    except KeyError:
        cursor.__class__ = _classes[kind] = _tracked(kind)
    if cursors:
        cursors.close_forgotten()
    driver_s = cursor.cursor
    cursors[id(driver_s)] = driver_s


class EndedCursor:
    """What stands in a Django cursor in place of the driver's, after its end."""

    closed = True  # as psycopg says it

    def close(self) -> None:
        """Does nothing: it was closed when its lease ended, or will be."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InterfaceError(
            f"cursor.{name}: this cursor is closed, because the connection that it "
            "was made on has gone back to the pool"
        )

    def __iter__(self) -> NoReturn:
        self.__getattr__("__iter__")


ENDED = EndedCursor()
