"""A session's LOBs: their contents, by the locators that the client holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.servers.oracle_emulator import datatypes, ttc
from tests.servers.oracle_emulator.errors import OracleError
from tests.servers.oracle_emulator.ttc import Locator
from tests.servers.oracle_emulator.wire import ProtocolError, Reader, Writer

_LENGTH, _READ, _TRIM, _WRITE = 0x1, 0x2, 0x20, 0x40
_CREATE_TEMP = 0x110
_LOCATOR_SIZE = 40


@dataclass
class Lob:
    """The content of a LOB: text or bytes."""

    content: str | bytes
    csfrm: int

    @property
    def _encoding(self) -> str:
        return "utf_16_be" if self.csfrm == datatypes.NCHAR else "utf_8"

    def read(self, start: int, amount: int) -> tuple[int, bytes]:
        """How many characters or bytes these are, and as the client reads them."""
        part = self.content[start : start + amount]
        data = part if isinstance(part, bytes) else part.encode(self._encoding)
        return len(part), data

    def write(self, start: int, data: bytes) -> None:
        old = self.content
        if isinstance(old, bytes):
            head, tail = old[:start].ljust(start, b"\0"), old[start + len(data) :]
            self.content = head + data + tail
        else:
            text = data.decode(self._encoding)
            self.content = old[:start].ljust(start) + text + old[start + len(text) :]


@dataclass
class _Operation:
    """A request about a LOB, apart from what is to be written."""

    code: int
    locator: bytes
    source_offset: int
    target_offset: int
    has_amount: bool


class Lobs:
    """All LOBs that a session has handed out."""

    def __init__(self) -> None:
        self._lobs: dict[bytes, Lob] = {}
        self._made = 0

    def content(self, locator: Locator) -> str | bytes:
        return self._lobs[locator.data].content

    def send(self, out: Writer, value: Any, csfrm: int) -> None:
        """A column's value, as a locator."""
        if value is None:
            ttc.lob_value(out, None, 0)
            return
        content = value if isinstance(value, bytes) and not csfrm else str(value)
        if not csfrm and isinstance(content, str):
            content = content.encode()
        ttc.lob_value(
            out, self._add(Lob(content, csfrm), temporary=False), len(content)
        )

    def operate(self, reader: Reader, out: Writer) -> None:
        """Do what a request says."""
        asked = _read_operation(reader)
        if asked.code == _CREATE_TEMP:
            reader.num()
            empty: str | bytes = b"" if asked.target_offset == datatypes.BLOB else ""
            made = self._add(Lob(empty, asked.source_offset), temporary=True)
            out.u8(ttc.PARAMETER).raw(made).num(0).u8(0)
            return
        lob = self._lobs.get(asked.locator)
        if lob is None:
            raise OracleError(22922, message="nonexistent LOB value")
        if asked.code == _WRITE:
            if reader.u8() != ttc.LOB_DATA:
                raise ProtocolError("LOB data expected")
            lob.write(asked.source_offset - 1, reader.octets() or b"")
        amount = reader.num() if asked.has_amount else 0
        if asked.code == _READ:
            amount, data = lob.read(asked.source_offset - 1, amount)
            if data:
                out.u8(ttc.LOB_DATA).octets(data)
        elif asked.code == _LENGTH:
            amount = len(lob.content)
        elif asked.code == _TRIM:
            lob.content = lob.content[:amount]
        out.u8(ttc.PARAMETER).raw(asked.locator)
        if asked.has_amount:
            out.num(amount)

    def free(self, reader: Reader) -> None:
        """Forget the temporary ones that the client is through with."""
        reader.u8()
        total = reader.num()
        reader.u8()
        for _ in range(3):
            reader.num()
        reader.raw(3)
        reader.num()
        reader.u8()
        for _ in range(3):
            reader.num()
        reader.u8()
        for _ in range(3):
            reader.u8()
            reader.num()
        for _ in range(total // _LOCATOR_SIZE):
            self._lobs.pop(reader.raw(_LOCATOR_SIZE), None)

    def _add(self, lob: Lob, *, temporary: bool) -> bytes:
        self._made += 1
        flags = bytes([0, 0, 0, 1 if temporary else 0])
        locator = bytes(4) + flags + self._made.to_bytes(32, "big")
        self._lobs[locator] = lob
        return locator


def _read_operation(reader: Reader) -> _Operation:
    has_source, size = reader.u8(), reader.num()
    reader.u8()
    for _ in range(3):
        reader.num()
    reader.raw(3)
    code = reader.num()
    reader.raw(2)
    source_offset, target_offset = reader.num(), reader.num()
    has_amount = bool(reader.u8())
    reader.raw(6)
    locator = reader.raw(size) if has_source else b""
    return _Operation(code, locator, source_offset, target_offset, has_amount)
