"""TTC messages: how requests are read and answers are laid out.

Functions here know bytes, not behaviour.  ``Dialect`` holds what depends on
the database version that is being played.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.servers.oracle_emulator import datatypes
from tests.servers.oracle_emulator.datatypes import (
    BOOLEAN,
    CURSOR,
    JSON,
    LOBS,
    LONG,
    LONG_RAW,
    NCHAR,
    OBJECT,
    VECTOR,
)
from tests.servers.oracle_emulator.engine import Column
from tests.servers.oracle_emulator.wire import ProtocolError, Reader, Writer

# Message types.
PROTOCOL, DATA_TYPES, FUNCTION, ERROR = 1, 2, 3, 4
ROW_HEADER, ROW_DATA, PARAMETER, STATUS, IO_VECTOR = 6, 7, 8, 9, 11
LOB_DATA, DESCRIBE, PIGGYBACK, FLUSH_OUT_BINDS, ONEWAY = 14, 16, 17, 19, 26
END_OF_RESPONSE, FAST_AUTH = 29, 34

#: Function codes, by the names under which they are counted.
FUNCTIONS = {
    4: "REEXECUTE",
    5: "FETCH",
    9: "LOGOFF",
    14: "COMMIT",
    15: "ROLLBACK",
    78: "REEXECUTE_AND_FETCH",
    94: "EXECUTE",
    96: "LOB_OP",
    105: "CLOSE_CURSORS",
    115: "AUTH_PHASE_TWO",
    118: "AUTH_PHASE_ONE",
    135: "SET_END_TO_END",
    147: "PING",
    152: "SET_SCHEMA",
    154: "SET_KEY_VALUE",
    176: "SESSION_STATE",
}

# Execute options, and the one of a re-execute.
PARSE, DEFINE, EXECUTE, FETCH, COMMIT = 0x01, 0x10, 0x20, 0x40, 0x100
COMMIT_REEXECUTE = 0x1
# Call status flags.
TRANSACTION_IN_PROGRESS = 0x2
# Bind directions in an I/O vector.
OUT, IN, IN_OUT = 16, 32, 48

NO_DATA_FOUND = 1403
CHUNK_SIZE = 8060
MAX_STRING = 32767

# Positions in the capability arrays, and the bits used there.
_FIELD_VERSION, _TTC4, _RUNTIME_TTC = 7, 40, 6
_EXPLICIT_BOUNDARY, _HAS_END_OF_RESPONSE = 0x40, 0x20
_STRINGS_32K, _SESSION_STATE_OPS = 0x04, 0x10
_ACCEPT_FAST_AUTH, _ACCEPT_END_OF_RESPONSE = 0x10000000, 0x02000000


@dataclass(frozen=True)
class Dialect:
    """The database version that is played, as far as the wire shows it."""

    version: tuple[int, int, int, int, int] = (19, 22, 0, 0, 0)
    protocol: int = 315  # TNS version in ACCEPT; 315 is the least the driver takes
    field_version: int = 12
    fast_auth: bool = False
    end_of_response: bool = False
    request_boundaries: bool = False

    @property
    def version_number(self) -> int:
        a, b, c, d, e = self.version
        return a << 24 | b << 16 | c << 12 | d << 4 | e


#: The simplest conversation the driver accepts.
ORACLE_19 = Dialect()
#: As 19, but pools are told to mark where a request begins and ends.
ORACLE_19_BOUNDARIES = Dialect(request_boundaries=True)
#: One round trip for protocol, data types and first logon message; responses
#: with an end marker; call tokens; booleans.
ORACLE_23 = Dialect((23, 6, 0, 24, 10), 319, 24, True, True, True)


# -- connecting -------------------------------------------------------------------


def accept(dialect: Dialect, sdu: int) -> bytes:
    """Body of the ACCEPT packet."""
    out = Writer().u16be(dialect.protocol).u16be(0)  # no options: no out of band breaks
    out.u16be(min(sdu, 0xFFFF)).u16be(min(sdu, 0xFFFF)).raw(b"\0\1" + bytes(4))
    out.u8(0).raw(bytes(9)).u32be(sdu)
    if dialect.protocol >= 318:
        flags = _ACCEPT_FAST_AUTH if dialect.fast_auth else 0
        flags |= _ACCEPT_END_OF_RESPONSE if dialect.end_of_response else 0
        out.raw(bytes(5)).u32be(flags)
    return bytes(out.data)


def refuse(code: int) -> bytes:
    """Body of the REFUSE packet."""
    stack = f"(ERROR_STACK=(ERROR=(CODE={code})))"
    text = f"(DESCRIPTION=(ERR={code})(VSNNUM=318767104){stack})"
    return bytes(Writer().u8(4, 0).u16be(len(text)).raw(text.encode()).data)


def protocol(out: Writer, dialect: Dialect) -> None:
    """Answer to the protocol message: character sets and capabilities."""
    compile_caps = bytearray(56)
    compile_caps[_FIELD_VERSION] = dialect.field_version
    runtime_caps = bytearray(13)
    runtime_caps[_RUNTIME_TTC] = _STRINGS_32K
    if dialect.request_boundaries:
        compile_caps[_TTC4] |= _EXPLICIT_BOUNDARY
        runtime_caps[_RUNTIME_TTC] |= _SESSION_STATE_OPS
    if dialect.end_of_response:
        compile_caps[_TTC4] |= _HAS_END_OF_RESPONSE
    out.u8(PROTOCOL, 6, 0).raw(b"oracle_emulator\0")
    out.u16le(datatypes.UTF8).u8(1).u16le(0)
    # Eleven bytes of which only the last two, the national character set, count.
    out.u16be(11).raw(bytes(9)).u16be(datatypes.UTF16)
    out.octets(bytes(compile_caps)).octets(bytes(runtime_caps))


def read_protocol(reader: Reader) -> str:
    """The driver's name."""
    reader.u8()
    reader.u8()
    return reader.zero_terminated().decode()


