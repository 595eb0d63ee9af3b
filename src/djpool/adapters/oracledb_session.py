"""An Oracle Database session, and the way back to how it began.

There is no one command for it. Packages forget their variables by a call; what NLS
settings, time zone, schema, roles, application contexts and names a session has can
be asked for, and set. Other settings (ALTER SESSION SET OPTIMIZER_MODE) and locks of
DBMS_LOCK cannot be seen without special privileges: whoever is seen to use them, or
might have, has the session closed.

A reset is two round trips, and two more if something has to be set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from djpool.core.session import (
    BEYOND,
    LOCKS,
    RUNS_LITERALS,
    SETTINGS,
    STANDARD,
    Irreparable,
    MoreThanSettings,
    Part,
    Statements,
    asks_attribute,
    of_sequence,
    runs_later,
)
from djpool.core.sql import ORACLE, Lexer


def _one_line(statement: str) -> str:
    return " ".join(statement.split())


# SET TRANSACTION, SET CONSTRAINTS and LOCK TABLE end with their transaction.
HARMLESS = (
    *STANDARD,
    *("SET TRANSACTION", "SET CONSTRAINT", "SET CONSTRAINTS", "LOCK", "COMMENT"),
    *("RENAME", "PURGE", "FLASHBACK", "ANALYZE", "AUDIT", "NOAUDIT"),
    *("ASSOCIATE", "DISASSOCIATE"),
)
# One setting of an ALTER SESSION that can be brought back. In the code of a statement a
# quote stands for a literal.
_SETTING = r"\s*(?:nls_\w+|time_zone|current_schema)\s*=\s*"
_OF_CODE = re.compile(_SETTING + r"(?:'|[-+\w$#.:]+\"?|\")")
# The same in a text whose literals are run, where quotes are doubled.
_OF_TEXT = re.compile(_SETTING + r"""(?:'+[^']*'+|"[^"]*"|[-+\w$#.:]+)""")
_ALTER_SESSION = re.compile(r"alter[\s'|]+session(?![\w$#])[\s'|]*")
_SET = re.compile(r"set(?=\s)")
_AFTER_SETTINGS = re.compile(r"\s*(?:\Z|;|')")
# Packages whose calls cannot be undone, with a prefix of what is called.
_PACKAGES = re.compile(
    r"""dbms_(?:(?:alert|monitor|xa|resumable|flashback|wm)\b
    |lock["\s]*\.["\s]*(?:request|convert)
    |session["\s]*\.["\s]*(?:set_sql_trace|session_trace|switch_|set_edition))""",
    re.VERBOSE,
)
_LOCK = re.compile(r"""dbms_lock["\s]*\.["\s]*(?:request|convert)""")
_PRIVATE = re.compile(r"create\s+private\s+temp")
_COMMENTS = re.compile(r"/\*.*?(?:\*/|\Z)|--[^\n]*", re.DOTALL)
# First words of changes that run nothing which stands in a literal.
_PLAIN = frozenset(("alter", "set"))


class _OracleStatements(Statements):
    """Judges statements for Oracle Database."""

    marks = ("'", ";", "--", "/*", "\0")
    telling = ("dbms_", "nextval", "currval")
    questions = ("currval",)
    silent = Statements.silent | {
        *("rename", "purge", "audit", "noaudit", "associate", "disassociate"),
    }

    def judge(self, part: Part) -> int:
        verdict = super().judge(part)
        code = part.code
        if verdict & SETTINGS and part.first not in _PLAIN:
            verdict |= RUNS_LITERALS
        if (part.first, part.second) == ("alter", "session"):
            verdict |= SETTINGS | _of_settings(code, _OF_CODE)
        elif (part.first, part.second) == ("create", "private"):
            verdict |= BEYOND
        if "dbms_" in code:
            verdict |= _of_packages(code)
        return verdict

    def judge_literals(self, text: str) -> int:
        verdict = super().judge_literals(text)
        # In literals comments stay, and what looks like one in a text may be none.
        for each in {text, _COMMENTS.sub(" ", text)}:
            verdict |= _of_settings(each, _OF_TEXT) | _of_packages(each)
            if _PRIVATE.search(each):
                verdict |= BEYOND
        return verdict

    def asks(self, part: Part) -> int:
        if runs_later(part):
            return 0
        return of_sequence(part) if asks_attribute(part.code) else 0


def _of_settings(code: str, setting: re.Pattern[str]) -> int:
    """Return BEYOND if an ALTER SESSION sets what cannot be brought back."""
    begin = 0
    while found := _ALTER_SESSION.search(code, begin):
        found = _SET.match(code, found.end())
        if found is None:
            return BEYOND
        begin = first = found.end()
        while found := setting.match(code, begin):
            begin = found.end()
        if begin == first or _AFTER_SETTINGS.match(code, begin) is None:
            return BEYOND
    return 0


def _of_packages(code: str) -> int:
    if not _PACKAGES.search(code):
        return 0
    return BEYOND | (LOCKS if _LOCK.search(code) else 0)


