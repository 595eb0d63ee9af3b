"""A look at a socket without reading from it, and an end to waiting for it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator


def is_quiet(fd: int) -> bool:
    """Whether nothing waits to be read: no data, no end of the stream, no error.

    An idle server says nothing. So if there is something, it is most often its
    farewell. Takes about a microsecond and never blocks. False for a bad `fd`.
    """
    if not hasattr(select, "poll"):  # Windows, and eventlet's monkey-patched select
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


@contextlib.contextmanager
def cut_off(fd: int | None, timeout: float) -> Iterator[None]:
    """Shut the socket down if the block takes longer than `timeout` seconds.

    For drivers that wait for an answer for ever: they see the stream end, and raise.
    It has a handle of its own, so `fd` may be closed, and be another file's, meanwhile.
    Without an `fd`, where the driver shows none, the block takes as long as it takes.
    """
    if fd is None:
        yield
        return
    # os.dup() would return a number that is nobody's if an exception strikes just then.
    with socket.socket() as handle:
        os.dup2(fd, handle.fileno(), inheritable=False)
        watchdog = threading.Timer(timeout, _shut_down, [handle])
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()  # at once: it never uses the handle after this


def _shut_down(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        handle.shutdown(socket.SHUT_RDWR)
