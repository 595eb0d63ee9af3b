"""The sockets of this process that lead to a server, which the other tests count."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interruption.requests import FILES, count_sockets

pytestmark = pytest.mark.skipif(
    not FILES.is_dir(), reason="the system does not show this process's files"
)


def connect_to(stack: ExitStack, listener: socket.socket) -> socket.socket:
    """Return a new connection to a listener."""
    client = stack.enter_context(socket.socket(listener.family))
    client.connect(listener.getsockname())
    return client


def test_internet_sockets_count_by_their_port() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        assert count_sockets("127.0.0.1", port) == 0
        connect_to(stack, listener)
        assert count_sockets("127.0.0.1", port) == 1
        assert count_sockets("127.0.0.1", port + 1) == 0


def test_unix_sockets_count_by_their_path(tmp_path: Path) -> None:
    """`HOST` is the socket for MySQL, and its folder for PostgreSQL."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        path = tmp_path / "socket"
        listener.bind(str(path))
        listener.listen()
        connect_to(stack, listener)
        stack.enter_context(connect_to(stack, listener).dup())
        assert count_sockets(str(path), 3306) == 2
        assert count_sockets(str(tmp_path), 3306) == 2
        assert count_sockets(str(tmp_path / "sock"), 3306) == 0
        assert count_sockets("127.0.0.1", 3306) == 0


def test_sockets_that_lead_nowhere_do_not_count() -> None:
    with ExitStack() as stack:
        for end in socket.socketpair():
            stack.enter_context(end)
        stack.enter_context(socket.socket())
        assert count_sockets("/", 3306) == 0
        assert count_sockets("", None) is None
