"""How a slot goes from one thread to another that has more time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from djpool.core.slot import Slot
from djpool.core.workers import Workers

Step = Callable[[Slot], None]


def hand_over(slot: Slot, workers: Workers | None, work: Step, abandon: Step) -> bool:
    """Have another thread do `work` with what `slot` has. May be interrupted.

    False if no thread can be had: then it is the caller's as before. `abandon` is for
    what an exception strikes on its way.
    """
    if workers is None:
        return False
    # Another object than the caller's, which may still see an exception come and give
    # up what it had. Who takes it out of the list has it.
    hands = [slot.moved()]
    try:
        workers.do(partial(_receive, hands, work))
    except RuntimeError:
        slot.become(hands[0])
        return False
    except BaseException:
        with contextlib.suppress(IndexError):
            abandon(hands.pop())
        raise
    return True


def _receive(hands: list[Slot], work: Step) -> None:
    try:
        slot = hands.pop()
    except IndexError:
        return  # the other thread was interrupted
    work(slot)
