"""A thread for small things that a thread in a hurry hands over."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from djpool.core.telling import in_a_serving_thread

logger = logging.getLogger("djpool.pool")

Work = Callable[[], None]


def _end() -> None:
    """The work after which the thread ends."""


class Aside:
    """Does one thing at a time, in a daemon thread that starts with the first.

    Nothing ever queues here: if the thread is busy, the caller does its work itself. So
    many in a hurry are not held up by one thread. Thread-safe.
    """

    def __init__(self) -> None:
        # Under the key None: what the thread does, or is about to be given. It is no
        # lock, because it says itself whose it is: a caller that an exception strikes
        # takes back its own work, and no other, however far it has come.
        self._at: dict[None, Work] = {}
        self._inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._forked = False  # this is a child, and the thread its parent's

    def do(self, work: Work) -> bool:
        """Have `work` done; False if the thread is busy, or cannot be had."""
        if self._forked:
            return False
        try:
            if not self._claims(work):
                return False
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._inbox.put(work)
        except RuntimeError:  # the process ends, or has too many threads
            self._done(work)
            return False
        except BaseException:
            self._done(work)
            raise
        return True

    def end(self) -> threading.Thread | None:
        """End the thread after what it does now; the next thing starts another.

        Returns the thread, if there is one.
        """
        thread = self._thread
        self._inbox.put(_end)
        return thread

    def after_fork(self) -> None:
        """In a forked child: do nothing any more. Takes no lock."""
        self._forked = True

    def _claims(self, work: Work) -> bool:
        """Reserve the thread for this; False if it is another's."""
        return self._at.setdefault(None, work) is work

    def _done(self, work: Work) -> None:
        if self._at.get(None) is work:
            self._at.pop(None, None)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="djpool-aside", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        in_a_serving_thread()
        while True:
            work = self._inbox.get()
            if work is _end:
                if self._claims(work):
                    break
                self._inbox.put(work)  # after what another thread is handing over
                continue
            try:
                work()
            except Exception:
                # The thread must outlive any surprise.
                logger.exception("in the thread %r", threading.current_thread().name)
            self._done(work)
            del work  # or it would keep what it had alive until the next
        self._thread = None
        self._done(work)
