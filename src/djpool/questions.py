"""What Django's backends ask of the driver's connection itself, without a cursor.

A backend's features, operations and schema editor read `connection.connection`. With
`release: "transaction"` there is no lease between two statements. Even if the backend
has connected just before, another thread may have taken the lease by then. So a lease
lasts as long as the question.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

# What asks, in Django's own backends and those that build on them.
FEATURES = ("max_query_params",)
OPERATIONS = ("last_executed_query",)
EDITOR = ("quote_value",)

Asking = TypeVar("Asking", bound=type[Any])


def with_a_lease(base: Asking, names: tuple[str, ...]) -> Asking:
    """Return `base` with a lease for each of these questions; or itself, if so already.

    Its objects have the Django connection in `connection`.
    """
    if getattr(base, "djpool_asks", False):
        return base
    attributes: dict[str, Any] = {"__module__": base.__module__, "djpool_asks": True}
    for name in names:
        asks = getattr(base, name)
        if isinstance(asks, property) and asks.fget is not None:
            attributes[name] = property(_method(asks.fget), doc=asks.__doc__)
        elif callable(asks):
            attributes[name] = _method(asks)
        # Others are constants, as most are in most versions of Django.
    return type(base.__name__, (base,), attributes)  # type: ignore[return-value]


def _method(asks: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(asks)
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.connection.djpool_ask(asks, self, *args, **kwargs)

    return ask
