"""Tests: databases that cannot be dropped while a pool is in them, apps on the fly."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.signals import connection_created

from djpool import config

if TYPE_CHECKING:
    from django.db.backends.base.creation import BaseDatabaseCreation

    _Base = BaseDatabaseCreation
else:
    _Base = object


# Seconds for what is still in use, by a thread that is about to end, to come back.
PATIENCE = 2.0


class PooledCreation(_Base):
    """Mixed into a backend's `DatabaseCreation`, before it."""

    def _create_test_db(self, *args: Any, **kwargs: Any) -> str:
        _leave()
        name: str = super()._create_test_db(*args, **kwargs)  # type: ignore[misc]  # the stubs leave it out
        _leave()  # Oracle's main user, and PostgreSQL's other database, are done with
        return name

    def _clone_test_db(self, *args: Any, **kwargs: Any) -> None:
        _leave()
        super()._clone_test_db(*args, **kwargs)  # type: ignore[misc]

    def destroy_test_db(self, *args: Any, **kwargs: Any) -> None:
        _leave()  # also one that is kept
        super().destroy_test_db(*args, **kwargs)


def _leave() -> None:
    """Close the connections of every alias: a mirror's are to the same database."""
    connections.close_all()  # this thread's
    # A thread that ended without closing its Django connection left it in a
    # reference cycle, and with it the lease.
    gc.collect()
    config.registry.close_all(PATIENCE)


# How many listened to `connection_created` when the apps changed last.
_listeners = 0


def _replace_all(*, setting: str, **_kwargs: Any) -> None:
    """Replace connections, if an app that came on the fly would have prepared them."""
    global _listeners
    if setting != "INSTALLED_APPS":
        return
    before, _listeners = _listeners, len(connection_created.receivers)
    if _listeners > before:
        for pool in config.registry.every():
            pool.drain()


setting_changed.connect(_replace_all, dispatch_uid="djpool.creation")


def pooled_creation(base: type[BaseDatabaseCreation]) -> type[BaseDatabaseCreation]:
    """`base` with pools closed around test databases; itself if it does so already."""
    if issubclass(base, PooledCreation):
        return base
    return type(base.__name__, (PooledCreation, base), {"__module__": __name__})
