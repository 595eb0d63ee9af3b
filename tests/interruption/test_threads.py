"""Exceptions that another thread sets, at random moments of a statement."""

from __future__ import annotations

import pytest

from tests.interruption.conftest import COUNT, ENGINES, Interrupt, assert_unharmed


@pytest.mark.parametrize("engine", ENGINES)
def test_an_exception_from_another_thread(engine: str, interrupt: Interrupt) -> None:
    """It strikes between two bytecodes: never in C, and in finalisers, too."""
    count = COUNT // 10
    reports = interrupt(engine, "threads", count=count)
    assert_unharmed(reports, interrupted=count)
