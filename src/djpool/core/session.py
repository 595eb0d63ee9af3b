"""Judge statements: what they change in a session, what they leave, and what they ask.

The text decides, as the program wrote it. Data in literals decides nothing. A statement
that is not known to be harmless counts as a change: a reset too many costs a round
trip, and one too few shows one request's settings to the next. Some changes no text
shows, such as those of a project's own function that calls `set_config()`. For them
there is `reset: "always"`.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from djpool.core.sql import RUN, AnyLexer, Reading, calls, is_harmless, words


class Change(enum.IntFlag):
    """What may differ from how it was when the connection was made."""

    #: Settings, temporary objects and the like: of no concern to other sessions.
    SETTINGS = 1
    #: Locks, for which other sessions may be waiting.
    LOCKS = 2
    #: Anything: project code has had the driver's own connection.
    UNKNOWN = 4
    #: Types that connections learn when they are opened: djpool replaces all of them.
    TYPES = 8
    #: What no driver here can bring back: djpool closes the connection.
    BEYOND = 16


class Trace(enum.IntFlag):
    """What a statement leaves in its session, and what it asks for that is there."""

    #: The statement may leave a transaction open, and its driver is perhaps not told.
    OPENS = 1 << 8
    #: It asks for the number that an earlier INSERT or a sequence gave.
    ASKS_ID = 1 << 9
    #: It asks for the number of rows that earlier statements changed.
    ASKS_ROWS = 1 << 10
    #: It asks about the statement before it.
    ASKS_PREVIOUS = 1 << 11
    #: It may leave an answer to ASKS_ID.
    LEAVES_ID = 1 << 12
    #: It may leave an answer to ASKS_ROWS.
    LEAVES_ROWS = 1 << 13


#: All bits of `Change`. The other bits of a verdict are those of `Trace`.
CHANGES = 0b11111
# Verdicts are plain numbers, because operations on enums take a microsecond.
SETTINGS, LOCKS = int(Change.SETTINGS), int(Change.LOCKS)
TYPES, BEYOND = int(Change.TYPES), int(Change.BEYOND)
OPENS, ASKS_PREVIOUS = int(Trace.OPENS), int(Trace.ASKS_PREVIOUS)
ASKS_ID, LEAVES_ID = int(Trace.ASKS_ID), int(Trace.LEAVES_ID)
ASKS_ROWS, LEAVES_ROWS = int(Trace.ASKS_ROWS), int(Trace.LEAVES_ROWS)
ASKS, LEAVES = ASKS_ID | ASKS_ROWS | ASKS_PREVIOUS, LEAVES_ID | LEAVES_ROWS
#: The verdict on a text that cannot be read.
IN_DOUBT = SETTINGS | OPENS | LEAVES
#: A judge's mark on a statement that runs what its literals say. For such a text
#: `Statements` also asks `judge_literals()`, and takes the mark away.
RUNS_LITERALS = 1 << 20


class Irreparable(Exception):
    """A session cannot be brought back to how it began."""


class MoreThanSettings(Irreparable):
    """What was run when the session began did more than can be asked for."""

    def __init__(self, statement: str) -> None:
        super().__init__(
            "when it was opened it was given more than settings, which djpool cannot "
            f"give it again: {statement}"
        )


# How many verdicts are remembered at most, and the bytes of their texts in all, and of
# one. Python may need four bytes for each character.
VERDICTS, MEMORY, LONGEST = 1024, 4 * 1024 * 1024, 16 * 1024

# The first two words of a statement, after parentheses.
_FIRST_WORDS = re.compile(r"[\s(]*([^\W\d][\w$]*)?\s*([^\W\d][\w$]*)?")


class Part:
    """One statement of a text, in lower case, without its literals and comments.

    `djpool.core.sql.Reading` says what stands in their place.
    """

    __slots__ = ("_words", "code", "empty", "first", "second")

    def __init__(self, code: str) -> None:
        found = _FIRST_WORDS.match(code)
        assert found is not None, "it matches anything"
        self.code = code
        self.first = found[1] or ""
        self.second = found[2] or ""
        #: True if there is nothing but white space and parentheses.
        self.empty = not self.first and found.end() == len(code)
        self._words: list[str] | None = None

    @property
    def words(self) -> list[str]:
        """All words of the statement, also those in quoted names."""
        if self._words is None:
            self._words = words(self.code)
        return self._words


class Reader(Protocol):
    """Reads texts; `djpool.core.sql.Lexer` does."""

    def readings(self, text: str) -> list[Reading]:
        """Read the text as each server would that may get it."""


class Statements:
    """Judges statements by their texts. Thread-safe.

    An adapter makes one for its database from what is harmless there. For more than
    expressions can tell, inherit from this class and override `judge()`.

    Args:
        harmless: First words, one or two, of statements that change nothing.
        asking: A regular expression for whole statements that only ask. The four
            arguments after it are expressions, too. They see a space in place of each
            comment and each literal.
        changing: What makes a statement a change, wherever in its text it stands.
        locking: What takes locks, likewise.
        beyond: What cannot be brought back, likewise.
        typing: What changes the types that connections learn, likewise.
        markers: Words in lower case. No expression matches a text without any of them.
            If there are no markers, the expressions search every text.
        reader: Reads the texts. The default reads each text as every dialect does that
            djpool knows.
    """

    # A text that begins with one of `verbs` has that verdict at first sight. It is read
    # if it has one of `marks` in it, or (in lower case) one of `telling`: `marks`
    # begin literals and comments, `telling` words say more about any statement.
    verbs: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("select", "savepoint", "release"), 0),
        **dict.fromkeys(("update", "delete"), LEAVES_ROWS),
        "insert": LEAVES,
    }
    marks: ClassVar[Sequence[str]] = (
        *("'", ";", "--", "/*", "\\", "#", "`", "[", "$", "@", "\0"),
    )
    telling: ClassVar[Sequence[str]] = (
        *("currval", "nextval", "lastval", "last_insert", "identity", "changes"),
        *("rowcount", "row_count", "found_rows", "next", "previous"),
    )
    #: Parts of the questions for what an earlier statement left. A text with one of
    #: them that cannot be read asks for all of it.
    questions: ClassVar[Sequence[str]] = (
        *("currval", "lastval", "last_insert", "identity", "rowcount", "row_count"),
        *("found_rows", "changes("),
    )
    #: The quotes of names in such a text.
    quote: ClassVar[str] = '"'
    #: True if a statement leaves a number when it calls a function that is not known.
    wary: ClassVar[bool] = True

    #: First words of statements that leave nothing for a later question.
    silent: ClassVar[frozenset[str]] = frozenset(
        (
            *("set", "reset", "show", "describe", "desc", "help", "use"),
            *("start", "commit", "rollback", "abort", "savepoint", "release"),
            *("lock", "unlock", "prepare", "deallocate", "close"),
            *("drop", "truncate", "grant", "revoke", "comment", "analyze", "vacuum"),
        )
    )
    #: First words of statements that leave something only if a function does.
    calling: ClassVar[frozenset[str]] = frozenset(
        ("select", "values", "table", "explain", "create", "alter")
    )

    def __init__(
        self,
        harmless: Iterable[str],
        *,
        asking: str = "",
        changing: str = "",
        locking: str = "",
        beyond: str = "",
        typing: str = "",
        markers: Sequence[str] = (),
        reader: Reader | None = None,
    ) -> None:
        self._harmless = frozenset(each.lower() for each in harmless)
        flags = re.IGNORECASE | re.DOTALL
        self._asking = re.compile(asking, flags) if asking else None
        self._expressions = [
            (re.compile(each, flags), kind)
            for each, kind in (
                (changing, SETTINGS),
                (locking, LOCKS),
                (beyond, BEYOND),
                (typing, TYPES),
            )
            if each
        ]
        self._markers = tuple(markers)
        self._reader = reader or _ANY
        self._verbs = {
            verb: verdict
            for verb, verdict in self.verbs.items()
            if verb in self._harmless and (self._markers or not self._expressions)
        }
        self._telling = (*self.telling, *self._markers)
        self._known: dict[Any, int] = {}
        self._size = 0  # of the texts in there, in bytes

    def __call__(self, statement: Any) -> int:
        """Return what a statement may do: the bits of `Change` and `Trace`.

        `statement` is what a cursor's `execute()` takes: text, bytes, or an object of
        the driver's that becomes text.
        """
        try:
            verdict = self._known.get(statement)
        except TypeError:  # an object that cannot be a key
            verdict = None
        return self._learn(statement) if verdict is None else verdict

    def _learn(self, statement: Any) -> int:
        text = self.text_of(statement)
        if text is None:
            odd = isinstance(statement, (bytes, bytearray))
            return self._doubt(statement.decode("latin-1") if odd else "")
        verdict = self._at_first_sight(text)
        if verdict is None:
            verdict = self._of_text(text)
        size = sys.getsizeof(text)
        if size <= LONGEST and isinstance(statement, str):
            if len(self._known) >= VERDICTS or self._size + size > MEMORY:
                self._known.clear()  # simple, and soon full again
                self._size = 0
            # Threads may count one less now and then; there are never more verdicts.
            self._size += size
            self._known[statement] = verdict
        return verdict

    def _at_first_sight(self, text: str) -> int | None:
        """Return the verdict on what Django's ORM makes, and None on other texts."""
        for mark in self.marks:
            if mark in text:
                return None
        lowered = text.lower()
        verdict = self._verbs.get((lowered.split(None, 1) or [""])[0])
        if verdict is None:
            return None
        for word in self._telling:
            if word in lowered:
                return None
        if text.count(self.quote) % 2:
            return None
        if self.wary and not verdict & LEAVES_ID and not _calls_known(lowered):
            return None
        return verdict

    def _of_text(self, text: str) -> int:
        verdict, complete = 0, False
        for reading in self._reader.readings(text):
            verdict |= self._of_statements(reading.statements)
            complete = complete or reading.complete
        if not complete:
            return self._doubt(text)
        if verdict & RUNS_LITERALS:
            verdict = verdict & ~RUNS_LITERALS | self.judge_literals(text.lower())
        return verdict

    def _doubt(self, text: str) -> int:
        """Return the verdict on a text that cannot be read."""
        lowered = text.lower()
        asks = any(each in lowered for each in self.questions)
        return IN_DOUBT | ASKS if asks else IN_DOUBT

    def _of_statements(self, statements: Sequence[str]) -> int:
        verdict = answered = 0
        for code in statements:
            part = Part(code)
            if part.empty:
                continue
            found = self.judge(part) & ~answered
            if RUN in code:
                found |= IN_DOUBT  # some servers run that comment
            verdict |= found
            # What a later statement of this text asks for is left by this one.
            answered |= ASKS_PREVIOUS
            if found & LEAVES_ID:
                answered |= ASKS_ID
            if found & LEAVES_ROWS:
                answered |= ASKS_ROWS
            if part.first == "create" and "begin" in code:
                answered |= ASKS  # the others are of its body, and run later
        if self._expressions:
            verdict |= self._of_expressions(";".join(statements).replace("'", " "))
        return verdict

    def _of_expressions(self, code: str) -> int:
        if self._markers and not any(each in code for each in self._markers):
            return 0
        verdict = 0
        for expression, kind in self._expressions:
            verdict |= kind if expression.search(code) else 0
        return verdict

    # -- what others may override --------------------------------------------------

    def text_of(self, statement: Any) -> str | None:
        """Return the text of what a cursor's `execute()` takes; None if it has none."""
        if isinstance(statement, str):
            return statement
        try:
            if isinstance(statement, (bytes, bytearray)):
                return statement.decode()
            text = statement.as_string(None)  # psycopg's composed statements
        except Exception:  # noqa: BLE001 (whatever it is, it cannot be read)
            return None
        return text if isinstance(text, str) else None

    def judge(self, part: Part) -> int:
        """Return what one statement of a text may do."""
        verdict = 0 if self.is_harmless(part) else SETTINGS
        return verdict | self.asks(part) | self.leaves(part)

    def judge_literals(self, text: str) -> int:
        """Return what a text in lower case may do, if its literals are run as well."""
        return ASKS_ID if asks_undrawn(text) else 0

    def is_harmless(self, part: Part) -> bool:
        """Tell whether the first words of a statement say that it changes nothing."""
        if part.first in self._harmless:
            return True
        if f"{part.first} {part.second}" in self._harmless:
            return True
        return self._asking is not None and bool(
            self._asking.fullmatch(part.code.replace("'", " "))
        )

    def asks(self, part: Part) -> int:
        """Return what a statement asks for that an earlier one left in its session."""
        code, first = part.code, part.first
        if first in {"show", "get"}:
            return ASKS_PREVIOUS if asks_diagnostics(part) else 0
        if runs_later(part) or not any(each in code for each in self.telling):
            return 0
        verdict, found, empty = 0, variables(code), empty_calls(code)
        if (
            found & ID_VARIABLES
            or empty & _ID_CALLS
            or calls(code) & {"currval", "lastval"}
            or has_phrase(part.words, "previous", "value", "for")
            or asks_attribute(code)
        ):
            verdict |= of_sequence(part)
        if "rowcount" in found or empty & {"changes", "total_changes", "rowcount_big"}:
            verdict |= ASKS_ROWS
        if found & PREVIOUS_VARIABLES or empty & {"row_count", "found_rows"}:
            verdict |= ASKS_PREVIOUS
        return verdict

    def leaves(self, part: Part) -> int:
        """Return what a statement may leave in its session for a later question."""
        first = part.first
        if first in self.silent or (first == "begin" and part.second in _BEGINS):
            return 0
        if first in {"update", "delete"}:
            verdict = LEAVES_ROWS
            if (
                draws(part)
                or sets_last_id(part.code)
                or not calls_nothing_unknown(part)
            ):
                verdict |= LEAVES_ID
            return verdict
        reads = first in self.calling or only_reads(part)
        if not reads or runs_after_all(part):
            return LEAVES
        if first == "create" and not _ROUTINES.isdisjoint(part.words[:4]):
            return 0
        if draws(part) or ("last_insert" in self.telling and sets_last_id(part.code)):
            return LEAVES_ID
        return 0 if calls_nothing_unknown(part) else LEAVES_ID


