"""Tell whether the calling thread is amid a garbage collection.

The collector runs at almost any moment, also while the thread holds a lock of djpool's
or of a driver's. What its finalisers call must neither wait for a lock nor speak to a
server, so it leaves its work to the housekeeping thread.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

#: The threads that are. Mostly empty, which is quicker to see than to ask.
COLLECTING: set[int] = set()


def is_collecting() -> bool:
    """True if this thread runs a finaliser on behalf of the garbage collector.

    Always False on a Python that does not tell of its collections.
    """
    return threading.get_ident() in COLLECTING


def _note(phase: str, _info: dict[str, Any]) -> None:
    if phase == "start":
        COLLECTING.add(threading.get_ident())
    else:
        COLLECTING.discard(threading.get_ident())


if hasattr(gc, "callbacks"):
    # Twice: a signal's handler may raise in the one, and then the other has been called
    # or will be.
    gc.callbacks.extend((_note, _note))
