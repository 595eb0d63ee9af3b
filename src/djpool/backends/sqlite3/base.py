"""SQLite with a pool. In-memory databases are not pooled."""

from collections.abc import Callable

from django.db.backends.sqlite3 import base

from djpool.adapters.sqlite3 import adapter
from djpool.wrapper import PooledWrapper


class SQLitePooling(PooledWrapper):
    """What SQLite and SpatiaLite have in common."""

    djpool_adapter = adapter
    djpool_carried = ("transaction_mode",)

    is_in_memory_db: Callable[[], bool]  # the backend's

    def djpool_poolable(self) -> bool:
        # Each connection to an in-memory database is another database, or the
        # last one that keeps it alive. Django knows some of their names.
        in_memory = self.is_in_memory_db() or ":memory:" in str(
            self.settings_dict["NAME"]
        )
        return super().djpool_poolable() and not in_memory


class DatabaseWrapper(SQLitePooling, base.DatabaseWrapper):
    """`ENGINE: "djpool.backends.sqlite3"`."""
