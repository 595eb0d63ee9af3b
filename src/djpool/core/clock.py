"""Seconds that pass for the server, too, whatever this machine does meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def _clock() -> Callable[[], float]:
    """A clock that nobody sets, and that goes on while the machine sleeps."""
    # On Linux and on macOS time.monotonic() stands still then: a connection would seem
    # to be as young as it was, and the server may have closed it long since.
    number = getattr(time, "CLOCK_BOOTTIME", None)
    if number is None and sys.platform == "darwin":
        number = time.CLOCK_MONOTONIC
    if number is None:
        return time.monotonic

    def passed() -> float:
        return time.clock_gettime(number)

    return passed


#: Seconds since some moment: idle times and ages are differences of it.
passed = _clock()
