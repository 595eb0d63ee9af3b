"""`djpool.install()`: pools for a project whose ENGINE stays what it is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.db.utils import ConnectionHandler, load_backend

from djpool.backends import STOCK
from djpool.other_backends import pooled
from djpool.wrapper import PooledWrapper

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_OURS = {stock: f"djpool.backends.{name}" for name, stock in STOCK.items()}


def install() -> None:
    """Pool every alias that has `OPTIONS["pool"]`, whatever its `ENGINE` is.

    For projects with packages that compare `ENGINE` with Django's names. Called in the
    settings module, because a Django connection that was made before stays what it is.
    Calling it again does nothing. Aliases without a pool are what they were.

    Raises:
        ImproperlyConfigured: When an alias is used whose backend cannot be pooled.
    """
    create = ConnectionHandler.create_connection
    if getattr(create, "djpool_installed", False):
        return

    @functools.wraps(create)
    def create_connection(self: ConnectionHandler, alias: str) -> Any:
        settings = self.settings[alias]
        if not settings["OPTIONS"].get("pool"):
            return create(self, alias)
        return _wrapper_for(settings["ENGINE"])(settings, alias)

    create_connection.djpool_installed = True  # type: ignore[attr-defined]
    ConnectionHandler.create_connection = create_connection  # type: ignore[method-assign]


@functools.cache
def _wrapper_for(engine: str) -> type[BaseDatabaseWrapper]:
    wrapper = load_backend(_OURS.get(engine, engine)).DatabaseWrapper
    return wrapper if issubclass(wrapper, PooledWrapper) else pooled(engine)
