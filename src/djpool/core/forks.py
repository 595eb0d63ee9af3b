"""How a process learns that it is a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable


def call_in_children(callback: Callable[[], None]) -> None:
    """Have `callback` called in every child, right after the fork."""
    os.register_at_fork(after_in_child=callback)
    # uWSGI forks without Python's knowledge, unless it is told to let Python know
    # (py-call-uwsgi-fork-hooks); but it has hooks of its own. Its module is only
    # there in its processes.
    try:
        from uwsgidecorators import postfork
    except Exception:  # noqa: BLE001 (what it raises where there is no master process)
        return
    postfork(callback)
