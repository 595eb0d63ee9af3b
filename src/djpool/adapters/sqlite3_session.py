"""What a SQLite connection has apart from its file, and the way back to how it began.

Settings (PRAGMAs), attached databases and temporary objects can be seen and brought
back. Functions, collations, hooks and factories cannot: SQLite does not say what was
there before. A connection that was in somebody's hands is closed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from djpool.core.session import (
    ASKS_ID,
    ASKS_ROWS,
    BEYOND,
    LEAVES,
    LEAVES_ROWS,
    SETTINGS,
    STANDARD,
    Change,
    Irreparable,
    Part,
    Statements,
    empty_calls,
    only_reads,
    runs_later,
)
from djpool.core.sql import SQLITE, Lexer

# What a connection sets for itself, and can be asked for.
PRAGMAS = (
    *("analysis_limit", "automatic_index", "busy_timeout", "cache_size"),
    *("cache_spill", "cell_size_check", "checkpoint_fullfsync", "foreign_keys"),
    *("fullfsync", "ignore_check_constraints", "journal_size_limit"),
    *("legacy_alter_table", "locking_mode", "mmap_size", "query_only"),
    *("read_uncommitted", "recursive_triggers", "reverse_unordered_selects"),
    *("secure_delete", "synchronous", "temp_store", "threads", "trusted_schema"),
    *("wal_autocheckpoint", "writable_schema"),
)
# Ends with its transaction.
OF_A_TRANSACTION = "defer_foreign_keys"
# Belongs to the file when it is "wal", and to the connection otherwise.
JOURNAL = "journal_mode"
# These ask, or change the file only.
HARMLESS = (
    *("application_id", "collation_list", "compile_options", "data_version"),
    *("database_list", "encoding", "foreign_key_check", "foreign_key_list"),
    *("freelist_count", "function_list", "incremental_vacuum", "index_info"),
    *("index_list", "index_xinfo", "integrity_check", "module_list", "optimize"),
    *("page_count", "page_size", "pragma_list", "quick_check", "schema_version"),
    *("shrink_memory", "table_info", "table_list", "table_xinfo", "user_version"),
    *("wal_checkpoint", OF_A_TRANSACTION),
)
_KNOWN = frozenset((*PRAGMAS, JOURNAL, *HARMLESS))
# The name of a PRAGMA, behind that of a database or not.
_PRAGMA = re.compile(
    r"pragma\b[\s\"`\[]*(?:[\w$]+[\"`\]]?\s*\.[\s\"`\[]*)?([\w$]*)[\"`\]]?\s*"
)
# The search for a fixed beginning takes a tenth of the time, so what must not stand
# before it comes afterwards.
_OF_TEMPORARY = re.compile(r"temp(?<![\w$]temp)(?:orary)?[\"`\]]?\s*\.")
# SQLite takes a literal where a name has to be, as in 'temp'.shop.
_OF_LITERAL = re.compile(r"'\s*\.")
_QUESTIONS = ("changes", "last_insert_rowid")


class _SQLiteStatements(Statements):
    """Judges statements for SQLite."""

    verbs: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("select", "savepoint", "release"), 0),
        **dict.fromkeys(("update", "delete"), LEAVES_ROWS),
        "insert": LEAVES,
    }
    marks = ("'", ";", "--", "/*", "`", "[", "\0")
    telling = ("temp", "load_extension", *_QUESTIONS)
    questions = tuple(f"{each}(" for each in _QUESTIONS)
    wary = False
    silent = Statements.silent | {
        *("select", "values", "explain", "create", "alter", "pragma", "reindex"),
        *("attach", "detach", "begin", "end"),
    }

    def judge(self, part: Part) -> int:
        verdict = super().judge(part)
        code = part.code
        if "pragma" in code:
            verdict |= _of_pragma(part)
        if (
            (part.first == "create" and part.second in {"temp", "temporary"})
            or _OF_TEMPORARY.search(code)
            or _OF_LITERAL.search(code)
        ):
            verdict |= SETTINGS
        if "load_extension" in code and "load_extension" in part.words:
            verdict |= BEYOND
        return verdict

    def is_harmless(self, part: Part) -> bool:
        return part.first == "pragma" or super().is_harmless(part)

    def asks(self, part: Part) -> int:
        if runs_later(part) or not any(each in part.code for each in _QUESTIONS):
            return 0
        empty = empty_calls(part.code)
        verdict = ASKS_ID if "last_insert_rowid" in empty else 0
        return verdict | (ASKS_ROWS if empty & {"changes", "total_changes"} else 0)

    def leaves(self, part: Part) -> int:
        if part.first in self.silent or only_reads(part):
            return 0
        return LEAVES_ROWS if part.first in {"update", "delete"} else LEAVES


def _of_pragma(part: Part) -> int:
    """Return what a PRAGMA changes. Some do so when they are only explained."""
    if part.first not in {"pragma", "explain"} or "pragma" not in part.words[:4]:
        return 0
    found = _PRAGMA.search(part.code)
    if found is None or found[1] not in _KNOWN:
        return SETTINGS | BEYOND
    asks = found.end() == len(part.code)
    return 0 if asks or found[1] in HARMLESS else SETTINGS


statements = _SQLiteStatements(
    (*STANDARD, "REPLACE", "BEGIN", "END", "REINDEX", "ANALYZE", "VACUUM"),
    reader=Lexer(SQLITE),
)


class Origin:
    """How a connection began, and the way back there."""

    def __init__(self, connection: Any) -> None:
        self._databases = _databases(connection)
        self._temporary = _temporary(connection)
        self._settings = _settings(connection)

    def go_back(self, connection: Any, change: Change) -> None:
        """Bring the connection, which is at rest, back there.

        Raises:
            Irreparable: That cannot be.
            sqlite3.Error: It did not work.
        """
        if change & Change.UNKNOWN:
            raise Irreparable("it was in somebody's hands")
        for name in _databases(connection).keys() - self._databases.keys():
            connection.execute(f"DETACH {_quoted(name)}")
        temporary = _temporary(connection)
        # Views and triggers may need the tables that go after them.
        for kind, name in sorted(temporary - self._temporary, reverse=True):
            connection.execute(f"DROP {kind} IF EXISTS temp.{_quoted(name)}")
        for name, value in self._settings.items():
            now = _value(connection, name)
            if now != value and (name != JOURNAL or "wal" not in {now, value}):
                _ = connection.execute(f"PRAGMA {name} = {value}").fetchall()
        if (
            _databases(connection) != self._databases
            or _temporary(connection) != self._temporary
        ):
            raise Irreparable("what was attached, or temporary, at first is gone")


def _databases(connection: Any) -> dict[str, str]:
    rows = connection.execute("PRAGMA database_list").fetchall()
    return {name: path for _number, name, path in rows if name not in {"main", "temp"}}


def _temporary(connection: Any) -> set[tuple[str, str]]:
    # An index goes with its table; those of constraints cannot be dropped.
    found = connection.execute(
        "SELECT upper(type), name FROM sqlite_temp_master WHERE type <> 'index'"
        " AND name NOT LIKE 'sqlite#_%' ESCAPE '#'"
    )
    return {(kind, name) for kind, name in found.fetchall()}


def _settings(connection: Any) -> dict[str, Any]:
    values = {name: _value(connection, name) for name in (*PRAGMAS, JOURNAL)}
    # Not every build of SQLite has each of them.
    return {name: value for name, value in values.items() if value is not None}


def _value(connection: Any, pragma: str) -> Any:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return None if row is None else row[0]


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
