"""Kinds of session state, for each database: how to set each, and how to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


class Kind(NamedTuple):
    """One kind of session state."""

    name: str
    #: Changes it: a statement, or what does it with a Django connection.
    change: str | Callable[[Any], object]
    #: What it is now: a query, or what tells it of a Django connection.
    look: str | Callable[[Any], object]
    #: Whether it can be brought back; if not, the connection is closed.
    survives: bool = True
    #: What engines it is for: the start of their names.
    only: tuple[str, ...] = ("",)

    def do(self, wrapper: BaseDatabaseWrapper) -> None:
        """Change it."""
        if isinstance(self.change, str):
            run(wrapper, self.change)
        else:
            self.change(wrapper)

    def seen(self, wrapper: BaseDatabaseWrapper) -> object:
        """What it is now."""
        if isinstance(self.look, str):
            return run(wrapper, self.look)
        return self.look(wrapper)


def run(wrapper: BaseDatabaseWrapper, statement: str, params: Any = None) -> list[Any]:
    """Run a statement, and give its rows, if there are any."""
    with wrapper.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall()) if cursor.description else []


Do = Callable[[Any], object]


def attribute(name: str, value: Any) -> tuple[Do, Do]:
    """How to set an attribute of the driver's connection, and how to see it."""

    def change(wrapper: Any) -> None:
        wrapper.ensure_connection()
        setattr(wrapper.connection, name, value)

    def look(wrapper: Any) -> object:
        wrapper.ensure_connection()
        # Not by `connection`, where a look counts as a change.
        return getattr(wrapper.djpool_lease.connection, name)

    return change, look
