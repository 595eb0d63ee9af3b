"""Who has the connections: where they were borrowed, and how messages tell it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from traceback import StackSummary, walk_stack
from types import FrameType

from djpool.core.slot import Entry


def borrower_stack(borrowed_in: str) -> StackSummary:
    """The caller's stack, but for the frames of the file `borrowed_in`.

    Source lines are read when it is shown, if ever.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame is not None and frame.f_code.co_filename == borrowed_in:
        frame = frame.f_back  # where it was borrowed, not how
    return StackSummary.extract(walk_stack(frame), lookup_lines=False)


def describe_holders(entries: Iterable[Entry], now: float) -> str:
    """A line for each, the longest held first; nothing if there are none."""
    held = sorted(entries, key=lambda entry: entry.acquired_at)
    if not held:
        return ""
    lines = (describe_holder(entry, now - entry.acquired_at) for entry in held)
    return "\nin use by:\n" + "\n".join(f"- {line}" for line in lines)


def describe_holder(entry: Entry, held: float) -> str:
    """Who has had a connection for `held` seconds, and from where, if that is known."""
    owner = entry.owner
    if owner is None:
        return f"nobody any more, after {held:.1f} s"
    ended = ", which has ended," if owner.ended else ""
    line = f"thread {owner.name!r} ({owner.ident}){ended} for {held:.1f} s"
    if entry.about is not None:
        line += f", in {entry.about}"
    if entry.stack is None:
        return line
    frames = StackSummary.from_list(list(reversed(entry.stack)))
    shown = "".join(frames.format()).rstrip()
    return f"{line}, leased at (most recent call last):\n{shown}"
