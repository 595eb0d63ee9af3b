"""Cursors end with the lease that they were made on.

A cursor that is kept longer (by a generator, most often, whose request was
cancelled) would otherwise run on a connection that is another's by then, at
whatever moment the garbage collector closes it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import InterfaceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.utils import CursorWrapper


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


def end(cursors: Iterable[CursorWrapper]) -> None:
    """Close cursors that are still open, and make sure that they never run again."""
    for cursor in cursors:
        driver_s: Any = cursor.cursor
        cursor.cursor = ENDED
        # One that was closed already says so, or not; and a broken connection
        # is found out by who takes it back.
        with contextlib.suppress(Exception):
            driver_s.close()