# -- what the judgements share -----------------------------------------------------

# First words of statements that define what runs later, or tell how it would.
_DEFINING = frozenset(("create", "alter", "drop", "comment", "explain"))
#: System variables that hold the number that an INSERT gave.
ID_VARIABLES = frozenset(("last_insert_id", "identity", "insert_id"))
#: System variables that tell about the statement before.
PREVIOUS_VARIABLES = frozenset(("warning_count", "error_count", "error"))
# What is created and runs later.
_ROUTINES = frozenset(("function", "procedure", "trigger", "package", "event", "view"))
# What follows a BEGIN that begins a transaction, and not a block.
_BEGINS = frozenset(
    ("", "work", "tran", "transaction", "deferred", "immediate", "exclusive", "read")
)
_ID_CALLS = frozenset(
    ("last_insert_id", "last_insert_rowid", "scope_identity", "identity_val_local")
)

_VARIABLES = re.compile(
    r"@@[\s`]*(?:(?:session|local|global)[\s`]*\.[\s`]*)?([^\W\d][\w$]*)"
)
_WRITING = frozenset(("insert", "update", "delete", "merge", "replace", "into"))
_CURRENT = re.compile(r"\.\s*currval\b")
_DRAWING = frozenset(("nextval", "setval", "next"))
_USES = re.compile(
    r"""(?<![\w$#])(?:
    (?P<block>begin|declare|do)\b
    | (?P<insert>insert|merge)\b
    | (?P<call>nextval|setval|currval|lastval)["`\]]?\s*\(
      \s*(?P<argument>'[^']*'|[^\s'(),]*)
    | (?P<value>next|previous)\s+value\s+for\s+(?P<sequence>[^\s'(),;]*)
    | (?P<owner>[\w$#]+)"?\s*\.\s*"?(?P<attribute>nextval|currval)\b(?!"?\s*\()
    )""",
    re.VERBOSE,
)
# SQLite calls with a star as it does with nothing.
_CALLS = re.compile(r"(?<![\w$])([\w$]+)[\"`\]]?\s*\(\s*((?:\*\s*)?\))?")


