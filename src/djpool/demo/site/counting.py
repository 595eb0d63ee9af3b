"""SQLite connections counted where they are made.

For systems that do not tell how often a process has a file open. It knows nothing of
pools: a connection counts from when it is opened until it is closed, or collected.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any


class Connections:
    """How many there are now, and the most there were. Thread-safe."""

    def __init__(self) -> None:
        # Guards `now` and `most`. Reentrant: a connection may be collected, and
        # with that closed, while this very thread counts another one.
        self._lock = threading.RLock()
        self.now = 0
        self.most = 0

    def change(self, by: int) -> None:
        """Count so many more."""
        with self._lock:
            self.now += by
            self.most = max(self.most, self.now)

    def figures(self) -> dict[str, int]:
        """Both numbers, of one moment."""
        with self._lock:
            return {"now": self.now, "most": self.most}


connections = Connections()


class CountedConnection(sqlite3.Connection):
    """What the site's `OPTIONS["factory"]` names."""

    _counts = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counts = True
        connections.change(+1)

    def close(self) -> None:
        super().close()
        self._end()

    def __del__(self) -> None:
        self._end()
        # From Python 3.13 on this is what closes the database.
        if finalise := getattr(super(), "__del__", None):
            finalise()

    def _end(self) -> None:
        if self._counts:
            self._counts = False
            connections.change(-1)
