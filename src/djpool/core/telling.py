"""What djpool's own threads have to say, which a thread of its own tells the log.

A handler may be slow, or write into the very database of the pool that it is told of.
So no thread that pools depend on ever runs one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator

from djpool.core.owner import current_owner

# Seconds without a message after which the thread ends.
PATIENCE = 5.0
# So many messages wait at most, where there can be no thread. The oldest go first.
MOST = 1000


class _Here(threading.local):
    """Of each thread."""

    #: Whether pools depend on it.
    serves = False
    #: Whether it has no time for the log at the moment.
    hurries = False
    #: Whether it tells the log's handlers what others say.
    tells = False


_here = _Here()


def in_a_serving_thread() -> None:
    """Have another thread tell the log from now on what this one says."""
    _here.serves = True


def is_serving() -> bool:
    """Whether this is a thread that pools depend on, or that tells the log."""
    return _here.serves or _here.tells


@contextlib.contextmanager
def by_another_thread() -> Iterator[None]:
    """Have another thread tell the log what this one says within the block."""
    before = _here.hurries
    _here.hurries = True
    try:
        yield
    finally:
        _here.hurries = before


class Teller(logging.Filter):
    """Takes messages of serving threads from a logger, and tells its handlers of them.

    Thread-safe. The thread starts with the first message, and ends when none comes.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Gives back what handlers, and others that are called, leased in a thread.
        self.give_back: Callable[[], None] | None = None
        self._begin()
        atexit.register(self.tell)
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        # In a forked child, too: the parent tells what there was.
        self._inbox: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _runs
        self._runs = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is for the handlers here and now."""
        if not (_here.serves or _here.hurries):
            return True
        self._inbox.put(record)
        try:
            self._start()
        except RuntimeError:
            # There can be no more threads now. The next message tries again.
            if self._inbox.qsize() > MOST:
                with contextlib.suppress(queue.Empty):
                    self._inbox.get_nowait()
        return False

    def tell(self, patience: float = 0.0) -> None:
        """Tell what there is, until nothing has come for so many seconds."""
        while True:
            try:
                # Never with a timeout of 0: Python 3.10 may wait for ever then.
                record = self._inbox.get(patience > 0, patience)
            except queue.Empty:
                return
            try:
                logging.getLogger(record.name).handle(record)
            except Exception:  # noqa: BLE001 (it is the project's handler)
                # Shown as what a thread ends with; the next message is told, too.
                thread = threading.current_thread()
                threading.excepthook(
                    threading.ExceptHookArgs((*sys.exc_info(), thread))
                )
            del record  # which may refer to a pool
            self.clean_up()

    def clean_up(self) -> None:
        """Give back what somebody else's code has leased in this thread."""
        if self.give_back is not None and current_owner().holding:
            self.give_back()

    def _start(self) -> None:
        with self._lock:
            if not self._runs:
                thread = threading.Thread(
                    target=self._run, name="djpool-log", daemon=True
                )
                thread.start()
                self._runs = True

    def _run(self) -> None:
        _here.tells = current_owner().tells = True
        while True:
            self.tell(PATIENCE)
            with self._lock:
                if self._inbox.empty():
                    self._runs = False
                    return


teller = Teller()
for _name in ("djpool.pool", "djpool.monitor"):
    logging.getLogger(_name).addFilter(teller)