def variables(code: str) -> set[str]:
    """Return the names of the system variables (@@name) in a statement."""
    return set(_VARIABLES.findall(code)) if "@@" in code else set()


def empty_calls(code: str) -> set[str]:
    """Return the names of the functions that a statement calls without arguments."""
    return {name for name, end in _CALLS.findall(code) if end}


def sets_last_id(code: str) -> bool:
    """Tell whether a statement gives an argument to LAST_INSERT_ID(): that sets it."""
    if "last_insert_id" not in code:
        return False
    return ("last_insert_id", "") in _CALLS.findall(code)


def has_phrase(found: Sequence[str], *phrase: str) -> bool:
    """Tell whether these words follow each other."""
    first, *others = phrase
    return any(
        word == first and found[number + 1 : number + len(phrase)] == others
        for number, word in enumerate(found)
    )


def asks_diagnostics(part: Part) -> bool:
    """Tell whether a SHOW or a GET asks about the statement before it."""
    if part.first == "get":
        return "diagnostics" in part.words[1:3]
    return (
        part.second in {"warnings", "errors", "profile", "profiles"}
        or part.words[1:3] == ["count", "warnings"]
        or part.words[1:3] == ["count", "errors"]
    )


def only_reads(part: Part) -> bool:
    """Tell whether a WITH has only queries in it."""
    return part.first == "with" and _WRITING.isdisjoint(part.words)


