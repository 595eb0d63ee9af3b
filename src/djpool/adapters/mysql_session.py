"""A session of MySQL's or MariaDB's, and the way back to how it began.

COM_RESET_CONNECTION does most of it in one round trip, and all drivers here can send
it, some by a private name. On both servers it ends transactions, locks (LOCK TABLES,
GET_LOCK, FLUSH TABLES WITH READ LOCK), temporary tables, user variables, prepared
statements and HANDLERs, and gives each variable the server's global value. It leaves
alone the database (USE), the active roles (SET ROLE), and who is logged on.

The global values are not what the session began with: the driver has set a character
set and autocommit, Django the isolation level, and the project what it likes. So
what the first connection of a pool had is asked for when it is new; what a reset
takes away of that is found out at the first reset; and from then on it is set again
after each. That makes three round trips, and one more for a database or for roles
that were changed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from djpool.adapters.mysql_errors import MySQLErrors
from djpool.adapters.sockets import cut_off
from djpool.core.adapter import Connector
from djpool.core.session import (
    ASKS_ID,
    ASKS_PREVIOUS,
    ID_VARIABLES,
    LEAVES,
    LEAVES_ID,
    LEAVES_ROWS,
    LOCKS,
    OPENS,
    PREVIOUS_VARIABLES,
    RUNS_LITERALS,
    SETTINGS,
    STANDARD,
    Change,
    Irreparable,
    MoreThanSettings,
    Part,
    Statements,
    asks_attribute,
    asks_diagnostics,
    draws,
    empty_calls,
    has_phrase,
    of_sequence,
    only_reads,
    runs_later,
    sets_last_id,
    variables,
)
from djpool.core.sql import MYSQL, Lexer, calls, words

# BEGIN is, unless more than WORK follows: MariaDB runs blocks. Of CALL, EXECUTE, DO,
# HANDLER, XA and everything else that is not here, no text tells what it does.
HARMLESS = (
    *STANDARD,
    *("REPLACE", "SHOW", "DESCRIBE", "DESC", "HELP", "BEGIN", "START"),
    *("ANALYZE", "CHECK", "CHECKSUM", "OPTIMIZE", "REPAIR", "RENAME", "CACHE"),
    *("LOAD DATA", "LOAD XML", "LOAD INDEX", "IMPORT", "FLUSH", "KILL", "PURGE"),
    *("UNLOCK", "COMMENT"),
)
# With autocommit on, these leave no transaction open.
_CLOSED = frozenset(
    (
        *("select", "insert", "update", "delete", "replace", "with", "values", "table"),
        *("show", "describe", "desc", "explain", "help", "create", "alter", "drop"),
        *("truncate", "rename", "grant", "revoke", "analyze", "check", "checksum"),
        *("optimize", "repair", "use", "savepoint", "release", "flush", "kill"),
    )
)
_LOADED = frozenset(("data", "xml", "index"))
_BEGINS = (["begin"], ["begin", "work"])
_LOCK_FUNCTIONS = frozenset(
    ("get_lock", "get_locks", "release_lock", "release_locks", "release_all_locks")
)
_LOCKED = frozenset(("table", "tables", "instance"))
_LITERALS = re.compile("['\"]([^'\"]*)['\"]")
# Of a pattern for names, or of a name that is put together.
_TELLING, _LONG = 4, 30
_INTO_VARIABLE = re.compile(r"\binto\s*@")


class _MySQLStatements(Statements):
    """Judges statements for MySQL and MariaDB."""

    verbs: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("select", "savepoint", "release"), 0),
        **dict.fromkeys(("update", "delete"), LEAVES_ROWS),
        "insert": LEAVES,
    }
    marks = ("'", '"', ";", "--", "/*", "#", "@", ":=", "\0")
    telling = (
        *("_lock", "last_insert_id", "lastval", "setval", "next", "previous"),
        "currval",
        *("row_count", "found_rows", "session_variables"),
    )
    questions = ("last_insert_id", "identity", "lastval", "row_count", "found_rows")
    quote = "`"
    wary = False
    silent = Statements.silent | {
        *("select", "values", "table", "explain", "alter", "check", "checksum", "kill"),
        *("optimize", "repair", "rename", "flush", "cache", "purge", "import", "begin"),
    }

    def judge(self, part: Part) -> int:
        verdict = super().judge(part)
        code, first = part.code, part.first
        if (
            (":=" in code)
            or ("@" in code and (first == "load" or _INTO_VARIABLE.search(code)))
            or (first == "begin" and part.words not in _BEGINS)
            or (first == "create" and _is_temporary(part))
        ):
            verdict |= SETTINGS
        if "lock" in code or "flush" in code or "backup" in code:
            verdict |= _locks(part.words, only_functions=first in self.verbs)
        if (
            first in {"execute", "prepare", "begin"}
            or (first == "show" and "variables" in part.words[1:3])
            or "session_variables" in code
        ):
            verdict |= RUNS_LITERALS
        if first not in _CLOSED and not _leaves_none(part):
            verdict |= OPENS
        return verdict

    def judge_literals(self, text: str) -> int:
        verdict = super().judge_literals(text) | _locks(words(text))
        named, empty = variables(text), empty_calls(text)
        literals = _LITERALS.findall(text)
        if (
            "last_insert_id" in empty
            or named & ID_VARIABLES
            # Perhaps put together of two literals.
            or ("last_insert" in text and not sets_last_id(text))
            or any(_is_part_of(each, ID_VARIABLES) for each in literals)
        ) and "insert" not in words(text.partition("last_insert_id")[0]):
            verdict |= ASKS_ID
        if (
            empty & {"row_count", "found_rows"}
            or named & PREVIOUS_VARIABLES
            or any(_is_part_of(each, PREVIOUS_VARIABLES) for each in literals)
        ):
            verdict |= ASKS_PREVIOUS
        return verdict

    def asks(self, part: Part) -> int:
        code, first = part.code, part.first
        if first in {"show", "get"}:
            return ASKS_PREVIOUS if asks_diagnostics(part) else 0
        if runs_later(part):
            return 0
        verdict = 0
        if "@@" in code:
            # What stands before the first = of a SET is set.
            found = variables(code.partition("=")[2] if first == "set" else code)
            verdict |= ASKS_ID if found & ID_VARIABLES else 0
            verdict |= ASKS_PREVIOUS if found & PREVIOUS_VARIABLES else 0
        if "last_insert_id" in code and "last_insert_id" in empty_calls(code):
            verdict |= ASKS_ID
        if _asks_sequence(part):
            verdict |= of_sequence(part)
        if ("row_count" in code or "found_rows" in code) and (
            empty_calls(code) & {"row_count", "found_rows"}
        ):
            verdict |= ASKS_PREVIOUS
        return verdict

    def leaves(self, part: Part) -> int:
        first = part.first
        if first in {"update", "delete"}:
            verdict = LEAVES_ROWS
        elif first in self.silent or only_reads(part):
            verdict = 0
            if first == "begin" and part.words not in _BEGINS:
                verdict = LEAVES
            elif first == "analyze" and part.second in {"insert", "replace", "with"}:
                verdict = LEAVES  # MariaDB runs it
            elif first == "set" and not ID_VARIABLES.isdisjoint(part.words):
                verdict = LEAVES_ID
        elif first == "create":
            # CREATE TABLE … SELECT inserts.
            found = part.words
            verdict = LEAVES_ID if "table" in found[1:5] and "select" in found else 0
        else:
            return LEAVES
        if draws(part) or sets_last_id(part.code):
            verdict |= LEAVES_ID
        return verdict


def _is_temporary(part: Part) -> bool:
    found = part.words
    return part.second == "temporary" or found[1:4] == ["or", "replace", "temporary"]


def _locks(found: Sequence[str], *, only_functions: bool = False) -> int:
    """Return LOCKS if these are the words of a statement that takes locks, or frees."""
    if not _LOCK_FUNCTIONS.isdisjoint(found):
        return LOCKS
    if only_functions:
        return 0
    flushes = False
    for word, then in zip(found, [*found[1:], ""], strict=True):
        if (
            (word == "lock" and then in _LOCKED)
            or (word == "backup" and then in {"stage", "lock"})
            or (flushes and word in {"lock", "export"})
        ):
            return LOCKS
        flushes = flushes or word == "flush"
    return 0


def _is_part_of(literal: str, names: Iterable[str]) -> bool:
    """Tell whether a literal is one of these names, a part of one, or a pattern."""
    if not _TELLING <= len(literal) <= _LONG:
        return False
    letters = "".join(filter(str.isalpha, literal))
    wanted = (name.replace("_", "") for name in names)
    return len(letters) >= _TELLING and any(letters in name for name in wanted)


def _asks_sequence(part: Part) -> bool:
    code = part.code
    if "lastval" in code and "lastval" in calls(code):
        return True
    if asks_attribute(code):  # MariaDB's, with Oracle's words
        return True
    return "previous" in code and has_phrase(part.words, "previous", "value", "for")


def _leaves_none(part: Part) -> bool:
    """Tell whether the words after the first say that no transaction is left."""
    first, found = part.first, part.words
    if first == "set":
        return part.second != "statement" and "completion_type" not in found
    if first == "load":
        return part.second in _LOADED
    if first not in {"commit", "rollback"}:
        return False
    rest = found[1:]
    if rest[:1] == ["work"]:
        del rest[:1]
    if first == "rollback" and rest[:1] == ["to"]:
        return True
    if rest[:3] == ["and", "no", "chain"]:
        del rest[:3]
    return rest in ([], ["no", "release"])


statements = _MySQLStatements(HARMLESS, reader=Lexer(MYSQL))

# What a session has, apart from variables, that a reset leaves alone.
IDENTITY = "SELECT USER(), DATABASE(), CURRENT_ROLE()"
VARIABLES = "SHOW SESSION VARIABLES"
# They change by themselves, or with the database.
VOLATILE = frozenset(
    (
        *("timestamp", "rand_seed1", "rand_seed2", "last_insert_id", "identity"),
        *("insert_id", "pseudo_thread_id", "statement_id", "error_count"),
        *("warning_count", "in_transaction"),
        *("character_set_database", "collation_database"),
    )
)
# The server's numbers for "no such variable", "it is global" and "it is read-only":
# a value that has changed, but not with the session.
NOT_OF_THE_SESSION = frozenset({1193, 1229, 1238})
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# The statements after connecting of which the questions above see all that they do.
_SEEN = re.compile(
    r"\s*(?:use\s|set\s+(?!resource\b|statement\b)(?:[^@]|@@)*\Z)", re.IGNORECASE
)

Row = Sequence[str | None]


class Origin:
    """How the sessions of a pool began. Thread-safe."""

    def __init__(
        self, setup: Sequence[str], say: Callable[[str], Iterable[Row]]
    ) -> None:
        """Ask for it.

        Args:
            setup: What was run when the session began, and may have changed it.
            say: Runs a statement and gives its rows.
        """
        self.setup = setup
        self._variables = _variables(say)
        self._user, self._database, self._roles = next(iter(say(IDENTITY)))
        self._odd = next((each for each in setup if not _is_seen(each)), None)
        if "wait_timeout" not in self._variables:
            self._odd = "a sql_select_limit, which hides variables"
        # What to say after a reset; None until the first.
        self._recipe: str | None = None

    def go_back(
        self, reset: Callable[[], None], say: Callable[[str], Iterable[Row]]
    ) -> None:
        """Bring a session back there.

        Args:
            reset: Sends COM_RESET_CONNECTION.
            say: Runs a statement and gives its rows.

        Raises:
            Irreparable: That cannot be.
        """
        if self._odd is not None:
            raise MoreThanSettings(self._odd)
        reset()
        if self._recipe is None:
            self._recipe = self._learn(say)
        elif self._recipe:
            say(self._recipe)
        user, database, roles = next(iter(say(IDENTITY)))
        if user != self._user:
            raise Irreparable(f"it is {user}'s by now, and was {self._user}'s")
        if database != self._database:
            if self._database is None:
                raise Irreparable("it had no database, and no statement leads there")
            say(f"USE {_quoted(self._database)}")
        if roles != self._roles:
            say(f"SET ROLE {_roles(self._roles)}")

    def _learn(self, say: Callable[[str], Iterable[Row]]) -> str:
        """Set what a reset has taken away; what to say to have that again."""
        now = _variables(say)
        said: list[str] = []
        # By name, because collation_connection must follow character_set_connection.
        for name, value in sorted(self._variables.items()):
            if name in VOLATILE or now.get(name) == value:
                continue
            assignment = f"SESSION {name} = {_literal(name, value)}"
            try:
                say(f"SET {assignment}")
            except Exception as error:
                if not NOT_OF_THE_SESSION.intersection(error.args[:1]):
                    raise
            else:
                said.append(assignment)
        return f"SET {', '.join(said)}" if said else ""


def _variables(say: Callable[[str], Iterable[Row]]) -> dict[str, str | None]:
    return {str(name): value for name, value in say(VARIABLES)}


def _is_seen(setup: str) -> bool:
    # A statement has its parameters after it, as Python shows them.
    parts = [part.strip() for part in setup.split(";")]
    return all(_SEEN.match(each) for each in parts if each not in {"", "None", "()"})


def _literal(name: str, value: str | None) -> str:
    if value is None or (name == "character_set_results" and not value):
        return "NULL"
    return value if NUMBER.fullmatch(value) else _string(value)


def _string(value: str) -> str:
    # The server's own sql_mode may say that a backslash escapes nothing.
    if "\\" in value:
        return f"X'{value.encode().hex()}'"
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _quoted(name: str) -> str:
    doubled = name.replace("`", "``")
    return f"`{doubled}`"


def _roles(current: str | None) -> str:
    """What CURRENT_ROLE() says, for SET ROLE: MySQL quotes it, MariaDB does not."""
    if current is None or current == "NONE":
        return "NONE"
    return current if "`" in current else _quoted(current)


class Kept:
    """What a connection keeps in Python, as it was."""

    def __init__(self, connection: Any, names: Iterable[str]) -> None:
        self._values = [(name, getattr(connection, name)) for name in names]
        self._dicts = [
            (value, dict(value)) for _, value in self._values if isinstance(value, dict)
        ]

    def give_back(self, connection: Any) -> None:
        """Let the connection have it again."""
        for name, value in self._values:
            if getattr(connection, name) is not value:
                setattr(connection, name, value)
        for value, copied in self._dicts:
            value.clear()
            value.update(copied)


class SessionDriver(MySQLErrors):
    """What all drivers of MySQL's family say in the same words."""

    vendor = "mysql"
    changes = staticmethod(statements)
    looks = frozenset(
        (
            *("host", "port", "user", "db", "unix_socket", "charset", "encoding"),
            *("server_host", "server_port", "server_version", "server_status", "open"),
            *("get_server_info", "get_host_info", "get_proto_info", "thread_id"),
            *("character_set_name", "get_autocommit", "get_character_set_info"),
            *("connection_id", "get_server_version", "in_transaction", "fileno"),
            *("errno", "error", "info", "field_count", "unread_result", "is_connected"),
        )
    )
    #: The attributes of a connection that somebody may have set.
    kept: tuple[str, ...] = ()

    def __init__(self, connect: Callable[[float], Any], connector: Connector) -> None:
        super().__init__(connect)
        self._autocommit = connector.autocommit
        self._setup = connector.setup
        # The last one. Most pools have one only.
        self._origin: Origin | None = None

    def fileno(self, connection: Any) -> int | None:
        """The connection's socket, where the driver shows it."""
        raise NotImplementedError

    def come_to_rest(self, connection: Any) -> None:
        """End the transaction, and set autocommit as it was."""
        raise NotImplementedError

    def reset(self, connection: Any) -> None:
        """Send COM_RESET_CONNECTION."""
        raise NotImplementedError

    def rows(self, connection: Any, statement: str) -> Iterable[Sequence[Any]]:
        """Run a statement, and give its rows, as text or in bytes."""
        raise NotImplementedError

    def count_calls(self, connection: Any, name: str) -> None:
        """Count the calls of a connection's method that are not known to have ended.

        For drivers that do not know themselves whether an answer is under way. So an
        interruption is noticed, too, where the project uses the driver's own objects.
        """
        call = getattr(connection, name)
        connection.djpool_calls = 0

        def counted(*args: Any, **kwargs: Any) -> Any:
            connection.djpool_calls += 1
            try:
                answer = call(*args, **kwargs)
            except Exception as error:
                if self.answered(error):
                    connection.djpool_calls -= 1
                raise
            connection.djpool_calls -= 1
            return answer

        setattr(connection, name, counted)

    def roll_back(self, connection: Any) -> None:
        """End the transaction, and begin none, whatever `completion_type` says."""
        self.rows(connection, "ROLLBACK AND NO CHAIN NO RELEASE")

    def challenge(self, connection: Any) -> None:
        """Raise unless the connection answers what it is asked, and nothing older."""
        asked = secrets.token_hex(8)
        if [row[0] for row in self._says(connection)(f"SELECT '{asked}'")] != [asked]:
            raise ConnectionError("an older answer was still under way")

    def restore_charset(self, connection: Any) -> None:
        """Have the driver speak the character set that it did in the beginning."""

    def tidy(self, connection: Any, timeout: float) -> None:
        with cut_off(self.fileno(connection), timeout):
            self.come_to_rest(connection)

    def remember(self, connection: Any) -> None:
        setup, origin = tuple(self._setup()), self._origin
        if origin is None or origin.setup != setup:
            origin = self._origin = Origin(setup, self._says(connection))
            if not self._autocommit:
                connection.rollback()
        connection.djpool_origin = origin
        connection.djpool_kept = Kept(connection, self.kept)

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        origin: Origin = connection.djpool_origin
        try:
            with cut_off(self.fileno(connection), timeout):
                if change & Change.UNKNOWN:
                    self.restore_charset(connection)
                    connection.djpool_kept.give_back(connection)
                origin.go_back(lambda: self.reset(connection), self._says(connection))
        except Exception:
            # Perhaps the server is another by now, and knows other variables.
            self._origin = None
            raise

    def _says(self, connection: Any) -> Callable[[str], Iterator[Row]]:
        def say(statement: str) -> Iterator[Row]:
            rows = self.rows(connection, statement)
            return (tuple(_text(value) for value in row) for row in rows)

        return say


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="replace")
    return value if value is None else str(value)


def tell_init_command(wrapper: Any, params: Mapping[str, Any]) -> None:
    """Have a connection's first statement, which the driver runs, count as setup."""
    if command := params.get("init_command"):
        wrapper.djpool_changed(Change.SETTINGS, command)
