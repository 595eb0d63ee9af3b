"""Signals with handlers that raise, at random moments of a statement."""

from __future__ import annotations

import pytest

from tests.interruption.conftest import (
    COUNT,
    ENGINES,
    UNBUFFERED,
    Interrupt,
    assert_unharmed,
)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_signal_at_any_moment(engine: str, interrupt: Interrupt) -> None:
    """Of each kind of statement, and of the end of every other request."""
    reports = interrupt(engine, "signals", count=COUNT)
    in_c = engine.endswith(":C")
    assert_unharmed(reports, interrupted=COUNT, sockets=not in_c)


@pytest.mark.parametrize("engine", UNBUFFERED)
def test_a_signal_at_any_moment_unbuffered(engine: str, interrupt: Interrupt) -> None:
    """The driver reads each row when the project fetches it."""
    count = COUNT // 4
    reports = interrupt(engine, "signals", count=count, unbuffered=True)
    assert_unharmed(reports, interrupted=count)
