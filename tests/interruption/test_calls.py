"""Exceptions at each call of a driver's functions, and at each return from one."""

from __future__ import annotations

from ctypes.util import find_library

import pytest

from tests.interruption.conftest import (
    COUNT,
    ENGINES,
    UNBUFFERED,
    Interrupt,
    assert_unharmed,
)

# The driver does the same for each row of an answer.
ROWS = 12
# A statement with more calls and returns is interrupted at so many of them; the first
# kind of statement at each.
PLACES = COUNT // 30
# The least number of places in all statements together. sqlite3 has the fewest.
LEAST = 30
PSYCOPG_IN_PYTHON = pytest.param(
    "postgresql:python",
    marks=pytest.mark.skipif(
        find_library("pq") is None, reason="psycopg in Python needs the system's libpq"
    ),
)


@pytest.mark.parametrize(
    "engine", [*ENGINES, "mysql@mysql", "mysql@mysql:PyMySQL", PSYCOPG_IN_PYTHON]
)
def test_an_exception_at_each_call(engine: str, interrupt: Interrupt) -> None:
    """Of each kind of statement, and of the end of a request."""
    reports = interrupt(engine, "calls", count=PLACES, rows=ROWS)
    assert_unharmed(reports, interrupted=LEAST)


@pytest.mark.parametrize("engine", UNBUFFERED)
def test_an_exception_at_each_call_unbuffered(
    engine: str, interrupt: Interrupt
) -> None:
    """The driver reads each row when the project fetches it."""
    kinds = ("one", "many", "half", "kept_cursor", "several", "callproc")
    reports = interrupt(
        engine, "calls", count=PLACES, rows=ROWS, unbuffered=True, kinds=kinds
    )
    assert_unharmed(reports, interrupted=LEAST)


@pytest.mark.parametrize(
    "engine",
    ["mysql@mysql:PyMySQL", "mysql_connector-fallback", "mysql_connector-native"],
)
def test_an_exception_at_each_call_over_tls(engine: str, interrupt: Interrupt) -> None:
    """Python may have decrypted an answer that the socket does not show any more."""
    kinds = ("one", "many", "half", "several_left")
    reports = interrupt(
        engine, "calls", count=PLACES // 2, rows=ROWS, kinds=kinds, ssl_disabled=False
    )
    assert_unharmed(reports, interrupted=LEAST)
