"""Test databases: they cannot be cloned or dropped while a pool is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djpool import config

if TYPE_CHECKING:
    from django.db.backends.base.creation import BaseDatabaseCreation

    _Base = BaseDatabaseCreation
else:
    _Base = object


class PooledCreation(_Base):
    """Mixed into a backend's `DatabaseCreation`, before it."""

    def _create_test_db(self, *args: Any, **kwargs: Any) -> str:
        config.registry.close_all()
        return super()._create_test_db(*args, **kwargs)  # type: ignore[misc,no-any-return]  # the stubs leave it out

    def _clone_test_db(self, *args: Any, **kwargs: Any) -> None:
        self.connection.close()
        # Of every alias: a mirror has connections to the same database.
        config.registry.close_all()
        super()._clone_test_db(*args, **kwargs)  # type: ignore[misc]

    def _destroy_test_db(self, *args: Any, **kwargs: Any) -> None:
        config.registry.close_all()
        super()._destroy_test_db(*args, **kwargs)  # type: ignore[misc]


def pooled_creation(base: type[BaseDatabaseCreation]) -> type[BaseDatabaseCreation]:
    """`base` with pools closed around test databases; itself if it does so already."""
    if issubclass(base, PooledCreation):
        return base
    return type(base.__name__, (PooledCreation, base), {"__module__": __name__})
