"""Who has the connections: where they were borrowed, and how messages tell it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from heapq import nsmallest
from traceback import StackSummary, walk_stack
from types import FrameType

from djpool.core.slot import Entry

# How many holders a message names, and of how many it shows the stack. A message goes
# to each of many callers, and into as many logs.
MOST_HOLDERS, MOST_STACKS = 10, 3


def borrower_stack(borrowed_in: str) -> StackSummary:
    """The caller's stack, but for the frames of the file `borrowed_in`.

    Source lines are read when it is shown, if ever.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame is not None and frame.f_code.co_filename == borrowed_in:
        frame = frame.f_back  # where it was borrowed, not how
    return StackSummary.extract(walk_stack(frame), lookup_lines=False)


def describe_holders(entries: Sequence[Entry], now: float) -> str:
    """Return a line for each of the longest holders, and how many others there are.

    The longest holder comes first. The text is empty if there are no holders.
    """
    if not entries:
        return ""
    longest = nsmallest(MOST_HOLDERS, entries, key=lambda entry: entry.acquired_at)
    lines = [
        describe_holder(entry, now - entry.acquired_at, stack=place < MOST_STACKS)
        for place, entry in enumerate(longest)
    ]
    if more := len(entries) - len(longest):
        lines.append(f"and {more} more, for less time")
    return "\nin use by:\n" + "\n".join(f"- {line}" for line in lines)


def describe_holder(entry: Entry, held: float, *, stack: bool = True) -> str:
    """Return who has had a connection for `held` seconds, and from where if known."""
    owner = entry.owner
    if owner is None:
        return f"nobody any more, after {held:.1f} s"
    ended = ", which has ended," if owner.ended else ""
    line = f"thread {owner.name!r} ({owner.ident}){ended} for {held:.1f} s"
    if entry.about is not None:
        line += f", in {entry.about}"
    leased_at = entry.stack  # read once: the lease may end meanwhile
    if leased_at is None or not stack:
        return line
    frames = StackSummary.from_list(list(reversed(leased_at)))
    shown = "".join(frames.format()).rstrip()
    return f"{line}, leased at (most recent call last):\n{shown}"
