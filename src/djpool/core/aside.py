"""A thread for small things that somebody in a hurry hands over."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("djpool.pool")


class Aside:
    """Does one thing at a time, in a daemon thread that starts with the first.

    Nothing ever queues here: if the thread is busy, whoever has something to do does
    it. So many in a hurry are not held up by one thread. Thread-safe.
    """

    def __init__(self) -> None:
        self._idle = threading.Lock()  # held while there is something to do
        # None is for the thread to end.
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._forked = False  # this is a child, and the thread its parent's

    def do(self, work: Callable[[], None]) -> bool:
        """Have `work` done; False if the thread is busy, or cannot be had."""
        if self._forked or not self._idle.acquire(blocking=False):
            return False
        if self._thread is None or not self._thread.is_alive():
            try:
                self._start()
            except RuntimeError:  # the process ends, or has too many
                self._idle.release()
                return False
        self._inbox.put(work)
        return True

    def end(self) -> None:
        """End the thread after what it does now; the next thing starts another."""
        self._idle.acquire()
        if self._thread is None or not self._thread.is_alive():
            self._idle.release()
        else:
            self._inbox.put(None)

    def after_fork(self) -> None:
        """In a forked child: do nothing any more. Takes no lock."""
        self._forked = True

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="djpool-aside", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            try:
                work()
            except Exception:
                # The thread must outlive any surprise.
                logger.exception("in the thread %r", threading.current_thread().name)
            del work  # or it would keep what it had alive until the next
            self._idle.release()
        self._thread = None
        self._idle.release()