def runs_later(part: Part) -> bool:
    """Tell whether a statement only defines or explains what it says."""
    if part.first not in _DEFINING:
        return False
    if part.first != "create":
        return True
    # A table that is made from a query is made now, a view is not.
    found = part.words
    made = "table" in found[1:5] or "materialized" in found[1:4]
    return not made or "as" not in found


def asks_attribute(code: str) -> bool:
    """Tell whether a statement asks a sequence for its number as `name.currval`."""
    return "currval" in code and _CURRENT.search(code) is not None


def of_sequence(part: Part) -> int:
    """Return the verdict on a question about a sequence's number.

    What the same statement draws it may ask for. Which that is the literals say.
    """
    return RUNS_LITERALS if draws(part) else ASKS_ID


def asks_undrawn(text: str) -> bool:
    """Tell whether a text asks for the number of a sequence that it did not draw.

    `text` is in lower case, with its literals: on PostgreSQL they name sequences.
    Functions are called from left to right, and blocks run from the beginning.
    Oracle draws before it asks.
    """
    uses = list(_USES.finditer(text))
    drawn = {use["owner"] for use in uses if use["attribute"] == "nextval"}
    in_block = False
    for use in uses:
        name = _bare(use["argument"] or use["sequence"] or use["owner"] or "")
        verb = use["call"] or use["value"] or use["attribute"]
        if use["block"]:
            in_block = True
        elif use["insert"]:
            if in_block:
                return False  # it draws by a default, or in a trigger
        elif verb in _DRAWING:
            drawn.add(name)
        elif name not in drawn if name else (verb != "lastval" or not drawn):
            return True
    return False


