"""What a lease may have done to its session, as told from the statements it ran.

The text decides, and what is not known to be harmless counts as a change: a reset
too many costs a round trip, one too few shows one request's settings to the next.
What cannot be seen in a text (a function of the project's that calls `set_config()`)
is what `reset: "always"` is for.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Any


class Change(enum.IntFlag):
    """What may be other than it was when the connection was made."""

    #: Settings, temporary objects and the like: of no concern to other sessions.
    SETTINGS = 1
    #: Something that other sessions may be waiting for: a lock.
    LOCKS = 2
    #: The driver's own connection was in somebody's hands: anything.
    UNKNOWN = 4
    #: Types that connections learn when they are opened: all are replaced.
    TYPES = 8
    #: Something that no driver here can bring back: the connection is closed.
    BEYOND = 16


class Irreparable(Exception):
    """A session cannot be brought back to how it began."""


class MoreThanSettings(Irreparable):
    """What was run when the session began did more than can be asked for."""

    def __init__(self, statement: str) -> None:
        super().__init__(
            "when it was opened it was given more than settings, which djpool cannot "
            f"give it again: {statement}"
        )


# The first word or two of a statement, after comments and brackets.
_FIRST_WORDS = re.compile(
    r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*([^\W\d_]\w*)?\s*([^\W\d_]\w*)?", re.DOTALL
)
# Statements remembered, and the longest of them, in characters: some 4 MB at most.
MEMORY, LONGEST = 1024, 4096


class Statements:
    """Tells what a statement may change. Thread-safe.

    Args:
        harmless: First words, one or two, of statements that change nothing.
        asking: What statements are as a whole that only ask; a regular expression.
        changing: What makes even one of these a change, wherever in its text it
            stands.
        locking: The same, of what takes locks.
        beyond: The same, of what cannot be brought back.
        typing: The same, of what changes the types that connections learn.
        markers: In lower case: without one of them in a text, none of the expressions
            matches. Long texts are looked through for these only.
    """

    def __init__(
        self,
        harmless: Iterable[str],
        *,
        asking: str = r"(?!)",
        changing: str = r"(?!)",
        locking: str = r"(?!)",
        beyond: str = r"(?!)",
        typing: str = r"(?!)",
        markers: tuple[str, ...] = (),
    ) -> None:
        self._harmless = frozenset(harmless)
        flags = re.IGNORECASE | re.DOTALL
        self._asking = re.compile(asking, flags)
        self._expressions = [
            (re.compile(changing, flags), Change.SETTINGS),
            (re.compile(locking, flags), Change.LOCKS),
            (re.compile(beyond, flags), Change.BEYOND),
            (re.compile(typing, flags), Change.TYPES),
        ]
        self._markers = markers
        self._known: dict[Any, int] = {}

    def __call__(self, statement: Any) -> int:
        """The `Change` that a statement may make, as a plain number; 0 for none.

        `statement` is what a cursor's `execute()` takes: text, bytes, or an object of
        the driver's that becomes text.
        """
        try:
            change = self._known.get(statement)
        except TypeError:  # an object that cannot be a key
            change = None
        return self._judge(statement) if change is None else change

    def _judge(self, statement: Any) -> int:
        text = _text_of(statement)
        if text is None:
            return int(Change.SETTINGS)
        change = self._change_of(text)
        if len(text) <= LONGEST and isinstance(statement, str):
            if len(self._known) >= MEMORY:
                self._known.clear()  # simple, and soon full again
            self._known[statement] = change
        return change

    def _change_of(self, text: str) -> int:
        change = 0
        # A semicolon in a literal makes two parts of one. Then the second one is
        # not known to be harmless.
        for part in text.split(";"):
            if not self._is_harmless(part) and not self._asking.fullmatch(part):
                change |= Change.SETTINGS
        if self._is_marked(text.lower()):
            for expression, kind in self._expressions:
                change |= kind if expression.search(text) else 0
        return int(change)

    def _is_harmless(self, part: str) -> bool:
        found = _FIRST_WORDS.match(part)
        assert found is not None, "it matches anything"
        first, second = found.groups()
        if first is None:
            return found.end() == len(part)  # nothing but comments
        return (
            first.upper() in self._harmless
            or f"{first} {second}".upper() in self._harmless
        )

    def _is_marked(self, lowered: str) -> bool:
        for marker in self._markers:  # noqa: SIM110 (any() takes a third longer)
            if marker in lowered:
                return True
        return False


def _text_of(statement: Any) -> str | None:
    if isinstance(statement, str):
        return statement
    try:
        if isinstance(statement, (bytes, bytearray)):
            return statement.decode()
        # psycopg's composed statements. Those of psycopg2 want a connection.
        text = statement.as_string(None)
    except Exception:  # noqa: BLE001 (whatever it is, it cannot be read)
        return None
    return text if isinstance(text, str) else None


#: Of any database: what the SQL standard has, and most databases share.
STANDARD = (
    *("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"),
    *("CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "EXPLAIN"),
    *("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"),
)
#: Harmless where the driver can tell whether a transaction is on.
BEGIN = ("BEGIN", "START", "END")


def any_database(*harmless: str) -> Statements:
    """For a database of which no more is known than what else is harmless there."""
    return Statements(
        (*STANDARD, *harmless),
        changing=(
            r"\bcreate\b[^(]*\btemp|\binto\s+#|\bcreate\s+table\s+#"
            r"|\balter\s+session\b"
        ),
        markers=("temp", "#", "session"),
    )
