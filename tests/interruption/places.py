"""Every place where an exception of a signal's handler can strike, one after the other.

Python runs such a handler when a function begins or a generator goes on, after a call
of anything that is not written in Python, and when a loop goes round.

It does not between `with lock` and the block: entering a block is no such call, so no
handler sees the lock taken and the block not begun. A tracer of lines or of bytecodes
strikes there, and finds faults that no signal can bring about.
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

# A finaliser, and what the garbage collector calls when it begins and ends.
DROPPED = frozenset(("__del__", "_note"))


class Stop(BaseException):
    """A time limit, or ^C."""


def interrupted(
    call: Callable[[], object], at: int, within: str | tuple[str, ...]
) -> BaseException | None:
    """Call, and raise at place `at` of the files `within`; return what came of it."""
    strike = _Strike(at, within)
    try:
        with strike.watching():
            call()
    except Stop as error:
        return error
    except Exception as error:
        # What was interrupted may fail of something else, while it cleans up.
        if not strike.struck:
            raise
        return error
    return None


def count_places(call: Callable[[], object], within: str | tuple[str, ...]) -> int:
    """Call, and return how many places there were in the files `within`."""
    strike = _Strike(0, within)
    with strike.watching():
        call()
    return strike.seen


def is_finaliser(frame: FrameType | None) -> bool:
    """Return True if a frame runs where Python drops what is raised."""
    while frame is not None and frame.f_code.co_name not in DROPPED:
        frame = frame.f_back
    return frame is not None


@functools.cache
def _covered(code: CodeType) -> tuple[tuple[int, int], ...]:
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return tuple((each.start, each.end) for each in entries)


def covers(code: CodeType, offset: int) -> bool:
    """Whether the jump back there is inside of a block that catches what strikes.

    What a monitor of jumps raises is not caught there, other than a signal's exception:
    to that, such a jump is as the call before it.
    """
    return any(start <= offset < end for start, end in _covered(code))


class _Strike:
    """Raises at one place in this thread; counts the places until then."""

    def __init__(self, at: int, within: str | tuple[str, ...]) -> None:
        self.seen = 0
        self._at = at
        self._within = within
        self._thread = threading.get_ident()

    @property
    def struck(self) -> bool:
        """Whether it has raised."""
        return 0 < self._at <= self.seen

    def _note(self, event: str, frame: FrameType) -> None:
        if not frame.f_code.co_filename.startswith(self._within):
            return
        if is_finaliser(frame):
            return
        self.seen += 1
        if self.seen == self._at:
            raise Stop(
                f"{event} at {frame.f_code.co_filename.rpartition('/')[2]} "
                f"{frame.f_code.co_name}:{frame.f_lineno}"
            )

    if sys.version_info >= (3, 12):

        @contextmanager
        def watching(self) -> Iterator[None]:
            """Strike within this block."""
            monitoring = sys.monitoring
            events = {
                monitoring.events.PY_START: "start",
                monitoring.events.PY_RESUME: "resume",
                monitoring.events.C_RETURN: "return",
                monitoring.events.JUMP: "jump",
            }

            def hear(name: str) -> Callable[..., None]:
                def note(code: CodeType, offset: int, *rest: Any) -> None:
                    if threading.get_ident() != self._thread:
                        return
                    if name == "jump" and (rest[0] > offset or covers(code, offset)):
                        return
                    self._note(name, sys._getframe(1))

                return note

            monitoring.use_tool_id(monitoring.PROFILER_ID, "places")
            try:
                for event, name in events.items():
                    monitoring.register_callback(
                        monitoring.PROFILER_ID, event, hear(name)
                    )
                # Returns from C come with calls, and cannot be asked for alone.
                wanted = sum(events) - monitoring.events.C_RETURN
                monitoring.set_events(
                    monitoring.PROFILER_ID, wanted | monitoring.events.CALL
                )
                yield
            finally:
                monitoring.set_events(monitoring.PROFILER_ID, 0)
                for event in events:
                    monitoring.register_callback(monitoring.PROFILER_ID, event, None)
                monitoring.free_tool_id(monitoring.PROFILER_ID)

    else:

        @contextmanager
        def watching(self) -> Iterator[None]:
            """Strike within this block. Loops and calls of classes go unseen here."""

            def note(frame: FrameType, event: str, _arg: Any) -> None:
                if event in {"call", "c_return"}:
                    self._note(event, frame)

            sys.setprofile(note)
            try:
                yield
            finally:
                sys.setprofile(None)
