"""uWSGI, which forks without Python's knowledge.

Unless it is told to let Python know (`py-call-uwsgi-fork-hooks`), what was registered
with `os.register_at_fork()` is not called. But uWSGI has hooks of its own.
"""

from __future__ import annotations

from collections.abc import Callable


def call_in_workers(callback: Callable[[], None]) -> None:
    """Have `callback` called in each worker; does nothing but in uWSGI.

    It may be called twice for one fork, by uWSGI and by Python.
    """
    try:
        # There only in uWSGI's own processes.
        from uwsgidecorators import postfork
    except Exception:  # noqa: BLE001 (what it raises where there is no master process)
        return
    postfork(callback)
