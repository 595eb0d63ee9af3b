"""A TCP proxy on loopback, for the ways in which a network fails."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.servers.process import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

CHUNK = 65536


class Link:
    """One client's way through the proxy, and the thread that serves it."""

    def __init__(self, client: socket.socket, *, silent: bool) -> None:
        self.client = client
        self.thread: threading.Thread | None = None
        # Guarded by the proxy's lock.
        self.server: socket.socket | None = None
        self.silent = silent  # for good: what was lost cannot be made up for
        self.is_cut = False


class Proxy:
    """Stands between clients and a server, and fails as told.

    - `stop()` refuses new connections; those that are open go on.
    - `cut()` ends those that are open. Both together are a server that died.
    - `pause()` holds back what is under way in open and new connections.
    - `pause_after(marker)` does so as soon as these bytes were sent to a client.
    - `black_hole()` loses it: all are accepted, none is ever answered.
    - `resume()` forwards again, and listens again.

    Thread-safe.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen on a free port for clients of the server at `host` and `port`."""
        self.host = HOST
        self.port = free_port()
        self._target = (host, port)
        # Guards all below and what Link says; notified when a wait may be over.
        self._changed = threading.Condition()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._paused = False
        self._silent = False
        self._marker = b""
        self._links: set[Link] = set()
        self._accepted_total = 0
        self._bytes_to_server = 0
        self._bytes_to_client = 0
        self.resume()

    def __enter__(self) -> Self:
        """Give the proxy, which listens already."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    @property
    def connections(self) -> int:
        """How many connections are open now, silent ones included."""
        with self._changed:
            return len(self._links)

    @property
    def accepted_total(self) -> int:
        """How many connections have been accepted."""
        with self._changed:
            return self._accepted_total

    @property
    def bytes_to_server(self) -> int:
        """How many bytes have gone on to the server."""
        with self._changed:
            return self._bytes_to_server

    @property
    def bytes_to_client(self) -> int:
        """How many bytes have gone on to clients."""
        with self._changed:
            return self._bytes_to_client

    def stop(self) -> None:
        """Refuse new connections from now on. Those that are open go on."""
        with self._changed:
            acceptor = self._acceptor
            self._listener = self._acceptor = None
        if acceptor is not None:
            acceptor.join()

    def pause(self) -> None:
        """Forward nothing, in open and new connections, until `resume()`."""
        with self._changed:
            self._paused = True

    def pause_after(self, marker: bytes) -> None:
        """Hand on to a client up to these bytes, in one piece from the server; pause.

        What a server says together may reach a client in two parts, some time apart.
        """
        with self._changed:
            self._marker = marker

    def black_hole(self) -> None:
        """Lose what is sent, either way, also what `pause()` held back.

        New connections are accepted, and nothing more. A connection that was open in
        a black hole stays silent until it is cut: neither end learns of the other's.
        """
        with self._changed:
            self._paused = False
            self._silent = True
            for link in self._links:
                link.silent = True
            self._changed.notify_all()

    def resume(self) -> None:
        """Undo `stop()`, `pause()` and, for new connections, `black_hole()`."""
        with self._changed:
            self._paused = self._silent = False
            self._changed.notify_all()
            if self._listener is not None:
                return
            self._listener = socket.create_server((self.host, self.port), backlog=128)
            # Closing a socket does not wake who waits in its accept().
            self._listener.settimeout(0.05)
            self._acceptor = threading.Thread(
                target=self._accept, args=[self._listener], daemon=True
            )
            self._acceptor.start()

    def cut(self) -> int:
        """End all open connections, at both ends; return how many there were."""
        with self._changed:
            links = list(self._links)
        for link in links:
            self._cut(link)
        for link in links:
            if link.thread is not None:
                link.thread.join()
        return len(links)

    def close(self) -> None:
        """Refuse and cut for good. May be called twice."""
        self.stop()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while self._listener is listener:
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                client.setblocking(True)  # what it inherits differs between systems
                with self._changed:
                    link = Link(client, silent=self._silent)
                    link.thread = threading.Thread(
                        target=self._serve, args=[link], daemon=True
                    )
                    self._links.add(link)
                    self._accepted_total += 1
                    link.thread.start()

    def _serve(self, link: Link) -> None:
        server = self._dial(link) if self._may_forward(link) else None
        if server is not None:
            back = threading.Thread(
                target=self._pump, args=[link, server, link.client], daemon=True
            )
            back.start()
            self._pump(link, link.client, server)
            back.join()
            server.close()
        elif link.silent:
            self._pump(
                link, link.client, link.client
            )  # sends nothing back: it's silent
        link.client.close()
        with self._changed:
            self._links.discard(link)

    def _dial(self, link: Link) -> socket.socket | None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            return None
        server.settimeout(None)
        for end in (server, link.client):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            if not link.is_cut:
                link.server = server
                return server
        server.close()
        return None

    def _pump(self, link: Link, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                for part in self._parts(link, sink, data):
                    if self._may_forward(link):
                        # Counted first: who has the bytes finds them counted.
                        self._count(link, sink, len(part))
                        sink.sendall(part)
            if self._may_forward(link):
                sink.shutdown(socket.SHUT_WR)
        except OSError:  # reset by an end, or cut by us
            if self._may_forward(link):
                self._cut(link)

    def _parts(self, link: Link, sink: socket.socket, data: bytes) -> Iterator[bytes]:
        """Give what to hand on; pause after the marker, if it is in there."""
        with self._changed:
            marker = self._marker
        before, found, after = data.partition(marker) if marker else (data, b"", b"")
        if not found or sink is not link.client:
            yield data
            return
        yield before + found
        with self._changed:
            self._marker = b""
            self._paused = True
        yield after

    def _may_forward(self, link: Link) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: not self._paused or link.silent or link.is_cut
            )
            return not link.silent and not link.is_cut

    def _count(self, link: Link, sink: socket.socket, size: int) -> None:
        with self._changed:
            if sink is link.client:
                self._bytes_to_client += size
            else:
                self._bytes_to_server += size

    def _cut(self, link: Link) -> None:
        with self._changed:
            link.is_cut = True
            self._changed.notify_all()
            ends = [link.client, link.server]
        for end in ends:
            if end is not None:
                with suppress(OSError):  # closed already
                    end.shutdown(socket.SHUT_RDWR)  # wakes who waits in its recv()