def read_data_types(reader: Reader) -> None:
    reader.raw(5)
    reader.octets()
    reader.octets()
    while reader.u16be():
        reader.raw(6)


def data_types(out: Writer) -> None:
    out.u8(DATA_TYPES).u16be(0)


def read_auth(reader: Reader) -> tuple[str, int, dict[str, str]]:
    """User, mode and key/value pairs of either logon message."""
    has_user = reader.u8()
    reader.num()
    mode = reader.num()
    reader.u8()
    count = reader.num()
    reader.raw(2)
    user = (reader.octets() or b"").decode() if has_user else ""
    pairs = {}
    for _ in range(count):
        key, value = reader.text(), reader.text()
        reader.num()
        pairs[key] = value
    return user, mode, pairs


def parameters(out: Writer, pairs: list[tuple[str, str, int]]) -> None:
    """The PARAMETER message that answers a logon message."""
    out.u8(PARAMETER).num(len(pairs))
    for key, value, flags in pairs:
        out.text(key).text(value).num(flags)


# -- requests -----------------------------------------------------------------------


@dataclass
class BindType:
    """Type of a bind variable, or of a defined column."""

    code: int
    size: int
    csfrm: int
    is_array: bool = False


@dataclass
class ExecuteRequest:
    options: int
    cursor_id: int
    sql: str | None
    rows_wanted: int
    bind_count: int
    define_count: int
    iterations: int
    is_query: bool
    types: list[BindType] = field(default_factory=list)


def read_execute(reader: Reader, dialect: Dialect) -> ExecuteRequest:
    """Everything of an execute up to the bind values."""
    options, cursor_id = reader.num(), reader.num()
    has_sql = reader.u8()
    reader.num()
    reader.u8()
    integers = reader.num()
    reader.raw(2)
    reader.num()
    rows_wanted = reader.num()
    reader.num()
    reader.u8()
    bind_count = reader.num()
    reader.raw(5)
    reader.u8()
    define_count = reader.num()
    reader.num()
    reader.raw(3)
    reader.num()
    reader.u8()
    reader.num()
    reader.num()
    reader.u8()
    reader.num()
    reader.u8()
    if dialect.field_version >= 8:
        reader.u8()
        reader.num()
        reader.u8()
        reader.num()
        reader.u8()
    if dialect.field_version >= 9:
        reader.u8()
        reader.num()
    text = (reader.octets() or b"").decode() if has_sql else None
    numbers = [reader.num() for _ in range(integers)]
    is_query = bool(numbers[7])
    request = ExecuteRequest(
        options,
        cursor_id,
        text,
        rows_wanted,
        bind_count,
        define_count,
        1 if is_query else max(numbers[1], 1),
        is_query,
    )
    count = define_count if options & DEFINE else bind_count
    request.types = [_read_type(reader, dialect) for _ in range(count)]
    return request


def _read_type(reader: Reader, dialect: Dialect) -> BindType:
    code, flags = reader.u8(), reader.u8()
    reader.raw(2)
    size = reader.num()
    reader.num()
    reader.num()
    reader.sized_bytes()
    reader.num()
    reader.num()
    csfrm = reader.u8()
    reader.num()
    if dialect.field_version >= 8:
        reader.num()
    return BindType(code, size, csfrm, bool(flags & 0x40))


@dataclass(frozen=True)
class Locator:
    """A LOB that is bound; the session knows its content."""

    data: bytes


def read_bind_row(reader: Reader, types: list[BindType], plsql: bool) -> list[Any]:
    """One ROW_DATA message.  Values too long for a VARCHAR come last."""
    if reader.u8() != ROW_DATA:
        raise ProtocolError("bind values expected")
    values: list[Any] = [None] * len(types)
    late = [i for i, t in enumerate(types) if t.size > MAX_STRING and not plsql]
    early = [i for i in range(len(types)) if i not in late]
    for index in early + late:
        bind = types[index]
        if bind.is_array:
            values[index] = [_read_value(reader, bind) for _ in range(reader.num())]
        else:
            values[index] = _read_value(reader, bind)
    return values


