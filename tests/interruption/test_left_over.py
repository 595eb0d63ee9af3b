"""Answers that a request does not read to the end, with no exception from outside."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interruption.conftest import (
    CONNECTOR,
    ENGINES,
    UNBUFFERED,
    Interrupt,
    assert_unharmed,
)
from tests.interruption.drivers import AS_STORED

# How often each kind of statement runs.
TIMES = 4


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_left_over(engine: str, interrupt: Interrupt) -> None:
    """Of each kind of statement."""
    reports = interrupt(engine, "left over", count=TIMES)
    assert_unharmed(reports, own=True)


@pytest.mark.parametrize("engine", UNBUFFERED)
def test_nothing_is_left_over_unbuffered(engine: str, interrupt: Interrupt) -> None:
    """The driver reads each row when the project fetches it."""
    reports = interrupt(engine, "left over", count=TIMES, unbuffered=True)
    assert_unharmed(reports, own=True)


@pytest.mark.parametrize(
    "engine", [engine for engine in ENGINES if engine not in CONNECTOR]
)
def test_a_value_that_cannot_be_decoded(engine: str, interrupt: Interrupt) -> None:
    """It is in the middle of an answer. Connector/Python gives it as bytes."""
    options: dict[str, Any] = {"kinds": ("undecodable",)}
    if engine.endswith("PyMySQL"):
        options["init_command"] = AS_STORED
    reports = interrupt(engine, "left over", count=TIMES, **options)
    assert_unharmed(reports, own=True)


@pytest.mark.parametrize(
    ("engine", "unbuffered"),
    [
        *((engine, False) for engine in [*UNBUFFERED, *CONNECTOR]),
        *((engine, True) for engine in UNBUFFERED),
    ],
)
def test_a_value_that_a_converter_refuses(
    engine: str, unbuffered: bool, interrupt: Interrupt
) -> None:
    """It is in the middle of an answer, and the converter is the project's own."""
    reports = interrupt(
        engine,
        "left over",
        count=TIMES,
        kinds=("inconvertible",),
        converter=True,
        unbuffered=unbuffered,
    )
    assert_unharmed(reports, own=True)


@pytest.mark.parametrize("engine", CONNECTOR)
def test_two_statements_in_one(engine: str, interrupt: Interrupt) -> None:
    """Connector/Python leaves the second answer unread, and no cursor tells.

    The next statement in the same request raises or gets its own answer. After the
    request, 8 of 8 others get theirs.
    """
    reports = interrupt(engine, "left over", count=8, kinds=("several_writes",))
    assert_unharmed(reports, own=True)
