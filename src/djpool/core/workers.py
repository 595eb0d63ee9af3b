"""Threads for what may take its time, each for one thing at once."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from djpool.core.telling import in_a_serving_thread

logger = logging.getLogger("djpool.pool")

# Seconds without anything to do after which a thread ends.
PATIENCE = 5.0

Work = Callable[[], None]
_Inbox = queue.SimpleQueue[Work]


def is_the_end(error: RuntimeError) -> bool:
    """Whether no thread can be started because the process comes to its end."""
    return (
        "interpreter shutdown" in str(error) or not threading.main_thread().is_alive()
    )


def run_apart(work: Work, patience: float | None = None) -> None:
    """Do `work` in a daemon thread, and wait for it, for so many seconds at most.

    In the calling thread where no other can be started.
    """
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        work()
    else:
        thread.join(patience)


def join(threads: Iterable[threading.Thread], patience: float) -> None:
    """Wait for the end of them all, for so many seconds at most."""
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))


def _nothing() -> None:
    """The work of a thread that is to end."""


class Workers:
    """As many daemon threads as there are things to do at the same time.

    Nothing waits for what is slow. Thread-safe.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Those of threads that have nothing to do. Whoever takes one out has the
        # thread, be it to give it work or to end it.
        self._idle: deque[_Inbox] = deque()
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._ends = False
        self._forked = False  # this is a child, and the threads its parent's

    def do(self, work: Work) -> None:
        """Have `work` done in a thread of its own.

        Raises:
            RuntimeError: No thread can be started.
        """
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._run, args=(inbox,), name=self._name, daemon=True
            )
            thread.start()
            self._threads.add(thread)
        inbox.put(work)

    def end(self) -> list[threading.Thread]:
        """End every thread after what it does now; the threads."""
        self._ends = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().put(_nothing)
        return list(self._threads)

    def after_fork(self) -> None:
        """In a forked child: end nothing any more. Takes no lock."""
        self._forked = True

    def _run(self, inbox: _Inbox) -> None:
        in_a_serving_thread()
        while True:
            try:
                work = inbox.get(timeout=PATIENCE)
            except queue.Empty:
                # Greenlets in the place of threads go on after a fork. They had better
                # not end: Python's threading has forgotten them.
                while self._forked:
                    inbox.get()
                if self._resigns(inbox):
                    return
                continue
            try:
                work()
            except Exception:
                # The thread must outlive any surprise.
                logger.exception("in the thread %r", self._name)
            del work  # or it would keep what it had alive until the next
            self._idle.append(inbox)
            if self._ends and self._resigns(inbox):
                return

    def _resigns(self, inbox: _Inbox) -> bool:
        """Wait for no work any more; False if somebody has just had the thread."""
        try:
            self._idle.remove(inbox)
        except ValueError:
            return False
        return True
