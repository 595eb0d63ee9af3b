"""Lowest layer: TNS packets and the TTC primitive encodings.

TNS is the framing (connect/accept/data/marker packets), TTC is the stream of
messages inside DATA packets.  Nothing in this module knows what a message
means.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

# TNS packet types.
CONNECT, ACCEPT, REFUSE, DATA, MARKER, CONTROL = 1, 2, 4, 6, 12, 14
# Flags in the two bytes that open the body of a DATA packet.
DATA_EOF, DATA_END_OF_RESPONSE = 0x0040, 0x2000
# Third byte of a MARKER packet's body.
MARKER_BREAK, MARKER_RESET, MARKER_INTERRUPT = 1, 2, 3

#: Largest byte string that fits the one-byte length form.
MAX_SHORT = 252
LONG_FORM = 0xFE
NULL_FORM = 0xFF


class ConnectionLost(Exception):
    """The peer closed the socket, or somebody killed the session."""


class CallInterrupted(Exception):
    """The client sent a break marker while the server was busy."""


class ProtocolError(Exception):
    """The client sent something this emulator does not understand."""


@dataclass(frozen=True)
class Packet:
    """One TNS packet without its eight byte header."""

    type: int
    flags: int
    body: bytes


class PacketSocket:
    """Reads and writes whole TNS packets on a socket.

    ``large_lengths`` must be switched on once ACCEPT has been sent: from then
    on the packet length is a 32-bit number instead of 16 bits plus checksum.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.large_lengths = False
        self.sdu = 8192
        self._write_lock = threading.Lock()

    def _recv_exactly(self, count: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < count:
            try:
                data = self.sock.recv(count - len(chunks))
            except OSError as exc:
                raise ConnectionLost(str(exc)) from exc
            if not data:
                raise ConnectionLost("end of file")
            chunks += data
        return bytes(chunks)

    def read(self) -> Packet:
        """Block until a whole packet has arrived."""
        header = self._recv_exactly(8)
        size = int.from_bytes(header[: 4 if self.large_lengths else 2], "big")
        if size < 8:
            raise ProtocolError(f"packet length {size}")
        return Packet(header[4], header[5], self._recv_exactly(size - 8))

    def write(self, packet_type: int, body: bytes, flags: int = 0) -> None:
        """Send one packet."""
        size = len(body) + 8
        length = (
            size.to_bytes(4, "big")
            if self.large_lengths
            else size.to_bytes(2, "big") + b"\0\0"
        )
        try:
            with self._write_lock:
                self.sock.sendall(length + bytes([packet_type, flags, 0, 0]) + body)
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc

    def write_data(self, payload: bytes, end_of_response: bool = False) -> None:
        """Send a TTC payload as one or more DATA packets."""
        room = self.sdu - 10
        pieces = [payload[i : i + room] for i in range(0, len(payload), room)] or [b""]
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            data_flags = DATA_END_OF_RESPONSE if end_of_response and last else 0
            self.write(DATA, data_flags.to_bytes(2, "big") + piece)

    def write_marker(self, kind: int) -> None:
        self.write(MARKER, bytes([1, 0, kind]))

    def readable(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for something to read."""
        try:
            return bool(select.select([self.sock], [], [], max(timeout, 0))[0])
        except (OSError, ValueError) as exc:
            raise ConnectionLost(str(exc)) from exc


class Reader:
    """Decodes TTC primitives, asking for more packets when it runs dry.

    A request can span DATA packets and nothing marks its last one, so the
    only way to know where it ends is to parse it while reading.
    """

    def __init__(self, data: bytes, more: Callable[[], bytes] | None = None) -> None:
        self._data = data
        self._pos = 0
        self._more = more

    @property
    def remaining(self) -> int:
        """Bytes left in what has been received so far."""
        return len(self._data) - self._pos

    def raw(self, count: int) -> bytes:
        while self.remaining < count:
            if self._more is None:
                raise ProtocolError("message is too short")
            self._data = self._data[self._pos :] + self._more()
            self._pos = 0
        start = self._pos
        self._pos += count
        return self._data[start : self._pos]

    def u8(self) -> int:
        return self.raw(1)[0]

    def u16be(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def u16le(self) -> int:
        return int.from_bytes(self.raw(2), "little")

    def u32be(self) -> int:
        return int.from_bytes(self.raw(4), "big")

    def num(self) -> int:
        """A UB2/UB4/UB8/SB4: one byte of length (and sign), then the digits."""
        size = self.u8()
        value = int.from_bytes(self.raw(size & 0x7F), "big")
        return -value if size & 0x80 else value

    def octets(self) -> bytes | None:
        """A length-prefixed byte string; ``None`` if its length is zero."""
        size = self.u8()
        if size in (0, NULL_FORM):
            return None
        if size != LONG_FORM:
            return self.raw(size)
        chunks = bytearray()
        while chunk := self.num():
            chunks += self.raw(chunk)
        return bytes(chunks)

    def sized_bytes(self) -> bytes | None:
        """A byte string preceded by a UB4 length and its own length byte."""
        return self.octets() if self.num() else None

    def text(self) -> str:
        return (self.sized_bytes() or b"").decode()

    def zero_terminated(self) -> bytes:
        out = bytearray()
        while byte := self.u8():
            out.append(byte)
        return bytes(out)


class Writer:
    """Encodes TTC primitives.  Every method returns ``self`` for chaining."""

    def __init__(self) -> None:
        self.data = bytearray()

    def raw(self, data: bytes) -> Writer:
        self.data += data
        return self

    def u8(self, *values: int) -> Writer:
        self.data += bytes(values)
        return self

    def s8(self, value: int) -> Writer:
        return self.u8(value & 0xFF)

    def u16be(self, value: int) -> Writer:
        return self.raw(value.to_bytes(2, "big"))

    def u16le(self, value: int) -> Writer:
        return self.raw(value.to_bytes(2, "little"))

    def u32be(self, value: int) -> Writer:
        return self.raw(value.to_bytes(4, "big"))

    def num(self, *values: int) -> Writer:
        """Universal integers, in the shortest of 0, 1, 2, 4 and 8 bytes."""
        for value in values:
            if not value:
                self.u8(0)
                continue
            size = next(s for s in (1, 2, 4, 8) if abs(value) < 1 << 8 * s)
            sign = 0x80 if value < 0 else 0
            self.u8(size | sign).raw(abs(value).to_bytes(size, "big"))
        return self

    def octets(self, data: bytes | None) -> Writer:
        """A length-prefixed byte string; ``None`` and ``b""`` are the null."""
        data = data or b""
        if len(data) <= MAX_SHORT:
            return self.u8(len(data)).raw(data)
        self.u8(LONG_FORM)
        for start in range(0, len(data), 32767):
            chunk = data[start : start + 32767]
            self.num(len(chunk)).raw(chunk)
        return self.num(0)

    def sized_bytes(self, data: bytes | None) -> Writer:
        self.num(len(data or b""))
        return self.octets(data) if data else self

    def text(self, value: str) -> Writer:
        return self.sized_bytes(value.encode())