def _read_value(reader: Reader, bind: BindType) -> Any:
    if bind.code in (OBJECT, JSON, VECTOR, CURSOR):
        raise ProtocolError(f"binds of type {bind.code} are not supported")
    if bind.code in LOBS:
        locator = reader.sized_bytes()
        return None if locator is None else Locator(locator)
    if bind.code == BOOLEAN:
        size = reader.u8()
        if size == 0xFD:
            reader.u8()
            return None
        return reader.raw(size)[0]
    return datatypes.decode(reader.octets(), bind.code, bind.csfrm)


def read_end_to_end(reader: Reader) -> dict[str, str]:
    """The attributes that a piggyback changes (MODULE, ACTION, ...)."""
    reader.raw(2)
    reader.num()
    changed = {}
    header: list[tuple[str, int]] = []

    def pointer(name: str) -> None:
        is_set, size = reader.u8(), reader.num()
        if is_set and name:
            header.append((name, size))

    for name in ("CLIENT_IDENTIFIER", "MODULE", "ACTION", ""):
        pointer(name)
    reader.u8()
    reader.num()
    for name in ("CLIENT_INFO", "", "", "DBOP"):
        pointer(name)
    for name, size in header:
        changed[name] = (reader.octets() or b"").decode() if size else ""
    return changed


def read_key_values(reader: Reader) -> tuple[str, dict[str, str]]:
    """Application context piggyback: a namespace and its entries."""
    reader.u8()
    reader.num()
    reader.u8()
    count = reader.num()
    reader.num()
    reader.u8()
    namespace = (reader.octets() or b"").decode()
    entries = {}
    for _ in range(count):
        key, value = reader.text(), reader.text()
        reader.num()
        entries[key] = value
    return namespace, entries


# -- answers ------------------------------------------------------------------------


def status(out: Writer, call_status: int) -> None:
    out.u8(STATUS).num(call_status, 0)


def error(
    out: Writer,
    dialect: Dialect,
    *,
    call_status: int = 0,
    code: int = 0,
    message: str = "",
    cursor_id: int = 0,
    rowcount: int = 0,
    rowid: int = 0,
) -> None:
    """The message that ends every execute; ``code`` is zero for success."""
    out.u8(ERROR).num(call_status, 0, 0, min(code, 0xFFFF), 0, 0, cursor_id, 0)
    out.u8(0, 0, 0, 0, 0, 0)
    out.num(1 if rowid else 0, 0).u8(0).num(rowid >> 16, rowid & 0xFFFF)
    out.num(0).u8(0, 0).num(0, 0)
    out.num(0)  # logical rowid
    out.num(0, 0, 0)  # batch error codes, offsets, messages
    out.num(code, rowcount)
    if dialect.field_version >= 14:
        out.num(0, 0)
    if code:
        out.octets(message.encode())


def describe(out: Writer, dialect: Dialect, columns: list[Column]) -> None:
    out.u8(DESCRIBE).octets(b"").num(0, len(columns))
    if columns:
        out.u8(0)
    for position, column in enumerate(columns, 1):
        _describe_column(out, dialect, column, position)
    out.num(0, 0, 0, 0, 0, 0)  # date, four numbers and a key nobody reads


def _describe_column(
    out: Writer, dialect: Dialect, column: Column, position: int
) -> None:
    kind = column.type
    out.u8(kind.code, 0).s8(kind.precision).s8(kind.scale)
    out.num(kind.size, 0, 0, 0, 0)
    charset = {0: 0, NCHAR: datatypes.UTF16}.get(kind.csfrm, datatypes.UTF8)
    out.num(charset).u8(kind.csfrm)
    out.num(kind.max_chars if kind.csfrm else 0)
    if dialect.field_version >= 8:
        out.num(0)
    out.u8(1, 0).text(column.name).text("").text("")
    out.num(position, 0)
    if dialect.field_version >= 17:
        out.text("").text("")  # domain
    if dialect.field_version >= 20:
        out.num(0)  # annotations
    if dialect.field_version >= 24:
        out.num(0).u8(0, 0)  # vector dimensions, format, flags


def row_header(out: Writer, rows: int) -> None:
    out.u8(ROW_HEADER, 0).num(1, 0, rows, 0, 0, 0)


def long_value(out: Writer, data: bytes | None) -> None:
    """A LOB that was defined as LONG or LONG RAW."""
    out.octets(data).num(0, 0)


def lob_value(out: Writer, locator: bytes | None, size: int) -> None:
    if locator is None:
        out.num(0)
    else:
        out.num(len(locator), size, CHUNK_SIZE).octets(locator)


def out_value(out: Writer, value: Any, bind: BindType) -> None:
    """A bind value that goes back to the client."""
    out.octets(datatypes.encode(value, bind.code, bind.csfrm)).num(0)


def io_vector(out: Writer, directions: list[int]) -> None:
    out.u8(IO_VECTOR, 0).num(len(directions), 0, 0, 0, 0, 0).u8(*directions)


def is_long(code: int) -> bool:
    return code in (LONG, LONG_RAW)
