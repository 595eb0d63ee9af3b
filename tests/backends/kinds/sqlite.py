"""SQLite's session state."""

from __future__ import annotations

import sqlite3
from typing import Any

from tests.backends.kinds import Kind, attribute, run


def pragma(name: str, value: str) -> Kind:
    """A setting."""
    return Kind(name, f"PRAGMA {name} = {value}", f"PRAGMA {name}")


def function(wrapper: Any) -> None:
    """Add a function to SQL."""
    wrapper.ensure_connection()
    wrapper.connection.create_function("mine", 0, int)


def has_function(wrapper: Any) -> object:
    """Whether SQL has that function."""
    try:
        return run(wrapper, "SELECT mine()")
    except Exception:  # noqa: BLE001 (it has not)
        return None


def likes_case(wrapper: Any) -> object:
    """Whether LIKE tells small letters from large ones."""
    return run(wrapper, "SELECT 'a' LIKE 'A'")


def script(wrapper: Any) -> None:
    """Run several statements with what only the driver's cursor has."""
    with wrapper.cursor() as cursor:
        cursor.executescript("PRAGMA cache_size = 77; PRAGMA synchronous = 0")


TEMPORARY = "SELECT name FROM sqlite_temp_master ORDER BY name"
KINDS = [
    pragma("foreign_keys", "OFF"),
    pragma("busy_timeout", "77"),
    pragma("cache_size", "77"),
    pragma("synchronous", "OFF"),
    pragma("temp_store", "MEMORY"),
    pragma("recursive_triggers", "ON"),
    pragma("query_only", "ON"),
    pragma("ignore_check_constraints", "ON"),
    pragma("read_uncommitted", "ON"),
    pragma("reverse_unordered_selects", "ON"),
    pragma("legacy_alter_table", "ON"),
    pragma("mmap_size", "1048576"),
    pragma("secure_delete", "FAST"),
    pragma("locking_mode", "EXCLUSIVE"),
    pragma("automatic_index", "OFF"),
    pragma("trusted_schema", "OFF"),
    pragma("wal_autocheckpoint", "77"),
    pragma("journal_mode", "MEMORY"),
    pragma("writable_schema", "ON"),
    pragma("cell_size_check", "ON"),
    Kind(
        "a temporary table", "CREATE TEMP TABLE mine (n INTEGER PRIMARY KEY)", TEMPORARY
    ),
    Kind("a table in temp", "CREATE TABLE temp.mine (n UNIQUE)", TEMPORARY),
    Kind("a temporary view", "CREATE TEMPORARY VIEW mine AS SELECT 1", TEMPORARY),
    Kind(
        "a view of a temporary table",
        lambda wrapper: [
            run(wrapper, "CREATE TEMP TABLE ours (n)"),
            run(wrapper, "CREATE TEMP VIEW mine AS SELECT n FROM ours"),
        ],
        TEMPORARY,
    ),
    Kind("an attached database", "ATTACH ':memory:' AS other", "PRAGMA database_list"),
    Kind("case_sensitive_like", "PRAGMA case_sensitive_like = ON", likes_case, False),
    Kind("a function", function, has_function, False),
    Kind("a row factory", *attribute("row_factory", sqlite3.Row), False),
    Kind("a text factory", *attribute("text_factory", bytes), False),
    Kind("a script", script, "PRAGMA cache_size", False),
]
