"""Answering on a socket: one thread for all clients, however slow or odd they are."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from djpool.core.telling import in_a_serving_thread
from djpool.monitor.process import uid
from djpool.monitor.protocol import LONGEST_REQUEST, Peer, peer

logger = logging.getLogger("djpool.monitor")

# Seconds for one client, from its connection to the last byte of its answer.
CLIENT_SECONDS = 5.0
# Seconds more for an answer that is still being worked on.
WORK_SECONDS = 30.0
# Further ones wait in the listener's queue.
MOST_CLIENTS = 128
# Seconds without new clients when one could not be accepted, say for want of files.
REST_SECONDS = 1.0

_CHUNK = 64 * 1024

# Takes a line and who sent it; None where the system does not say. Gives the line to
# send back, at once or later, from any thread.
Answer = Callable[[bytes, Peer | None], "bytes | Future[bytes]"]


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    who: Peer | None
    deadline: float
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))
    pending: Future[bytes] | None = None


class Server:
    """Answers the lines that come in on a listening socket, which it then owns.

    Its thread runs from `start()` to `stop()`, but for a `pause()`; any thread may
    call these. No client is waited for: each gets what its socket takes at once, and
    has a deadline. While there are no clients, nothing runs.
    """

    def __init__(self, listener: socket.socket, answer: Answer) -> None:
        self._listener = listener
        self._answer = answer
        # Guards the next four. The thread leaves under it, so that who wants the
        # thread back knows whether there still is one.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running = False
        self._stopping = False
        self._pausing = False
        self._resting_until = 0.0
        self._complaints: set[type[Exception]] = set()
        # Whose answer is being worked on. The selector does not know them: it would
        # have nothing to wait for, and one that hangs up would keep it awake.
        self._pending: set[_Client] = set()
        self._alarm, self._bell = socket.socketpair()
        # Not epoll or kqueue: theirs is a kernel object that a forked child shares,
        # and whose child's clean-up would then be the parent's too.
        poll = getattr(selectors, "PollSelector", selectors.SelectSelector)
        self._selector: selectors.BaseSelector = poll()
        self._bell.setblocking(False)
        for each in (listener, self._alarm):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)

    def start(self) -> None:
        """Answer from now on, in a thread; also after a `pause()`.

        Raises:
            RuntimeError: There can be no thread. Call `close()` then.
        """
        with self._lock:
            self._pausing = False
            if self._running or self._stopping:
                return
            thread = threading.Thread(
                target=self._run, name="djpool-monitor", daemon=True
            )
            thread.start()
            self._thread = thread
            self._running = True

    def pause(self, patience: float) -> None:
        """End the thread, if it does so within some seconds. Clients stay.

        Those who come meanwhile wait in the queue.
        """
        self._pausing = True
        self._ring(patience)

    def stop(self, patience: float) -> None:
        """End the thread, which closes every socket; wait some seconds for it.

        May be called twice, and by the thread itself.
        """
        self._stopping = True
        self._ring(patience)
        with self._lock:
            running = self._running
        if not running:  # nor did it before, perhaps: then nobody has closed them
            self.close()

    def close(self) -> None:
        """Close every socket. For where no thread runs, as in a forked child.

        May be called twice.
        """
        self._stopping = True  # where threads are greenlets, a child has them, too
        for client in self._clients():
            client.socket.close()
        self._selector.close()
        for each in (self._listener, self._alarm, self._bell):
            each.close()

    def _ring(self, patience: float) -> None:
        with suppress(OSError):  # it is closed already, or rings enough
            self._bell.send(b".")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    def _wake(self, _done: Future[bytes]) -> None:
        self._ring(0.0)

    def _run(self) -> None:
        in_a_serving_thread()
        while not self._may_leave():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 (the thread must live)
                self._complain("The thread that answers had to begin anew", error)
                time.sleep(REST_SECONDS)
        if self._stopping:
            self.close()

    def _may_leave(self) -> bool:
        with self._lock:
            self._running = not (self._stopping or self._pausing)
            return not self._running

    def _round(self) -> None:
        for key, _events in self._selector.select(self._patience()):
            client: _Client | None = key.data
            if client is not None:
                self._attend(client)
            elif key.fileobj is self._listener:
                self._accept()
            else:
                self._alarm.recv(_CHUNK)  # it has done its work: select() returned
        for client in [each for each in self._pending if _is_done(each)]:
            self._deliver(client)
        now = time.monotonic()
        for client in self._clients():
            if client.deadline <= now:
                self._drop(client)
        if self._resting_until and self._resting_until <= now:
            self._resting_until = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _patience(self) -> float | None:
        ends = [client.deadline for client in self._clients()]
        if self._resting_until:
            ends.append(self._resting_until)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _clients(self) -> list[_Client]:
        keys = self._selector.get_map() or {}  # none once it is closed
        known = [key.data for key in keys.values() if key.data is not None]
        return [*known, *self._pending]

    def _accept(self) -> None:
        try:
            connected, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it has gone again
        except OSError as error:
            self._complain("A reader could not be let in", error)
            self._rest()
            return
        who = peer(connected)
        if who is not None and who.uid not in {uid(), 0}:
            connected.close()
            return
        connected.setblocking(False)
        client = _Client(connected, who, time.monotonic() + CLIENT_SECONDS)
        self._selector.register(connected, selectors.EVENT_READ, client)
        if len(self._clients()) >= MOST_CLIENTS:
            self._rest()

    def _rest(self) -> None:
        # A listener that is not looked at cannot keep the loop busy.
        self._selector.unregister(self._listener)
        self._resting_until = time.monotonic() + REST_SECONDS

    def _attend(self, client: _Client) -> None:
        try:
            if not client.answer and not self._read(client):
                return
            sent = client.socket.send(client.answer[:_CHUNK])
            client.answer = client.answer[sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            client.answer = memoryview(b"")  # it has gone
        if not client.answer:
            self._drop(client)

    def _read(self, client: _Client) -> bool:
        """Read on. True once there is an answer; a request without an end has none."""
        chunk = client.socket.recv(LONGEST_REQUEST)
        client.request += chunk
        line, newline, _rest = client.request.partition(b"\n")
        if newline and len(line) <= LONGEST_REQUEST:
            answer = self._answer(bytes(line), client.who)
            if isinstance(answer, Future):
                self._wait_for(client, answer)
                return False
            client.answer = memoryview(answer)
            self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
            return True
        if not chunk or len(client.request) > LONGEST_REQUEST:
            self._drop(client)
        return False

    def _wait_for(self, client: _Client, answer: Future[bytes]) -> None:
        self._selector.unregister(client.socket)
        client.pending = answer
        client.deadline += WORK_SECONDS
        self._pending.add(client)
        answer.add_done_callback(self._wake)

    def _deliver(self, client: _Client) -> None:
        assert client.pending is not None
        self._pending.discard(client)
        client.answer = memoryview(client.pending.result())
        client.pending = None
        self._selector.register(client.socket, selectors.EVENT_WRITE, client)

    def _drop(self, client: _Client) -> None:
        if client in self._pending:
            self._pending.discard(client)
        else:
            self._selector.unregister(client.socket)
        client.socket.close()

    def _complain(self, what: str, error: Exception) -> None:
        """Log what went wrong, the first time for each kind of error."""
        if type(error) not in self._complaints:
            self._complaints.add(type(error))
            logger.warning("%s (said once): %s", what, error, exc_info=error)


def _is_done(client: _Client) -> bool:
    return client.pending is not None and client.pending.done()
