"""Where and as which project this Django process shows its pools' figures."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from djpool.monitor.place import SETTING, Place, PlaceError, find_place
from djpool.monitor.publish import Publisher, Snapshot, Verb
from djpool.monitor.read import Outcomes, Readings, order_all, read_all
from djpool.uwsgi import call_in_workers

logger = logging.getLogger("djpool.monitor")

# What answers for this process; None before its first pool.
publisher: Publisher | None = None

# Guards `publisher` and `_refused`. Nothing is bound or logged while it is held.
# `_refused` is read only where there is no publisher.
_lock = threading.RLock()
_refused = False


def place() -> Place:
    """Return where this project's processes have their sockets.

    That is the setting DJPOOL_STATS_DIR, or else the environment variable of that
    name, or else the user's own folder.

    Raises:
        djpool.monitor.place.PlaceError: What is set is no absolute path.
    """
    configured = getattr(settings, SETTING, None) or os.environ.get(SETTING)
    return find_place(configured)


def project() -> str:
    """Return a short word for this project: the same in all of its processes.

    It is made from the name of the settings module and where its file is. A project
    that is configured in code has the file that was started in its stead.
    """
    module = getattr(settings, "SETTINGS_MODULE", None) or ""
    file = _file(module or "__main__")
    name = f"{module}\0{Path(file).resolve() if file else ''}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]


def readings(pid: int | None = None) -> Readings:
    """Ask this project's running processes, or one of them, for their figures.

    Takes until the slowest has answered, some seconds at most. Thread-safe.

    Raises:
        djpool.monitor.place.PlaceError: See `place()`.
    """
    return read_all(place(), project(), pid)


def order(order: Mapping[str, Any], pid: int | None = None) -> Outcomes:
    """Have this project's running processes, or one of them, carry out an order.

    Takes until the slowest has done it, half a minute at most. Thread-safe.

    Args:
        order: The `verb` and what belongs to it; see `djpool.control`.
        pid: Only this process; all if None.

    Raises:
        djpool.monitor.place.PlaceError: See `place()`.
    """
    return order_all(place(), project(), order, pid)


def publish(
    snapshot: Snapshot,
    verbs: Mapping[str, Verb] | None = None,
    suspended: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Begin to show the figures that `snapshot` gives, unless that was begun before.

    And to carry out orders: `Publisher` says what the functions are for.

    To be called when a process makes a pool; cheap when it is not the first. Thread-
    safe. Raises nothing: where it is not possible, one warning is logged.
    """
    try:
        answering = _publisher(snapshot, verbs, suspended)
    except PlaceError as error:
        logger.warning(
            "Other processes cannot see this one's pools (poolstats): %s", error
        )
    else:
        if answering is not None:
            answering.start()


def _publisher(
    snapshot: Snapshot,
    verbs: Mapping[str, Verb] | None,
    suspended: Callable[[], Iterable[str]],
) -> Publisher | None:
    """Return this process's publisher; None if there can be none.

    Raises:
        PlaceError: There can be none, found out just now.
    """
    global publisher, _refused  # noqa: PLW0603 (there is one of each in a process)
    with _lock:
        if publisher is None and not _refused:
            _refused = True
            publisher = Publisher(place(), project(), snapshot, verbs, suspended)
        return publisher


def _file(module: str) -> str | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def _before_fork() -> None:
    if publisher is not None:
        publisher.before_fork()


def _after_fork_in_parent() -> None:
    if publisher is not None:
        publisher.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global publisher, _refused, _lock  # noqa: PLW0603
    _lock = threading.RLock()
    inherited, publisher, _refused = publisher, None, False
    if inherited is not None:
        inherited.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
call_in_workers(_after_fork_in_child)
