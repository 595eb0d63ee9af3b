"""What goes wrong, and when: drawn from a seed, so that it can be had again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

# What happens, how often relative to others, and the seconds for which it lasts.
KINDS: dict[str, tuple[int, float, float]] = {
    "kill one session": (3, 0.0, 0.0),
    "kill some sessions": (3, 0.0, 0.0),
    "kill all sessions": (2, 0.0, 0.0),
    "freeze the server": (2, 0.2, 1.2),
    "hold back the network": (2, 0.2, 1.2),
    "lose what is sent": (1, 0.2, 1.0),
    "reset connections": (3, 0.0, 0.0),
    "refuse connects": (2, 0.2, 1.0),
    "crash the network": (2, 0.2, 1.0),
    "exhaust max_connections": (1, 0.2, 1.0),
    "close slowly": (1, 0.2, 1.0),
    "fail to reset": (1, 0.2, 1.0),
    "drain": (1, 0.0, 0.0),
    "resize": (2, 0.2, 1.0),
    "suspend": (1, 0.2, 1.0),
}


@dataclass(frozen=True)
class Event:
    """One thing that goes wrong: after a pause, for so long, and how badly (0 to 1)."""

    pause: float
    kind: str
    seconds: float
    share: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.2f} s" if self.seconds else ""
        return f"+{self.pause:.2f} s {self.kind}{lasts} ({self.share:.2f})"


def make_plan(seed: int, seconds: float) -> Iterator[Event]:
    """Give events that take about so many seconds."""
    draw = random.Random(seed)
    kinds = list(KINDS)
    weights = [KINDS[kind][0] for kind in kinds]
    spent = 0.0
    while spent < seconds:
        (kind,) = draw.choices(kinds, weights)
        _weight, shortest, longest = KINDS[kind]
        event = Event(
            draw.uniform(0.02, 0.4),
            kind,
            draw.uniform(shortest, longest),
            draw.random(),
        )
        spent += event.pause + event.seconds
        yield event
