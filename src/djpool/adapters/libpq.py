"""What psycopg 3 and psycopg2 have in common: PostgreSQL's client library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from djpool.adapters.timeouts import whole_seconds
from djpool.core.driver import Driver

# libpq takes a shorter connect_timeout for this one.
LEAST_CONNECT_TIMEOUT = 2


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have libpq give up by then; it counts whole seconds, two or more.

    Where there are several hosts, it does so for each of them.
    """
    wanted = params.get("connect_timeout")
    hosts = str(params.get("hostaddr") or params.get("host") or "").count(",") + 1
    seconds = whole_seconds(wanted, timeout / hosts, least=LEAST_CONNECT_TIMEOUT)
    return {**params, "connect_timeout": seconds}


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
# A read-only transaction; the server's end: orderly, by a crash, and while it is shut.
STEPPED_DOWN = frozenset({"25006", "57P01", "57P02", "57P03"})


class LibpqErrors(Driver):
    """A driver whose errors are PostgreSQL's."""

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
