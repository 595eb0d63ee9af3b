"""What PostgreSQL's errors mean to a pool, whatever the driver."""

from __future__ import annotations

import re

from djpool.core.driver import Driver

# SQLSTATEs. A failed connect has none: libpq passes on the server's words only, and
# these are known in English.
LOGIN = frozenset({"28P01", "28000"})
LOGIN_WORDS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|"
    r'role ".*" (does not exist|is not permitted to log in)'
)
FULL = frozenset({"53300", "57P03"})
FULL_WORDS = re.compile(
    r"too many (clients|connections)|connection slots are reserved|"
    r"the database system is|no more connections allowed"
)
# Where the drivers' errors are defined.
DRIVERS = frozenset({"psycopg", "psycopg.errors", "psycopg2", "psycopg2.errors"})
# A read-only transaction; the server's end: orderly, by a crash, and while it is shut.
STEPPED_DOWN = frozenset({"25006", "57P01", "57P02", "57P03"})


class LibpqErrors(Driver):
    """A driver whose errors are PostgreSQL's."""

    def answered(self, error: BaseException) -> bool:
        # libpq itself knows whether an answer is under way, and at_rest() asks it. An
        # error of another kind has struck inside the driver, at any of its steps.
        return any(kind.__module__ in DRIVERS for kind in type(error).__mro__)

    def refuses_login(self, error: BaseException) -> bool:
        return _is(error, LOGIN, LOGIN_WORDS)

    def is_full(self, error: BaseException) -> bool:
        return _is(error, FULL, FULL_WORDS)

    def stepped_down(self, error: BaseException) -> bool:
        return _sqlstate(error) in STEPPED_DOWN


def _sqlstate(error: BaseException) -> str | None:
    # As psycopg 3 calls it, and as psycopg2 does.
    code: str | None = getattr(error, "sqlstate", None) or getattr(
        error, "pgcode", None
    )
    return code


def _is(error: BaseException, codes: frozenset[str], words: re.Pattern[str]) -> bool:
    code = _sqlstate(error)
    return words.search(str(error)) is not None if code is None else code in codes