statements = _OracleStatements(HARMLESS, reader=Lexer(ORACLE))


# What a session has that can be asked for.
NLS, OTHER, ROLE, CONTEXT = "nls", "other", "role", "context"
STATE = _one_line("""
    SELECT 'nls', PARAMETER, VALUE FROM NLS_SESSION_PARAMETERS
    UNION ALL
    SELECT 'role', ROLE, ROLE FROM SESSION_ROLES
    UNION ALL
    SELECT 'context', NAMESPACE || '.' || ATTRIBUTE, VALUE FROM SESSION_CONTEXT
    UNION ALL
    SELECT 'other', 'TIME_ZONE', SESSIONTIMEZONE FROM DUAL
    UNION ALL
    SELECT 'other', 'CURRENT_SCHEMA', SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') FROM DUAL
    UNION ALL
    SELECT 'other', 'MODULE', SYS_CONTEXT('USERENV', 'MODULE') FROM DUAL
    UNION ALL
    SELECT 'other', 'ACTION', SYS_CONTEXT('USERENV', 'ACTION') FROM DUAL
    UNION ALL
    SELECT 'other', 'CLIENT_INFO', SYS_CONTEXT('USERENV', 'CLIENT_INFO') FROM DUAL
    UNION ALL
    SELECT 'other', 'IDENTIFIER', SYS_CONTEXT('USERENV', 'CLIENT_IDENTIFIER') FROM DUAL
""")
FORGET = _one_line("""
    BEGIN
    DBMS_SESSION.MODIFY_PACKAGE_STATE(DBMS_SESSION.REINITIALIZE);
    DBMS_SESSION.SET_IDENTIFIER(:identifier);
    DBMS_APPLICATION_INFO.SET_MODULE(:module, :action);
    DBMS_APPLICATION_INFO.SET_CLIENT_INFO(:client_info);
    END;
""")
TOLD = ("MODULE", "ACTION", "CLIENT_INFO", "IDENTIFIER")
SET = "BEGIN EXECUTE IMMEDIATE :before; EXECUTE IMMEDIATE :after; END;"
# They set others, and so come first.
LEADING = ("NLS_LANGUAGE", "NLS_TERRITORY")
# The statements after connecting of which the question above sees all that they do,
# or which no way back undoes.
_SEEN = re.compile(r"\s*(?:alter\s+session|set\s+role)\b", re.IGNORECASE)

Key = tuple[str, str]
#: Runs a statement with parameters, and gives its rows.
Say = Callable[[str, Mapping[str, Any]], Iterable[Sequence[Any]]]


class Origin:
    """How a session began, and the way back there."""

    def __init__(self, setup: Sequence[str], say: Say) -> None:
        """Ask for it.

        Args:
            setup: What was run when the session began, and may have changed it.
            say: Runs a statement and gives its rows.
        """
        self._odd = next((each for each in setup if not _SEEN.match(each)), None)
        self._state = _state(say)
        #: The schema in which names without one are looked up.
        self.schema = self._state[OTHER, "CURRENT_SCHEMA"]

    def go_back(self, say: Say) -> None:
        """Bring the session back there.

        Raises:
            Irreparable: That cannot be.
        """
        if self._odd is not None:
            raise MoreThanSettings(self._odd)
        wanted = self._state
        say(FORGET, {name.lower(): wanted[OTHER, name] for name in TOLD})
        now = _state(say)
        if now == wanted:
            return
        if _of(now, ROLE) != _of(wanted, ROLE):
            say(f"SET ROLE {', '.join(map(_quoted, _of(wanted, ROLE))) or 'NONE'}", {})
        say(SET, self._settings())
        now = _state(say)
        if now != wanted:
            differing = sorted({name for _, name in _differing(now, wanted)})
            raise Irreparable(f"these stay other than they were: {differing}")

    def _settings(self) -> Mapping[str, str]:
        values = _of(self._state, NLS)
        rest = [f"{name} = {_string(values[name])}" for name in sorted(values)]
        before = [f"{name} = {_string(values[name])}" for name in LEADING]
        rest.append(f"TIME_ZONE = {_string(self._state[OTHER, 'TIME_ZONE'])}")
        rest.append(f"CURRENT_SCHEMA = {_quoted(self.schema)}")
        rest = [each for each in rest if each not in before]
        return {
            "before": f"ALTER SESSION SET {' '.join(before)}",
            "after": f"ALTER SESSION SET {' '.join(rest)}",
        }


def _state(say: Say) -> dict[Key, Any]:
    return {(kind, name): value for kind, name, value in say(STATE, {})}


def _of(state: Mapping[Key, Any], kind: str) -> dict[str, Any]:
    return {name: value for (each, name), value in state.items() if each == kind}


def _differing(one: Mapping[Key, Any], other: Mapping[Key, Any]) -> set[Key]:
    return {key for key, _ in one.items() ^ other.items()}


def _string(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _quoted(name: str) -> str:
    return f'"{name}"'  # it cannot contain one itself
