"""What receivers of `connection_created` put on the Django connection they are given.

Packages put functions into `connection.execute_wrappers` there (a read-only switch, a
tracer, a query rewriter), or attributes of their own, and expect them on every Django
connection. djpool sends the signal once for each physical connection, with a Django
connection that nobody uses afterwards. So what was put on that one is put on each
Django connection that leases: once, and in the same order.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.backends.dummy.base import DatabaseWrapper as DummyWrapper

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

# What every Django connection has, and what Django itself writes there. The last djpool
# writes, while it opens a connection.
DJANGO_S_OWN = frozenset({*vars(DummyWrapper({}, "")), "ensure_connection"})


class Hooks(NamedTuple):
    """What was put on one Django connection, to be put on others."""

    attributes: dict[str, Any]
    execute_wrappers: tuple[Any, ...]
    force_debug_cursor: bool

    def put_on(self, wrapper: BaseDatabaseWrapper) -> None:
        """Put them on a Django connection; what it has already stays."""
        present = vars(wrapper)
        for name, value in self.attributes.items():
            if isinstance(value, MethodType):
                # Of the Django connection that nobody uses.
                value = MethodType(value.__func__, wrapper)  # noqa: PLW2901
            present.setdefault(name, value)
        # They stand in front of what the project has put there. A block of Django's
        # `execute_wrapper()` takes the last wrapper off when it ends. If the lease
        # began inside the block, a hook in the last place would be taken off for good.
        place = 0
        for each in self.execute_wrappers:
            if each in wrapper.execute_wrappers:
                place = wrapper.execute_wrappers.index(each) + 1
            else:
                wrapper.execute_wrappers.insert(place, each)
                place += 1
        if self.force_debug_cursor:
            wrapper.force_debug_cursor = True


NONE = Hooks({}, (), force_debug_cursor=False)


def is_ours(name: str) -> bool:
    """True for an attribute that Django or djpool writes itself."""
    return name in DJANGO_S_OWN or name.lstrip("_").startswith("djpool")


def written_since(
    before: dict[str, Any], already: tuple[Any, ...], wrapper: BaseDatabaseWrapper
) -> Hooks:
    """What was put on a Django connection since it had these attributes and wrappers.

    Values that are bound to it, other than its own methods, are left out: on another
    Django connection they would lead to this one.
    """
    attributes = {
        name: value
        for name, value in vars(wrapper).items()
        if not is_ours(name) and name not in before and _is_free(value, wrapper)
    }
    wrappers = tuple(each for each in wrapper.execute_wrappers if each not in already)
    return Hooks(attributes, wrappers, bool(wrapper.force_debug_cursor))


def _is_free(value: Any, wrapper: BaseDatabaseWrapper) -> bool:
    if value is wrapper:
        return False
    owner = getattr(value, "__self__", None)
    return owner is not wrapper or isinstance(value, MethodType)
