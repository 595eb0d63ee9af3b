"""What a pool raises, one class for each thing a caller can do about it.

These classes know no Django. `djpool.errors` derives from them the ones that
Django code sees, and hands them to the pools it makes as `ErrorKinds`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from djpool.core.stats import PoolStats


class OptionsError(ValueError):
    """A pool's options are wrong. Nothing was connected."""


class PoolError(Exception):
    """No lease could be had. `stats` are the pool's figures at that moment."""

    def __init__(self, reason: str, stats: PoolStats) -> None:
        super().__init__(reason)
        self.stats = stats

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles its args only, and these lack the figures. Test
        # runners send errors from one process to another.
        return type(self), (self.args[0], self.stats)


class PoolTimeout(PoolError):
    """No connection came free, or could be opened, in time. Retrying can help.

    Where the last attempt to open one failed, the driver's error is the cause.
    """


class PoolBusy(PoolError):
    """`max_waiting` callers were waiting already. Shed load; do not retry at once."""


class PoolClosed(PoolError):
    """`close()` was called, before or while waiting. Retrying cannot help."""


class ErrorKinds(NamedTuple):
    """The classes a pool raises: the core's own, or subclasses of them."""

    timeout: type[PoolTimeout] = PoolTimeout
    busy: type[PoolBusy] = PoolBusy
    closed: type[PoolClosed] = PoolClosed
    options: type[OptionsError] = OptionsError


CORE_ERRORS = ErrorKinds()


def without_frames(error: BaseException) -> BaseException:
    """A copy to keep for later: the original's traceback holds on to locals."""
    try:
        kept = copy.copy(error)
    except Exception:  # noqa: BLE001 (some drivers' errors cannot be copied)
        kept = type(error).__new__(type(error))
        kept.args = error.args
    return kept.with_traceback(None)


def in_one_line(error: BaseException) -> str:
    """What it says, in one line of a log."""
    return " ".join(str(error).split())
