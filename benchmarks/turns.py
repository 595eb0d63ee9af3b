"""A TCP proxy that counts round trips."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

CHUNK = 65536


class TurnCounter:
    """Stands between clients and a server, and counts what clients wait for.

    A round trip is the server's turn after the client's, however many messages or
    packets either of them takes. Opening a connection is one, too. What gets no
    answer, like a farewell, is none. Thread-safe.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen on a free port for clients of the server at `host` and `port`."""
        self._target = (host, port)
        self._lock = threading.Lock()  # guards _turns
        self._turns = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TurnCounter:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        # Wakes accept(); links end with their clients.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def turns(self) -> int:
        """How many round trips there have been."""
        with self._lock:
            return self._turns

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._count()
            with contextlib.suppress(OSError):  # reset by either end
                self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        asked = False
        while True:
            for source in select.select([client, server], [], [])[0]:
                if not (data := source.recv(CHUNK)):
                    return
                if source is client:
                    asked = True
                    server.sendall(data)
                    continue
                if asked:
                    asked = False
                    self._count()  # before the client has it, and goes on
                client.sendall(data)

    def _count(self) -> None:
        with self._lock:
            self._turns += 1
