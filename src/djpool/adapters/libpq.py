"""What psycopg 3 and psycopg2 have in common: PostgreSQL, and its client library."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from djpool.adapters.timeouts import whole_seconds
from djpool.core.session import (
    ASKS_ID,
    LOCKS,
    RUNS_LITERALS,
    SETTINGS,
    STANDARD,
    TYPES,
    MoreThanSettings,
    Part,
    Statements,
    has_phrase,
    of_sequence,
    runs_later,
)
from djpool.core.sql import POSTGRESQL, Lexer, calls, words

# libpq takes a shorter connect_timeout for this one.
LEAST_CONNECT_TIMEOUT = 2

# SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with their transaction, as do
# LOCK and a cursor that is not WITH HOLD. Without one they do nothing.
HARMLESS = (
    *STANDARD,
    *("SET LOCAL", "SET TRANSACTION", "SET CONSTRAINTS", "SHOW", "LOCK", "COPY"),
    *("BEGIN", "START", "END", "ABORT", "PREPARE TRANSACTION", "ANALYZE"),
    *("ANALYSE", "VACUUM", "REINDEX", "CLUSTER", "REFRESH", "CHECKPOINT"),
    *("COMMENT", "SECURITY", "IMPORT", "REASSIGN", "NOTIFY"),
    *("DECLARE", "FETCH", "MOVE", "CLOSE"),
)
# What changes a session in any statement, also as a part of a word.
_CHANGING = ("pg_temp", "dblink_connect", "setseed", "pg_replication_origin_session")
_LOCKING = (
    *("pg_advisory_lock", "pg_try_advisory_lock"),
    *("pg_advisory_unlock", "pg_try_advisory_unlock"),
)
_TEMPORARY = frozenset(("temp", "temporary"))
_BEFORE_TEMPORARY = frozenset(("or", "replace", "local", "global"))
_TOKENS = re.compile(r"[\w$]+|[(),]")
# Of set_config(name, value, is_local).
_ARGUMENTS = 3
# Behind U& a name is written with escapes, and may be any.
_ESCAPED = re.compile(r"(?<![\w$])u& (?:'|\"|[\w$]+\")")
_ESCAPED_CALL = re.compile(r"(?<![\w$])u& [\w$]*\"\s*\(")


class _PostgreSQLStatements(Statements):
    """Judges statements for PostgreSQL."""

    marks = ("'", ";", "--", "/*", "$", "\0")
    telling = (
        *("temp", "set_config", "advisory", "dblink", "setseed", "pg_replication"),
        *("nextval", "setval", "currval", "lastval", "u&", "pg_settings"),
        "query_to_xml",
    )
    questions = ("currval", "lastval")
    silent = Statements.silent | {
        *("listen", "unlisten", "notify", "discard", "load", "analyse", "security"),
        *("reindex", "cluster", "checkpoint", "begin", "end", "declare"),
    }

    def judge(self, part: Part) -> int:
        verdict = super().judge(part)
        code, first = part.code, part.first
        if first in {"create", "alter", "drop"} and part.second in _TYPES:
            verdict |= TYPES
        elif first == "do":
            verdict |= RUNS_LITERALS
        elif first == "declare" and has_phrase(part.words, "with", "hold"):
            verdict |= SETTINGS
        if (
            ("temp" in code and _makes_temporary(part))
            or ("set_config" in code and not _sets_locally(code))
            or ("u&" in code and _ESCAPED.search(code))
            or any(each in code for each in _CHANGING)
            # An update of that view is what SET does.
            or ("pg_settings" in code and "update" in part.words)
        ):
            verdict |= SETTINGS
        if "u&" in code and _ESCAPED_CALL.search(code):
            verdict |= ASKS_ID  # of any function
        if "query_to_xml" in code:
            verdict |= RUNS_LITERALS
        if "advisory" in code:
            verdict |= _locks(part.words)
        return verdict

    def text_of(self, statement: Any) -> str | None:
        text = super().text_of(statement)
        if text is not None:
            return text
        # What psycopg2 composes becomes text with a connection only, for the quotes of
        # names and of data. Here they just have to be where they will be.
        if (parts := getattr(statement, "seq", None)) is not None:
            texts = [self.text_of(each) for each in parts]
            return None if None in texts else "".join(filter(None, texts))
        if (names := getattr(statement, "strings", None)) is not None:
            return ".".join('"{}"'.format(each.replace('"', '""')) for each in names)
        return "''" if hasattr(statement, "wrapped") else None

    def judge_literals(self, text: str) -> int:
        found = words(text)
        verdict = super().judge_literals(text) | _locks(found)
        for what in ("create", "alter", "drop"):
            for which in _TYPES:
                if has_phrase(found, what, which):
                    verdict |= TYPES
        return verdict

    def asks(self, part: Part) -> int:
        code = part.code
        if "currval" not in code and "lastval" not in code:
            return 0
        if runs_later(part) or not calls(code) & {"currval", "lastval"}:
            return 0
        return of_sequence(part)


# Django, and a project's own receivers of connection_created, look up what a connection
# has to know of them.
_TYPES = frozenset(("extension", "type"))


def _locks(found: Iterable[str]) -> int:
    return LOCKS if any(each.startswith(_LOCKING) for each in found) else 0


def _makes_temporary(part: Part) -> bool:
    """Tell whether a statement is a CREATE TEMP, or a SELECT INTO TEMP."""
    if part.first not in {"create", "explain"} and "into" not in part.code:
        return False
    expected, before = False, ""
    for word in part.words:
        if expected and word in _TEMPORARY:
            return True
        # INSERT INTO and MERGE INTO name a table that is there.
        into = word == "into" and before not in {"insert", "merge"}
        expected = word == "create" or into or (expected and word in _BEFORE_TEMPORARY)
        before = word
    return False


def _sets_locally(code: str) -> bool:
    """Tell whether each `set_config()` has `true` as its last argument: SET LOCAL."""
    # For each parenthesis that is open: the arguments so far of a `set_config()`, each
    # of them as its words, or None.
    open_calls: list[list[list[str]] | None] = []
    before = ""
    for each in (*_TOKENS.findall(code), ""):
        if before == "set_config" and each != "(":
            return False  # the name alone: nothing tells what comes of it
        if each == "(":
            open_calls.append([[]] if before == "set_config" else None)
        elif open_calls:
            arguments = open_calls[-1]
            if each == ")":
                open_calls.pop()
                if arguments is not None and not _is_local(arguments):
                    return False
            elif arguments is not None:
                if each == ",":
                    arguments.append([])
                else:
                    arguments[-1].append(each)
        before = each
    return all(arguments is None for arguments in open_calls)


def _is_local(arguments: Sequence[Sequence[str]]) -> bool:
    return len(arguments) == _ARGUMENTS and list(arguments[-1]) == ["true"]


statements = _PostgreSQLStatements(HARMLESS, reader=Lexer(POSTGRESQL))

# What a session has set for itself, without what a transaction has: the settings that
# differ from those it began with, and the roles, which `pg_settings` leaves out.
STATE = (
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' "
    "UNION ALL VALUES ('role', current_setting('role')),"
    " ('session_authorization', session_user)"
)
# Settings of a project's own are left out as well: those whose names are in a text.
_OWN_NAME = re.compile(r"\b[a-z_]\w*\.[a-z_][\w.]*", re.IGNORECASE)
# Statements of which STATE sees all that they do.
_SETS = re.compile(
    r"\s*(?:set\b|select\s+(?:pg_catalog\.)?set_config\b)", re.IGNORECASE
)

# In one message, hence in one transaction: that is why it is not DISCARD ALL, which
# would also lose what ALTER ROLE ... SET ROLE gave at the logon, and the statements
# that the driver has prepared.
RESET = """
CLOSE ALL;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
{settings}
DO $$ DECLARE n text; BEGIN
FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql
LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', n); END LOOP; END $$;
UNLISTEN *;
SELECT pg_catalog.pg_advisory_unlock_all();
DISCARD TEMP;
DISCARD SEQUENCES;
"""

Row = tuple[str, str]


class Origin:
    """How a session began, and the way back there."""

    def __init__(
        self,
        ask: Callable[[str], Iterable[Row]],
        quote: Callable[[str], str],
        setup: Sequence[str],
    ) -> None:
        """Ask for it.

        Args:
            ask: Runs a query and gives its rows.
            quote: Makes a literal.
            setup: What was run when the session began, and may have changed it.
        """
        odd = [each for each in setup if not _SETS.match(each)]
        self._odd = odd[0] if odd else None
        state = dict(ask(STATE))
        names = {name for each in setup for name in _OWN_NAME.findall(each)}
        if names:
            values = ", ".join(f"({quote(name)})" for name in sorted(names))
            own = ask(
                f"SELECT name, current_setting(name, true) FROM (VALUES {values}) "  # noqa: S608 (quoted)
                "AS own (name) WHERE current_setting(name, true) IS NOT NULL"
            )
            state.update(own)
        # In this order, because a change of the former changes the latter.
        last = [(name, state.pop(name)) for name in ("session_authorization", "role")]
        self._reset = RESET.format(
            settings="\n".join(
                f"SELECT pg_catalog.set_config({quote(name)}, {quote(value)}, false);"
                for name, value in [*last, *state.items()]
            )
        )

    def way_back(self) -> str:
        """Statements that lead back there, to be sent as one message.

        Raises:
            Irreparable: They would not.
        """
        if self._odd is not None:
            raise MoreThanSettings(self._odd)
        return self._reset


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have libpq give up by then; it counts whole seconds, two or more.

    Where there are several hosts, it does so for each of them.
    """
    wanted = params.get("connect_timeout")
    hosts = str(params.get("hostaddr") or params.get("host") or "").count(",") + 1
    seconds = whole_seconds(wanted, timeout / hosts, least=LEAST_CONNECT_TIMEOUT)
    return {**params, "connect_timeout": seconds}
