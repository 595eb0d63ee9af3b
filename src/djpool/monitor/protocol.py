"""One line of JSON each way: `{"version": 1, "verb": "stats"}` and its answer.

An answer has `version` and `ok`. If `ok` is true, the rest is what was asked for and
who answered: `pid`, `born`, `command`. If not, `error` says why, in words for people.
Verbs other than "stats" are orders; they have an `alias`, and what belongs to them.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from djpool.monitor.process import is_stopped

VERSION = 1
# Bytes. A request has a few words; an answer some 3,000 bytes for each pool.
LONGEST_REQUEST = 64 * 1024
LONGEST_ANSWER = 64 * 1024 * 1024

_RETRY_SECONDS = 0.01
_CHUNK = 256 * 1024


class ProtocolError(Exception):
    """What came is not a message of this protocol."""


class RefusalError(Exception):
    """A process will not do what it was told. The message says why."""


class StoppedError(Exception):
    """The process was stopped, so that it cannot answer: by SIGSTOP, say."""


class Peer(NamedTuple):
    """Who is at the other end of a socket, as the system says. Pid 0: not visible."""

    pid: int
    uid: int


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as the line that is sent.

    Raises:
        ValueError: It has a value that JSON has no word for, such as NaN.
    """
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the message of a line.

    Raises:
        ProtocolError: It is no JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("not a JSON object")
    return message


def peer(connected: socket.socket) -> Peer | None:
    """Return who is at the other end; None where the system does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    form = struct.Struct("3i")
    pid, uid, _gid = form.unpack(
        connected.getsockopt(socket.SOL_SOCKET, option, form.size)
    )
    return Peer(pid, uid)


def ask(
    address: str, request: Mapping[str, Any], *, deadline: float, owner: int
) -> tuple[dict[str, Any], Peer | None]:
    """Send a request to a process; return its answer, and who gave it.

    Args:
        address: The path of the process's socket.
        request: The verb and what belongs to it.
        deadline: When to give up, on the monotonic clock.
        owner: The user whose process should listen there; root may, too.

    Raises:
        TimeoutError: The deadline passed.
        StoppedError: The process would not answer before it is continued.
        ProtocolError: Another user listens there, or the answer is none.
        EOFError: The connection was closed before an answer.
        OSError: It cannot be reached; ConnectionRefusedError if nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        _connect(link, address, deadline)
        listener = peer(link)
        if listener is not None and listener.uid not in {owner, 0}:
            raise ProtocolError(f"user {listener.uid} listens on user {owner}'s socket")
        if listener is not None and is_stopped(listener.pid):
            raise StoppedError
        link.settimeout(_left(deadline))
        link.sendall(encode({"version": VERSION, **request}))
        return decode(_read_line(link, deadline)), listener


def _connect(link: socket.socket, address: str, deadline: float) -> None:
    while True:
        link.settimeout(_left(deadline))
        try:
            link.connect(address)
        except BlockingIOError:
            # Too many wait to be accepted. No timeout covers this.
            time.sleep(min(_RETRY_SECONDS, _left(deadline)))
        else:
            return


def _read_line(link: socket.socket, deadline: float) -> bytes:
    line = bytearray()
    while True:
        link.settimeout(_left(deadline))
        chunk = link.recv(_CHUNK)
        if not chunk:
            raise EOFError("the connection was closed before an answer")
        line += chunk
        if b"\n" in chunk:
            return bytes(line)
        if len(line) > LONGEST_ANSWER:
            raise ProtocolError(f"longer than {LONGEST_ANSWER} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
