"""A look at a socket without reading from it."""

from __future__ import annotations

import select


def is_quiet(fd: int) -> bool:
    """Whether nothing waits to be read: no data, no end of the stream, no error.

    An idle server says nothing. So if there is something, it is most often its
    farewell. Takes about a microsecond and never blocks. False for a bad `fd`.
    """
    if not hasattr(select, "poll"):  # Windows, and gevent's monkey-patched select
        try:
            return not select.select([fd], [], [], 0)[0]
        except (OSError, ValueError):
            return False
    poller = select.poll()
    try:
        poller.register(fd, select.POLLIN | select.POLLPRI)
        return not poller.poll(0)
    except (OSError, ValueError):
        return False


def wait_readable(fd: int, timeout: float) -> bool:
    """Whether there is something to read within `timeout` seconds."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], timeout)[0])
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout * 1000))
