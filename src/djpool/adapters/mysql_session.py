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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from djpool.adapters.mysql_errors import MySQLErrors
from djpool.adapters.sockets import cut_off
from djpool.core.adapter import Connector
from djpool.core.session import (
    STANDARD,
    Change,
    Irreparable,
    MoreThanSettings,
    Statements,
)

# BEGIN is, unless more than WORK follows: MariaDB runs blocks. Of CALL, EXECUTE, DO,
# HANDLER, XA and whatever else is not here, nobody knows.
statements = Statements(
    (
        *STANDARD,
        *("REPLACE", "SHOW", "DESCRIBE", "DESC", "HELP", "BEGIN", "START"),
        *("ANALYZE", "CHECK", "CHECKSUM", "OPTIMIZE", "REPAIR", "RENAME", "CACHE"),
        *("LOAD DATA", "LOAD XML", "LOAD INDEX", "IMPORT", "FLUSH", "KILL", "PURGE"),
        *("UNLOCK", "COMMENT"),
    ),
    changing=(
        r":=|\binto(?:\s|/\*.*?\*/)+@|\bload\b.*@"
        r"|\bcreate\b[^(;]*\btemporary\b"
        r"|\bbegin\b(?!\s*(?:work\s*)?(?:;|\Z))"
        # A comment that is none.
        r"|/\*m?!"
    ),
    locking=(
        r"\b(?:get|release|release_all)_locks?\b|\block\s+(?:tables?|instance)\b"
        r"|\bflush\b.*\b(?:lock|export)\b|\bbackup\s+(?:stage|lock)\b"
    ),
    markers=(":=", "@", "temporary", "begin", "/*!", "/*m!", "lock", "flush", "backup"),
)

# A transaction, which a driver may not be told of, opens with one of these words. As
# bytes, and first: comments may stand before them.
_COMMENTS = rb"\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*|#[^\n]*\n\s*)*"
_BEGINS = rb"(?:BEGIN|START\s|XA\s|(?:COMMIT|ROLLBACK)\s.*\bCHAIN)"
_AT_ONCE = re.compile(_COMMENTS + _BEGINS, re.IGNORECASE | re.DOTALL)
_LATER = re.compile(rb";" + _COMMENTS + _BEGINS, re.IGNORECASE | re.DOTALL)

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


def may_begin(statement: bytes) -> bool:
    """Whether a statement may open a transaction while autocommit is on."""
    if _AT_ONCE.match(statement):
        return True
    return b";" in statement and _LATER.search(statement) is not None


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
