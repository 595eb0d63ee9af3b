"""Kinds of statements. Each asks for a token of its own, and checks the answer."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, Error, transaction

from tests.interruption.drivers import AS_STORED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper as Connection

# With it, a long answer comes in many packets and takes many reads.
PADDING = "x" * 150
# A value that the tests' converters refuse.
REFUSED = 2


class WrongAnswer(Exception):
    """A statement got another answer than its own."""


class NoError(Exception):
    """A statement that cannot work raised nothing."""


def expect(found: Any, wanted: Any) -> None:
    """Raise WrongAnswer unless they are equal."""
    if found != wanted:
        raise WrongAnswer(f"{found!r:.120} in place of {wanted!r:.120}")


def expect_own(rows: Iterable[Any], token: str, count: int) -> None:
    """Raise WrongAnswer unless there are `count` rows, each with the token."""
    expect([row[0] for row in rows], [token] * count)


class Statements:
    """All kinds of statements, for one driver. A kind's name is its method's.

    They run in autocommit mode, with a token of letters and digits.

    Attributes:
        kept: Cursors and iterators that are still open.
    """

    def __init__(
        self, vendor: str, driver: str, *, prefix: str, folder: str, rows: int
    ) -> None:
        """Prepare.

        Args:
            vendor: The database's kind, as Django says it.
            driver: One of `tests.interruption.drivers`.
            prefix: Begins names in the database, which other workers use, too.
            folder: A folder for files.
            rows: The rows of a long answer.
        """
        self.numbers, self.written = f"{prefix}_numbers", f"{prefix}_written"
        self.procedure = f"{prefix}_twice"
        self.vendor = vendor
        self.driver = driver
        self.rows = rows
        self.kept: list[Any] = []
        self._file = Path(folder) / f"{prefix}_rows"
        self._from = " FROM DUAL" if vendor == "oracle" else ""
        self._many = f"SELECT %s, n, pad FROM {self.numbers} ORDER BY n"
        self._insert = f"INSERT INTO {self.written} VALUES (%s, %s)"

    def create(self, connection: Connection) -> None:
        """Make what the statements need, anew."""
        there = [f"TABLE {self.numbers}", f"TABLE {self.written}"]
        if self.vendor == "mysql":
            there.append(f"PROCEDURE {self.procedure}")
        for each in there:
            with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute(f"DROP {each}")
        text = "VARCHAR2" if self.vendor == "oracle" else "VARCHAR"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {self.numbers} (n INTEGER, pad {text}(200))")
            cursor.execute(f"CREATE TABLE {self.written} (token {text}(60), n INTEGER)")
            cursor.execute(f"CREATE INDEX {self.written}_i ON {self.written} (token)")
            cursor.executemany(
                f"INSERT INTO {self.numbers} VALUES (%s, %s)",
                [(number, PADDING) for number in range(self.rows)],
            )
            if self.vendor == "mysql":
                cursor.execute(
                    f"CREATE PROCEDURE {self.procedure} (IN token VARCHAR(60)) "
                    "BEGIN SELECT token, 1; SELECT token, 2; END"
                )

    # -- One answer -------------------------------------------------------------------

    def one(self, connection: Connection, token: str) -> None:
        """Ask for one row."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT %s{self._from}", [token])
            expect_own(cursor.fetchall(), token, 1)

    def slow(self, connection: Connection, token: str) -> None:
        """Ask for something that takes the server some milliseconds."""
        if self.vendor == "oracle":
            with connection.cursor() as cursor:
                cursor.execute("BEGIN DBMS_SESSION.SLEEP(0.003); END;")
            self.one(connection, token)
            return
        asked = {
            "postgresql": "SELECT %s, pg_sleep(0.003)",
            "mysql": "SELECT %s, SLEEP(0.003)",
            "sqlite": (
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                "WHERE i < 20000) SELECT %s, COUNT(*) FROM n"
            ),
        }
        with connection.cursor() as cursor:
            cursor.execute(asked[self.vendor], [token])
            expect_own(cursor.fetchall(), token, 1)

    def many(self, connection: Connection, token: str) -> None:
        """Ask for many rows."""
        with connection.cursor() as cursor:
            cursor.execute(self._many, [token])
            expect_own(cursor.fetchall(), token, self.rows)

    def failing(self, connection: Connection, token: str) -> None:
        """Ask for something that the server refuses."""
        statement = "SELECT %s FROM ask_nowhere"
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, [token])
                cursor.fetchall()
        except DatabaseError:
            return
        raise NoError(statement)

    # -- Answers that are not read to the end -----------------------------------------

    def half(self, connection: Connection, token: str) -> None:
        """Ask for many rows, and read three."""
        with connection.cursor() as cursor:
            cursor.execute(self._many, [token])
            expect_own(cursor.fetchmany(3), token, 3)

    def kept_cursor(self, connection: Connection, token: str) -> None:
        """Leave a cursor open until the request ends."""
        cursor = connection.cursor()
        self.kept.append(cursor)
        cursor.execute(self._many, [token])
        expect_own([cursor.fetchone()], token, 1)

    def kept_iterator(self, connection: Connection, token: str) -> None:
        """Leave an iterator open until the request ends."""
        cursor = connection.cursor()
        cursor.execute(self._many, [token])
        iterator = iter(cursor)
        self.kept.append(iterator)
        expect_own([next(iterator), next(iterator)], token, 2)

    def dropped_iterator(self, connection: Connection, token: str) -> None:
        """Leave an iterator to Python, which drops it."""
        cursor = connection.cursor()
        cursor.execute(self._many, [token])
        for row in cursor:
            expect_own([row], token, 1)
            break

    # -- Several statements -----------------------------------------------------------

    def executemany(self, connection: Connection, token: str) -> None:
        """Write many rows."""
        rows = [(f"many {token}", number) for number in range(20)]
        with connection.cursor() as cursor:
            cursor.executemany(self._insert, rows)

    def atomic(self, connection: Connection, token: str) -> None:
        """Write two rows in a transaction: both, or none. See `halves()`."""
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(self._insert, [f"atomic {token}", 1])
            cursor.execute(self._insert, [f"atomic {token}", 2])
            count = f"SELECT COUNT(*) FROM {self.written} WHERE token = %s"
            cursor.execute(count, [f"atomic {token}"])
            expect(cursor.fetchone()[0], 2)

    def begun(self, connection: Connection, token: str) -> None:
        """Write a row in a transaction, and leave that open."""
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(self._insert, [f"begun {token}", 1])

    def several(self, connection: Connection, token: str) -> None:
        """Ask twice in one execute(), and read both answers."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s, 1; SELECT %s, 2", [token, token])
            if self.driver != "psycopg2":  # which gives the last answer only
                expect([tuple(row) for row in cursor.fetchall()], [(token, 1)])
                cursor.nextset()
            expect([tuple(row) for row in cursor.fetchall()], [(token, 2)])

    def several_left(self, connection: Connection, token: str) -> None:
        """Ask twice in one execute(), and read the first answer."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s, 1; SELECT %s, 2", [token, token])
            expect_own(cursor.fetchall(), token, 1)

    def several_writes(self, connection: Connection, token: str) -> None:
        """Write twice in one execute()."""
        insert = f"INSERT INTO {self.written} VALUES (%s, 0)"
        with connection.cursor() as cursor:
            cursor.execute(f"{insert}; {insert}", [f"several {token}"] * 2)

    # -- Raw use ----------------------------------------------------------------------

    def raw(self, connection: Connection, token: str) -> None:
        """Ask with a cursor that Django does not know."""
        connection.ensure_connection()
        cursor = connection.connection.cursor()
        cursor.execute(f"SELECT '{token}'{self._from}")
        expect_own(cursor.fetchall(), token, 1)
        cursor.close()

    def inner(self, connection: Connection, token: str) -> None:
        """Ask with the driver's cursor under Django's cursor."""
        with connection.cursor() as cursor:
            inner: Any = cursor.cursor
            inner.execute(f"SELECT '{token}'{self._from}")
            expect_own(inner.fetchall(), token, 1)

    # -- Statements of some databases only --------------------------------------------

    def callproc(self, connection: Connection, token: str) -> None:
        """Call a procedure, and read both of its results."""
        with connection.cursor() as django_s:
            cursor: Any = django_s
            cursor.callproc(self.procedure, [token])
            if self.driver.startswith("Connector"):
                results = [each.fetchall() for each in cursor.stored_results()]
            else:
                results = [cursor.fetchall()]
                cursor.nextset()
                results.append(cursor.fetchall())
            rows = [tuple(row) for result in results for row in result]
            expect(rows, [(token, 1), (token, 2)])

    def callproc_left(self, connection: Connection, token: str) -> None:
        """Call a procedure, and read none of its results."""
        with connection.cursor() as cursor:
            cursor.callproc(self.procedure, [token])

    def call_left(self, connection: Connection, token: str) -> None:
        """Call a procedure by a statement, and read the first result."""
        with connection.cursor() as cursor:
            cursor.execute(f"CALL {self.procedure} (%s)", [token])
            expect_own(cursor.fetchall(), token, 1)

    def load(self, connection: Connection, token: str) -> None:
        """Load a file, for which the server asks the driver."""
        lines = (f"load {token}\t{number}\n" for number in range(self.rows))
        self._file.write_text("".join(lines))
        with connection.cursor() as cursor:
            load = f"LOAD DATA LOCAL INFILE %s INTO TABLE {self.written}"
            cursor.execute(load, [str(self._file)])

    def load_failing(self, connection: Connection, token: str) -> None:
        """Load a file that the driver does not find when the server asks for it."""
        load = f"LOAD DATA LOCAL INFILE %s INTO TABLE {self.written}"
        try:
            with connection.cursor() as cursor:
                cursor.execute(load, [f"{self._file} {token}"])
        except (Error, OSError):
            return
        raise NoError(load)

    def copy_in(self, connection: Connection, token: str) -> None:
        """Send many rows."""
        lines = [f"copy {token}\t{number}\n" for number in range(self.rows)]
        copy = f"COPY {self.written} FROM STDIN"
        with connection.cursor() as django_s:
            cursor: Any = django_s
            if self.driver == "psycopg2":
                cursor.copy_expert(copy, io.StringIO("".join(lines)))
                return
            with cursor.copy(copy) as sender:
                for line in lines:
                    sender.write(line)

    def copy_left(self, connection: Connection, token: str) -> None:
        """Ask for many rows by COPY, and read one."""
        copy = f"COPY (SELECT '{token}', pad FROM {self.numbers}) TO STDOUT"
        with connection.cursor() as django_s:
            cursor: Any = django_s
            with cursor.copy(copy) as receiver:
                expect_own([next(iter(receiver.rows()))], token, 1)

    def stream_left(self, connection: Connection, token: str) -> None:
        """Ask for rows one by one, and read two."""
        with connection.cursor() as django_s:
            cursor: Any = django_s
            with contextlib.closing(cursor.stream(self._many, [token])) as rows:
                expect_own([next(rows), next(rows)], token, 2)

    def server_side(self, connection: Connection, token: str) -> None:
        """Make a cursor on the server, and read three of its rows."""
        with connection.chunked_cursor() as cursor:
            cursor.execute(self._many, [token])
            expect_own(cursor.fetchmany(3), token, 3)

    # -- Answers that cannot be decoded -----------------------------------------------

    def undecodable(self, connection: Connection, token: str) -> None:
        """Ask for many rows, in the middle of which is a value of another encoding.

        Where no value is of another encoding, a converter refuses one.
        """
        odd, usual = {
            "mysql": ("_latin1 X'E9'", "_latin1 'x'"),
            "sqlite": ("CAST(X'E9' AS TEXT)", "'x'"),
        }.get(self.vendor, (str(REFUSED), "1"))
        value = f"CASE WHEN n = {self.rows // 2} THEN {odd} ELSE {usual} END"
        statement = f"SELECT %s, {value} FROM {self.numbers} ORDER BY n"
        try:
            with connection.cursor() as cursor:
                self._add_converter(cursor)
                if self.vendor == "mysql" and self.driver != "PyMySQL":
                    # PyMySQL can do that when it connects. The others then say
                    # SET NAMES, which undoes it.
                    cursor.execute(AS_STORED)
                cursor.execute(statement, [token])
                cursor.fetchall()
        except (Error, ValueError):
            return
        raise NoError(statement)

    def _add_converter(self, cursor: Any) -> None:
        """Add one that refuses a number, if the driver takes it for one cursor."""
        if self.driver == "psycopg2":
            from psycopg2.extensions import new_type, register_type

            converter = new_type((23,), "REFUSING", lambda value, _: _refuse(value))
            register_type(converter, cursor.cursor)
        elif self.vendor == "postgresql":
            from psycopg.types.numeric import IntLoader

            class Refusing(IntLoader):
                def load(self, data: Any) -> int:
                    return _refuse(bytes(data))

            cursor.adapters.register_loader("int4", Refusing)
        elif self.vendor == "oracle":

            def choose(inner: Any, column: Any) -> Any:
                size = inner.arraysize
                return inner.var(str, arraysize=size, outconverter=_refuse_if_number)

            cursor.cursor.cursor.outputtypehandler = choose

    def inconvertible(self, connection: Connection, token: str) -> None:
        """Ask for many rows, in the middle of which is a date that is refused.

        The worker puts the converter into `OPTIONS`.
        """
        middle = self.rows // 2
        value = f"CASE WHEN n = {middle} THEN '1999-09-09' ELSE '2000-01-01' END"
        statement = f"SELECT %s, CAST({value} AS DATE) FROM {self.numbers} ORDER BY n"
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, [token])
                cursor.fetchall()
        except ValueError:
            return
        raise NoError(statement)

    # -- Checks -----------------------------------------------------------------------

    def write(self, connection: Connection, token: str) -> None:
        """Write a row that `read()` finds."""
        with connection.cursor() as cursor:
            cursor.execute(self._insert, [f"write {token}", 0])

    def read(self, connection: Connection, token: str) -> None:
        """Look for the row that `write()` wrote with this token."""
        with connection.cursor() as cursor:
            count = f"SELECT COUNT(*) FROM {self.written} WHERE token = %s"
            cursor.execute(count, [f"write {token}"])
            expect(cursor.fetchone()[0], 1)

    def halves(self, connection: Connection) -> list[str]:
        """Return the tokens of transactions of which only a part was committed."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT token FROM {self.written} WHERE token LIKE %s"
                " GROUP BY token HAVING COUNT(*) <> 2",
                ["atomic %"],
            )
            return [row[0] for row in cursor.fetchall()]


def _refuse(value: Any) -> int:
    if int(value) == REFUSED:
        raise ValueError(f"no {REFUSED}, please")
    return int(value)


def _refuse_if_number(value: str) -> Any:
    return _refuse(value) if value.isdecimal() else value


# The kinds that each driver can run. The ones about decoding are for tests that name
# them.
EVERY = (
    *("one", "slow", "many", "failing", "half", "kept_cursor", "kept_iterator"),
    *("dropped_iterator", "executemany", "atomic", "begun", "raw", "inner"),
)
POSTGRESQL = (*EVERY, "several", "copy_in", "server_side")
PSYCOPG = (*POSTGRESQL, "several_left", "copy_left", "stream_left")
MYSQL = (
    *EVERY,
    *("several", "several_left", "several_writes", "callproc", "callproc_left"),
    *("call_left", "load", "load_failing"),
)
KINDS = {
    "sqlite3": EVERY,
    "psycopg": PSYCOPG,
    "psycopg in Python": PSYCOPG,
    "psycopg2": POSTGRESQL,
    "mysqlclient": MYSQL,
    "PyMySQL": MYSQL,
    "Connector in Python": MYSQL,
    "Connector in C": MYSQL,
    "oracledb": EVERY,
}
