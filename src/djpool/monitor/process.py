"""What can be known of a process: whether it lives, since when, what was started."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

try:
    import pwd
except ImportError:  # not a Unix
    pwd = None  # type: ignore[assignment]

_LONGEST = 200


def uid() -> int:
    """Return the user that this process acts as; -1 where there are no users."""
    return os.geteuid() if hasattr(os, "geteuid") else -1


def user_name(number: int) -> str:
    """Return the name of a user, or the number where nobody has it."""
    try:
        return pwd.getpwuid(number).pw_name
    except (AttributeError, KeyError):
        return str(number)


def is_alive(pid: int) -> bool:
    """Whether a process of this number exists. Not necessarily the one that did."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP, ^Z, a debugger); False if unknown."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in {"T", "t"}


def born(pid: int) -> float | None:
    """Return when a process began, in seconds since the machine did; None if unknown.

    Two processes that have the same number, one after the other, differ in this.
    """
    fields = _stat(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else None


def age(birth: float | None) -> float | None:
    """Return the seconds since the moment that `born()` gave; None if unknown."""
    if birth is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - birth)


def command_line() -> str:
    """Return how this process was started, as one would type it, shortened."""
    words = getattr(sys, "orig_argv", None) or sys.argv
    line = printable(shlex.join(words))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def printable(text: str) -> str:
    """Return `text` with a question mark for what could command a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _stat(pid: int) -> list[str]:
    """Return what /proc says of a process from its state on; nothing if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    # The name before is in brackets, and may have brackets and spaces itself.
    return text.rpartition(")")[2].split()