def _bare(name: str) -> str:
    """Return the name of a sequence without quotes; "" if data will tell it."""
    if any(each in name for each in "%?:"):
        return ""
    return name.replace('"', "").replace("`", "")


def draws(part: Part) -> bool:
    """Tell whether a statement draws a number from a sequence, or sets one."""
    code = part.code
    if "val" not in code and "next" not in code:
        return False
    found = part.words
    return (
        "nextval" in found
        or "setval" in found
        or has_phrase(found, "next", "value", "for")
    )


def runs_after_all(part: Part) -> bool:
    """Tell whether what only explains or defines something also runs it."""
    if part.first == "explain":
        return "analyze" in part.words or "analyse" in part.words
    return part.first == "create" and "execute" in part.words


def calls_nothing_unknown(part: Part) -> bool:
    """Tell whether all functions that a statement calls are known to leave nothing."""
    if _calls_known(part.code):
        return True
    found = calls(part.code, defining=part.first in {"create", "alter"})
    return all(map(is_harmless, found))


def _calls_known(lowered: str) -> bool:
    """Tell the same of a text that need not be read yet; False may be wrong."""
    if "(" not in lowered:
        return True
    for before in lowered.split("(")[:-1]:
        name = before.rstrip()
        if name and (name[-1].isalnum() or name[-1] in '_$"`]'):
            name = name.rsplit(None, 1)[-1]
            if not is_harmless(name):
                return False
    return True


# -- any database ------------------------------------------------------------------

_ANY = AnyLexer()
#: Of any database: what the SQL standard has, and most databases share.
STANDARD = (
    *("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"),
    *("CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "EXPLAIN"),
    *("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"),
)
#: Harmless where the driver can tell whether a transaction is on.
BEGIN = ("BEGIN", "START", "END")
# Names of temporary tables, on some databases.
_HASH = re.compile(r"\b(?:into|table)\s+#")


class _AnyStatements(Statements):
    """Judges statements of a database of which only the harmless words are known."""

    def judge(self, part: Part) -> int:
        verdict = super().judge(part)
        code = part.code
        if part.first == "create" and "temp" in code:
            # Before the parenthesis, in whichever order a database has the words.
            before = words(code.partition("(")[0])
            if any(each.startswith("temp") for each in before):
                verdict |= SETTINGS
        if (part.first, part.second) == ("alter", "session"):
            verdict |= SETTINGS
        if "#" in code and _HASH.search(code):
            verdict |= SETTINGS
        return verdict


def any_database(*harmless: str) -> Statements:
    """Return the judge for a database of which only what is harmless there is known."""
    return _AnyStatements((*STANDARD, *harmless))
