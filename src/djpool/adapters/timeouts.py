"""Deadlines in the words of drivers that count whole seconds."""

from __future__ import annotations

import math
from typing import Any


def whole_seconds(wanted: Any, timeout: float, *, least: int = 1) -> Any:
    """`timeout` rounded up, to `least` or more; or `wanted` if that is shorter.

    `wanted` is what the project's settings say, in seconds; None or 0 for no limit.
    What is no number is passed on: the driver says what is wrong with it.
    """
    limit = max(math.ceil(timeout), least)
    try:
        seconds = int(float(wanted)) if wanted is not None else 0
    except (TypeError, ValueError):
        return wanted
    return min(seconds, limit) if seconds > 0 else limit
