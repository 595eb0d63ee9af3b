"""Who leases: a thread or a greenlet, and how one that has ended is noticed.

Each has an object in a `threading.local`, which Python lets go of the moment the
thread ends, whatever the garbage collector does. So a dead owner announces itself.
"""

from __future__ import annotations

import concurrent.futures.thread
import gc
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from djpool.core.slot import Entry


class JobLoop(NamedTuple):
    """The functions in which an executor's thread waits for jobs, and does each."""

    waits: CodeType
    does: CodeType


_THREAD_POOL = JobLoop(
    concurrent.futures.thread._worker.__code__,  # noqa: SLF001 (no public name)
    concurrent.futures.thread._WorkItem.run.__code__,  # noqa: SLF001 (no public name)
)
# In which it tells what came of a job.
_TELLS = {
    concurrent.futures.Future.set_result.__code__,
    concurrent.futures.Future.set_exception.__code__,
}
# Whose code runs there while a thread tells, unless somebody else wants to be told.
_TELLING = ("concurrent.futures.", "asyncio.", "asgiref.", "threading", "queue")


# Guards the collector's switch in `_frames()`.
_looks = threading.Lock()


def _frames() -> dict[int, FrameType]:
    """What each thread is doing; nothing if that cannot be said at the moment."""
    if sys.version_info >= (3, 11, 5):
        return sys._current_frames()  # noqa: SLF001 (the documented way)
    # Before, it holds the interpreter's lock of threads, which starting a thread waits
    # for with the GIL. If it collects garbage meanwhile, a finaliser may let go of the
    # GIL, and all threads stand still: https://github.com/python/cpython/issues/106883
    if not _looks.acquire(blocking=False):
        return {}
    try:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()  # noqa: SLF001 (the documented way)
        finally:
            if collects:
                gc.enable()
    finally:
        _looks.release()


class Owner:
    """A thread or greenlet that has leased connections at some time.

    `holding` are those it has now, of any pool: each pool changes it with steps
    that are atomic.
    """

    __slots__ = ("ended", "holding", "ident", "name", "tells")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        # threading.current_thread() would make up one where a finaliser asks, in a
        # thread that has hardly begun or is about to end, and leave it there for ever.
        thread = threading._active.get(self.ident)  # type: ignore[attr-defined]  # noqa: SLF001 (see above)
        self.name = "(unknown)" if thread is None else thread.name
        self.ended = False
        #: Whether it tells the log's handlers, whose leases are nothing to tell of.
        self.tells = False
        self.holding: set[Entry] = set()

    def is_idle(self, *others: JobLoop) -> bool:
        """True if it waits in its executor, or is about to, its job being done.

        In a thread pool, that is, or in one of `others`. Its innermost Python frames
        say so. False if that is not known.
        """
        if self.ident == threading.get_ident():
            # The caller does not rest. Or it has the number of a thread that ended; and
            # a look at its own frames would keep them all, and what they refer to,
            # until the garbage is collected.
            return False
        loops = (_THREAD_POOL, *others)
        frame = _frames().get(self.ident)
        told = False
        while frame is not None:
            code = frame.f_code
            for loop in loops:
                if code is loop.waits:
                    return True
                if code is loop.does:
                    return told
            # Whoever awaits the job goes on while the thread is still telling.
            told = code in _TELLS
            if not frame.f_globals.get("__name__", "").startswith(_TELLING):
                return False
            frame = frame.f_back
        return False


class _Sentinel:
    """Dies with its thread."""

    __slots__ = ("owner",)

    def __init__(self, owner: Owner) -> None:
        self.owner = owner

    def __del__(self) -> None:
        # Runs in a thread that ends, perhaps inside a lock of ours: no locks here.
        owner = self.owner
        owner.ended = True
        for entry in list(owner.holding):
            on_orphaned = entry.on_orphaned
            if on_orphaned is not None:
                on_orphaned()


class _Here(threading.local):
    owner: Owner

    def __init__(self) -> None:
        self.make()

    def make(self) -> None:
        sentinel = _Sentinel(Owner())
        # Meanwhile the garbage collector may have run what asks for the owner, too.
        kept: _Sentinel = self.__dict__.setdefault("sentinel", sentinel)
        self.owner = kept.owner


_here = _Here()

# What an entry calls when its owner has ended; it may only put on a queue.
OnOrphaned = Callable[[], None]


def current_owner() -> Owner:
    """The thread or greenlet that asks."""
    try:
        return _here.owner
    except AttributeError:  # it is just being made, further down this stack
        _here.make()
        return _here.owner
