"""A backend that builds on none of Django's, as those for other databases do."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import SQLiteCursorWrapper
from django.db.backends.sqlite3.client import DatabaseClient
from django.db.backends.sqlite3.creation import DatabaseCreation
from django.db.backends.sqlite3.features import DatabaseFeatures
from django.db.backends.sqlite3.introspection import DatabaseIntrospection
from django.db.backends.sqlite3.operations import DatabaseOperations


class DatabaseWrapper(BaseDatabaseWrapper):
    """Writes on itself while connecting, as backends for unknown drivers do."""

    vendor = "foreign"
    Database = sqlite3
    client_class = DatabaseClient
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.prepared = {"always": 1}
        super().__init__(*args, **kwargs)

    def get_connection_params(self) -> dict[str, Any]:
        return {"database": self.settings_dict["NAME"], **self.settings_dict["OPTIONS"]}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.driver = sqlite3
        self.lazy_cursors = True
        return sqlite3.connect(
            **conn_params, check_same_thread=False, isolation_level=None
        )

    def init_connection_state(self) -> None:
        super().init_connection_state()
        self.last_cursor = self.connection.cursor()  # of this session alone

    def create_cursor(self, name: str | None = None) -> Any:
        assert self.driver is sqlite3, "what connecting sets is missing"
        return self.connection.cursor(factory=SQLiteCursorWrapper)

    def get_database_version(self) -> tuple[int, ...]:
        return sqlite3.sqlite_version_info

    def is_usable(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
        except self.driver.Error:
            return False
        return True

    def _set_autocommit(self, autocommit: bool) -> None:
        with self.wrap_database_errors:
            self.connection.isolation_level = None if autocommit else "DEFERRED"

    def _start_transaction_under_autocommit(self) -> None:
        self.cursor().execute("BEGIN")
