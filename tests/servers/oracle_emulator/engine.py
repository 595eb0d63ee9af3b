"""What a session executes: sqlite behind an Oracle-shaped front.

All sessions share one sqlite file (on a memory file system where there is
one) in WAL mode, with one sqlite connection each: readers see committed data
and block nobody, while writers take turns.  Queries run outside any
transaction until the session's first DML statement, which is when Oracle
starts one too.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import shutil
import sqlite3
import tempfile
import uuid
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.servers.oracle_emulator import datatypes, plsql, sql
from tests.servers.oracle_emulator.datatypes import ColumnType
from tests.servers.oracle_emulator.errors import OracleError, from_sqlite

if TYPE_CHECKING:
    from tests.servers.oracle_emulator.session import Session

# Seconds that a writer waits for another one, before ORA-00054.
LOCK_TIMEOUT = 5.0

#: What a territory brings with it.
_OF_A_TERRITORY = {
    "NLS_CURRENCY": "$",
    "NLS_NUMERIC_CHARACTERS": ".,",
    "NLS_DATE_FORMAT": "DD-MON-RR",
    "NLS_TIMESTAMP_FORMAT": "DD-MON-RR HH.MI.SSXFF AM",
}
#: What a language brings with it.
_OF_A_LANGUAGE = {"NLS_SORT": "BINARY"}
_DEFAULT_PARAMETERS = {
    "NLS_LANGUAGE": "AMERICAN",
    "NLS_TERRITORY": "AMERICA",
    "NLS_CALENDAR": "GREGORIAN",
    **_OF_A_TERRITORY,
    **_OF_A_LANGUAGE,
    "NLS_COMP": "BINARY",
    "NLS_LENGTH_SEMANTICS": "BYTE",
    "TIME_ZONE": "+00:00",
}

#: Names that unaliased columns get from their translation.
_TRANSLATED_NAMES = {
    "EMU_NOW(0)": "SYSDATE",
    "EMU_NOW(6)": "SYSTIMESTAMP",
    "EMU_TIME_ZONE()": "SESSIONTIMEZONE",
    "SYS_CONTEXT('USERENV','SESSION_USER')": "USER",
}

#: Read-only views over the emulator's own state, refreshed when mentioned.
_VIEWS = {
    "V$SESSION": (
        "SID, SERIAL#, USERNAME, STATUS, TYPE, MODULE, ACTION, CLIENT_INFO,"
        " CLIENT_IDENTIFIER, PROGRAM, MACHINE"
    ),
    "NLS_SESSION_PARAMETERS": "PARAMETER, VALUE",
    "SESSION_ROLES": "ROLE",
    "SESSION_CONTEXT": "NAMESPACE, ATTRIBUTE, VALUE",
    "EMU_SESSION_STATE": "KIND, NAME, VALUE",
}


#: The roles that each user has; another one can be had.
DEFAULT_ROLES = ("CONNECT", "RESOURCE")


@dataclass
class SessionState:
    """Everything that outlives a statement and could leak to the next user."""

    parameters: dict[str, str] = field(default_factory=_DEFAULT_PARAMETERS.copy)
    attributes: dict[str, str] = field(default_factory=dict)  # MODULE, ACTION, ...
    contexts: dict[tuple[str, str], str] = field(default_factory=dict)
    package: dict[str, Any] = field(default_factory=dict)
    roles: set[str] = field(default_factory=lambda: set(DEFAULT_ROLES))
    current_schema: str = ""

    def rows(self) -> list[tuple[str, str, Any]]:
        """The rows of the view EMU_SESSION_STATE."""
        contexts = {f"{ns}.{attr}": v for (ns, attr), v in self.contexts.items()}
        kinds: dict[str, dict[str, Any]] = {
            "PARAMETER": self.parameters,
            "ATTRIBUTE": self.attributes,
            "CONTEXT": contexts,
            "PACKAGE": self.package,
        }
        return [(k, name, v) for k, d in kinds.items() for name, v in d.items()]


@dataclass(frozen=True)
class Column:
    name: str
    type: ColumnType


@dataclass
class Result:
    """The outcome of an execute."""

    rowcount: int = 0
    columns: list[Column] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    returned: list[list[tuple[Any, ...]]] = field(default_factory=list)
    out_binds: dict[str, Any] = field(default_factory=dict)
    last_rowid: int = 0


class Store:
    """The sqlite file shared by all the sessions of a server."""

    def __init__(self) -> None:
        memory = "/dev/shm"
        root = memory if os.access(memory, os.W_OK) else None
        self.directory = tempfile.mkdtemp(prefix="oracle-emulator-", dir=root)
        # At exit as well, but not by a forked child: the files are its parent's.
        self._cleanup = weakref.finalize(self, _remove, self.directory, os.getpid())
        self.path = Path(self.directory) / "data.sqlite"
        with self.connect() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE DUAL (DUMMY VARCHAR2(1))")
            db.execute("INSERT INTO DUAL VALUES ('X')")
        db.close()

    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path,
            timeout=LOCK_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA case_sensitive_like = ON")
        return db

    def close(self) -> None:
        self._cleanup()


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


class Engine:
    """Executes statements for one session."""

    def __init__(self, store: Store, session: Session) -> None:
        self.session = session
        self.state = SessionState()
        self.db = store.connect()
        self._savepoints: list[str] = []  # set before the transaction began
        self._add_functions()
        for name, columns in _VIEWS.items():
            listed = ", ".join(f'"{c.strip()}"' for c in columns.split(","))
            self.db.execute(f'CREATE TEMP TABLE "{name}" ({listed})')

    def close(self) -> None:
        """Forget uncommitted work, as the end of a session does."""
        if self.db.in_transaction:
            self.db.rollback()
        self.db.close()

    # -- transactions ------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self.db.in_transaction

    def begin(self) -> None:
        if not self.in_transaction:
            self._run("BEGIN IMMEDIATE")
            for name in self._savepoints:
                self._run(f'SAVEPOINT "{name}"')

    def commit(self) -> None:
        self._savepoints.clear()
        if self.in_transaction:
            self._run("COMMIT")

    def rollback(self) -> None:
        self._savepoints.clear()
        if self.in_transaction:
            self._run("ROLLBACK")

    def _transaction(self, statement: sql.Statement) -> None:
        words = [t.upper or sql.unquote(t.text) for t in statement.tokens]
        if words[0] == "COMMIT":
            self.commit()
        elif words[0] == "SAVEPOINT":
            if self.in_transaction:
                self._run(f'SAVEPOINT "{words[1]}"')
            else:
                self._savepoints.append(words[1])
        elif "TO" in words:
            self._rollback_to(words[-1])
        else:
            self.rollback()

    def _rollback_to(self, name: str) -> None:
        if self.in_transaction:
            self._run(f'ROLLBACK TO SAVEPOINT "{name}"')
        elif name in self._savepoints:
            del self._savepoints[self._savepoints.index(name) + 1 :]
        else:
            raise OracleError(1086, name)

    # -- statements ----------------------------------------------------------------

    def execute(self, statement: sql.Statement, bind_rows: list[list[Any]]) -> Result:
        """Run a statement once for every row of binds."""
        try:
            return self._execute(statement, bind_rows or [[]])
        except sqlite3.Error as exc:
            raise from_sqlite(exc) from exc

    def _execute(self, statement: sql.Statement, bind_rows: list[list[Any]]) -> Result:
        match statement.kind:
            case "query":
                return self._query(statement, bind_rows[0])
            case "dml":
                return self._dml(statement, bind_rows)
            case "plsql":
                return self._plsql(statement, bind_rows)
            case _:
                self._command(statement)
        return Result()

    def _plsql(self, statement: sql.Statement, bind_rows: list[list[Any]]) -> Result:
        result = Result()
        for row in bind_rows:
            named = dict(zip(statement.binds, row, strict=False))
            result.out_binds = plsql.run(self, statement.tokens, named)
        return result

    def _command(self, statement: sql.Statement) -> None:
        """What gives neither rows nor values."""
        match statement.kind:
            case "ddl":
                self.commit()
                for text in statement.sqlite:
                    self._run(text)
            case "transaction":
                self._transaction(statement)
            case "alter_session":
                self._alter_session(statement)
            case "alter_system":
                self._alter_system(statement)
            case "set":
                self._set(statement)
            case "user":
                self._user(statement)

    def describe(self, statement: sql.Statement) -> list[Column]:
        """The columns of a query that is parsed without being executed."""
        try:
            self._refresh_views(statement.text)
            found = self._declarations(statement)
        except sqlite3.Error as exc:
            raise from_sqlite(exc) from exc
        types = (datatypes.from_declaration(declared) for _, declared in found)
        names = self._column_names(statement, [name for name, _ in found])
        return [
            Column(name, type_ or datatypes.ANY_STRING)
            for name, type_ in zip(names, types, strict=True)
        ]

    def _run(self, text: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.db.execute(text, parameters)

    def _query(self, statement: sql.Statement, binds: list[Any]) -> Result:
        self._refresh_views(statement.text)
        if statement.for_update:
            self.begin()
        cursor = self._run(statement.sqlite[0], binds)
        rows = cursor.fetchall()
        names = self._column_names(statement, [d[0] for d in cursor.description])
        declared = [d for _, d in self._declarations(statement)]
        columns = []
        for index, name in enumerate(names):
            type_ = datatypes.from_declaration(declared[index])
            values = [row[index] for row in rows]
            columns.append(Column(name, type_ or datatypes.infer(values)))
        return Result(columns=columns, rows=rows)

    def _declarations(self, statement: sql.Statement) -> list[tuple[str, str]]:
        """Names and declared types of a query's columns.

        sqlite3 hides the declared type of result columns, but not that of a
        view's columns, so the query becomes a view for a moment.
        """
        self._run(f"CREATE TEMP VIEW emu_describe AS {statement.describe}")
        try:
            found = self._run("PRAGMA temp.table_info(emu_describe)").fetchall()
        finally:
            self._run("DROP VIEW temp.emu_describe")
        return [(row[1], row[2]) for row in found]

    @staticmethod
    def _column_names(statement: sql.Statement, names: list[str]) -> list[str]:
        quoted = {sql.unquote(t.text) for t in statement.tokens if t.kind == "quoted"}
        names = [_TRANSLATED_NAMES.get(name, name) for name in names]
        return [name if name in quoted else name.upper() for name in names]

    def _dml(self, statement: sql.Statement, bind_rows: list[list[Any]]) -> Result:
        started = not self.in_transaction
        self.begin()
        result = Result()
        try:
            for row in bind_rows:
                cursor = self._run(statement.sqlite[0], row)
                if statement.return_binds:
                    returned = cursor.fetchall()
                    result.returned.append(returned)
                    result.rowcount += len(returned)
                else:
                    result.rowcount += max(cursor.rowcount, 0)
                result.last_rowid = cursor.lastrowid or 0
        except sqlite3.Error:
            if started and not result.rowcount:
                self._run("ROLLBACK")
            raise
        return result

    def _alter_session(self, statement: sql.Statement) -> None:
        for name, value in sql.session_parameters(statement):
            if name == "CURRENT_SCHEMA":
                self.state.current_schema = value
                continue
            self.state.parameters[name] = value
            if name == "NLS_TERRITORY":
                self.state.parameters |= _OF_A_TERRITORY
            elif name == "NLS_LANGUAGE":
                self.state.parameters |= _OF_A_LANGUAGE

    def _set(self, statement: sql.Statement) -> None:
        """SET ROLE; other things that are SET end with their transaction."""
        words = [t.upper or sql.unquote(t.text) for t in statement.tokens]
        if words[1] != "ROLE":
            return
        roles = {"NONE": set(), "ALL": set(DEFAULT_ROLES)}
        self.state.roles = roles.get(words[2], {w for w in words[2:] if w != ","})

    def _user(self, statement: sql.Statement) -> None:
        """CREATE USER, ALTER USER and DROP USER. A user has no schema here."""
        words = [t.upper or sql.unquote(t.text) for t in statement.tokens]
        users = self.session.server.users
        if words[0] == "DROP":
            if any(s.user == words[2] for s in self.session.server.sessions()):
                raise OracleError(1940)
            users.pop(words[2], None)
        elif "IDENTIFIED" in words:
            users[words[2]] = words[words.index("IDENTIFIED") + 2]

    def _alter_system(self, statement: sql.Statement) -> None:
        words = [t.upper for t in statement.tokens]
        if words[2:4] != ["KILL", "SESSION"]:
            return
        sid = int(sql.unquote(statement.tokens[4].text).split(",")[0])
        how: Literal["drop", "error"] = "drop" if "IMMEDIATE" in words else "error"
        if not self.session.server.kill(sid, how=how):
            raise OracleError(30, message="User session ID does not exist.")

    # -- the emulator's views and functions -------------------------------------------

    def _refresh_views(self, text: str) -> None:
        upper = text.upper()
        for name, columns in _VIEWS.items():
            if name not in upper:
                continue
            if name == "V$SESSION":
                rows = self.session.server.session_rows()
            elif name == "EMU_SESSION_STATE":
                rows = self.state.rows()
            elif name == "SESSION_ROLES":
                rows = [(role,) for role in sorted(self.state.roles)]
            elif name == "SESSION_CONTEXT":
                rows = [(*key, value) for key, value in self.state.contexts.items()]
            else:
                known = self.state.parameters.items()
                rows = [row for row in known if row[0].startswith("NLS_")]
            marks = ", ".join("?" * (columns.count(",") + 1))
            self._run(f'DELETE FROM temp."{name}"')
            self.db.executemany(f'INSERT INTO temp."{name}" VALUES ({marks})', rows)

    def evaluate(self, statement: sql.Statement, named: dict[str, Any]) -> Any:
        """The value of an expression prepared by ``sql.expression``."""
        binds = [named.get(name) for name in statement.binds]
        row = self._run(statement.sqlite[0], binds).fetchone()
        return row[0]

    def _context(self, namespace: str, attribute: str, *_: Any) -> str | None:
        namespace, attribute = namespace.upper(), attribute.upper()
        if namespace != "USERENV":
            return self.state.contexts.get((namespace, attribute))
        session = self.session
        known = {
            "SID": session.sid,
            "SESSIONID": session.sid,
            "SESSION_USER": session.user,
            "CURRENT_USER": session.user,
            "CURRENT_SCHEMA": self.state.current_schema or session.user,
            "SERVICE_NAME": session.service,
            "DB_NAME": session.service,
            "INSTANCE_NAME": "emulator",
            "SERVER_HOST": "127.0.0.1",
        }
        value = known.get(attribute, self.state.attributes.get(attribute))
        return None if value is None else str(value)

    def _add_functions(self) -> None:
        functions: dict[str, tuple[int, Callable[..., Any]]] = {
            "EMU_NOW": (1, _now),
            "EMU_TIME_ZONE": (0, lambda: self.state.parameters["TIME_ZONE"]),
            "EMU_LOB_SUBSTR": (-1, lambda x, n=4000, o=1: x and x[o - 1 : o - 1 + n]),
            "EMU_LOB_GETLENGTH": (1, lambda x: None if x is None else len(x)),
            "SYS_CONTEXT": (-1, self._context),
            "USERENV": (1, lambda attribute: self._context("USERENV", attribute)),
            "NVL": (2, lambda a, b: b if a in (None, "") else a),
            "NVL2": (3, lambda a, b, c: c if a in (None, "") else b),
            "MOD": (2, lambda a, b: a if not b else math.fmod(a, b)),
            "DECODE": (-1, _decode),
            "GREATEST": (-1, lambda *xs: None if None in xs else max(xs)),
            "LEAST": (-1, lambda *xs: None if None in xs else min(xs)),
            "BITAND": (2, lambda a, b: int(a) & int(b)),
            "CONCAT": (2, lambda a, b: f"{_plain(a)}{_plain(b)}" or None),
            "REGEXP_LIKE": (-1, _regexp_like),
            "SYS_GUID": (0, lambda: uuid.uuid4().bytes),
            "TO_CHAR": (-1, _to_char),
            "TO_NUMBER": (-1, _to_number),
            "TO_DATE": (-1, lambda x, *_: x),
            "TO_TIMESTAMP": (-1, lambda x, *_: x),
            **dict.fromkeys(("TO_CLOB", "TO_NCLOB", "TO_BLOB"), (1, lambda x: x)),
        }
        for name, (arguments, function) in functions.items():
            self.db.create_function(name, arguments, function)


def _now(digits: int) -> str:
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return now.isoformat(" ", "microseconds" if digits else "seconds")


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _decode(value: Any, *pairs: Any) -> Any:
    for candidate, answer in zip(pairs[::2], pairs[1::2], strict=False):
        if value == candidate:
            return answer
    return pairs[-1] if len(pairs) % 2 else None


def _regexp_like(value: Any, pattern: str, flags: str = "c") -> int:
    options = re.IGNORECASE if "i" in (flags or "") else 0
    return int(
        value is not None and re.search(pattern, str(value), options) is not None
    )


def _to_number(value: Any, *_: Any) -> Any:
    if value in (None, ""):
        return None
    if isinstance(value, str):
        return float(value) if re.search(r"[.eE]", value) else int(value)
    return value


_FORMATS = [
    ("YYYY", "%Y"),
    ("HH24", "%H"),
    ("MI", "%M"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("SS", "%S"),
    ("FF", "%f"),
    ("IW", "%V"),
]


def _to_char(value: Any, pattern: str | None = None, *_: Any) -> str | None:
    if value is None or not pattern or not isinstance(value, str):
        return None if value is None else str(value)
    moment = datatypes.parse_datetime(value)
    for oracle, python in _FORMATS:
        pattern = pattern.replace(oracle, python)
    return moment.strftime(pattern)
