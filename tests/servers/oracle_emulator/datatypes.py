"""Oracle's external data types: codes, describe data, encoding of values."""

from __future__ import annotations

import datetime
import decimal
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VARCHAR, NUMBER, BINARY_INTEGER, LONG, ROWID, DATE = 1, 2, 3, 8, 11, 12
RAW, LONG_RAW, CHAR = 23, 24, 96
BINARY_FLOAT, BINARY_DOUBLE, CURSOR, OBJECT = 100, 101, 102, 109
CLOB, BLOB, BFILE, JSON, VECTOR = 112, 113, 114, 119, 127
TIMESTAMP, TIMESTAMP_TZ, INTERVAL_YM, INTERVAL_DS = 180, 181, 182, 183
UROWID, TIMESTAMP_LTZ, BOOLEAN = 208, 231, 252

DATETIMES = {DATE, TIMESTAMP, TIMESTAMP_TZ, TIMESTAMP_LTZ}
STRINGS = {VARCHAR, CHAR, LONG, ROWID, UROWID}
LOBS = {CLOB, BLOB}

#: Character set forms: the database character set, and the national one.
IMPLICIT, NCHAR = 1, 2
UTF8, UTF16 = 873, 2000

_ISO = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?P<fraction>\.\d+)?)?")
_DURATION_MID, _DURATION_OFFSET = 0x80000000, 60


@dataclass(frozen=True)
class ColumnType:
    """What a describe message says about a column."""

    code: int
    size: int = 22
    precision: int = 0
    scale: int = 0
    csfrm: int = 0

    @property
    def max_chars(self) -> int:
        return self.size // 2 if self.csfrm == NCHAR else self.size


ANY_NUMBER = ColumnType(NUMBER, 22, 0, -127)
ANY_STRING = ColumnType(VARCHAR, 4000, csfrm=IMPLICIT)

_DECLARATION = re.compile(
    r"\s*([A-Z_0-9]+(?: [A-Z]+)*)\s*(?:\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\))?",
    re.IGNORECASE,
)


def _number(first: str | None, second: str | None) -> ColumnType:
    if first is None:
        return ANY_NUMBER
    return ColumnType(NUMBER, 22, int(first), int(second or 0))


def _text(code: int, size: int, csfrm: int) -> Callable[..., ColumnType]:
    width = 2 if csfrm == NCHAR else 1
    return lambda first, _: ColumnType(code, width * int(first or size), csfrm=csfrm)


def _always(
    code: int, size: int, precision: int = 0, scale: int = 0, csfrm: int = 0
) -> Callable[..., ColumnType]:
    return lambda _first, _second: ColumnType(code, size, precision, scale, csfrm)


#: By the name of a declared type: what its numbers in parentheses make of it.
_DECLARED: dict[str, Callable[[str | None, str | None], ColumnType]] = {
    **dict.fromkeys(("NUMBER", "DECIMAL", "NUMERIC"), _number),
    "INTEGER": _always(NUMBER, 22, 19, 0),
    **dict.fromkeys(("INT", "SMALLINT"), _always(NUMBER, 22, 38, 0)),
    **dict.fromkeys(("FLOAT", "REAL"), _always(NUMBER, 22, 126, -127)),
    "DOUBLE PRECISION": _always(NUMBER, 22, 126, -127),
    **dict.fromkeys(("VARCHAR2", "VARCHAR"), _text(VARCHAR, 4000, IMPLICIT)),
    "CHAR": _text(CHAR, 1, IMPLICIT),
    "NVARCHAR2": _text(VARCHAR, 2000, NCHAR),
    "NCHAR": _text(CHAR, 1, NCHAR),
    "RAW": _text(RAW, 2000, 0),
    "DATE": _always(DATE, 7),
    "TIMESTAMP": lambda first, _: ColumnType(TIMESTAMP, 11, scale=int(first or 6)),
    "INTERVAL_DS": _always(INTERVAL_DS, 11, 9, 6),
    "BINARY_DOUBLE": _always(BINARY_DOUBLE, 8),
    "BINARY_FLOAT": _always(BINARY_FLOAT, 4),
    "CLOB": _always(CLOB, 4000, csfrm=IMPLICIT),
    "NCLOB": _always(CLOB, 4000, csfrm=NCHAR),
    "BLOB": _always(BLOB, 4000),
}


def from_declaration(declared: str) -> ColumnType | None:
    """The type for a declared column type, ``None`` if it says nothing."""
    match = _DECLARATION.match(declared or "")
    make = _DECLARED.get(match[1].upper()) if match else None
    return make(match[2], match[3]) if match and make else None


def infer(values: list[Any]) -> ColumnType:
    """The type of an expression, judged by the values it gave."""
    present = [v for v in values if v is not None]
    if not present:
        return ANY_STRING
    if all(isinstance(v, (int, float)) for v in present):
        return ANY_NUMBER
    if any(isinstance(v, bytes) for v in present):
        return ColumnType(RAW, 2000)
    matches = [_ISO.fullmatch(str(v)) for v in present]
    if all(m and len(m[0]) > 10 for m in matches):
        fraction = any(m and m["fraction"] for m in matches)
        return ColumnType(TIMESTAMP, 11, scale=6) if fraction else ColumnType(DATE, 7)
    longest = max(len(str(v).encode()) for v in present)
    return ColumnType(VARCHAR, max(longest, 4000), csfrm=IMPLICIT)


# -- numbers ---------------------------------------------------------------


def encode_number(value: Any) -> bytes:
    """Oracle NUMBER: a base 100 exponent byte and base 100 digits."""
    number = decimal.Decimal(repr(value) if isinstance(value, float) else str(value))
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return b"\x80"
    if exponent % 2:  # digit pairs must meet the decimal point
        text, exponent = text + "0", exponent - 1
    if len(text) % 2:
        text = "0" + text
    pairs = [int(text[i : i + 2]) for i in range(0, len(text), 2)]
    power = len(pairs) + exponent // 2 - 1
    while pairs and not pairs[-1]:
        pairs.pop()
    pairs = pairs[:20]
    if not sign:
        return bytes([0xC1 + power, *(p + 1 for p in pairs)])
    tail = b"\x66" if len(pairs) < 20 else b""
    return bytes([0x3E - power, *(101 - p for p in pairs)]) + tail


def decode_number(data: bytes) -> int | float | str:
    """NUMBER as something sqlite can store (text if it would lose digits)."""
    if data == b"\x80":
        return 0
    if data[0] & 0x80:
        power, pairs, sign = data[0] - 0xC1, [b - 1 for b in data[1:]], ""
    else:
        body = data[1:-1] if data[-1] == 0x66 else data[1:]
        power, pairs, sign = 0x3E - data[0], [101 - b for b in body], "-"
    digits = "".join(f"{p:02}" for p in pairs)
    number = decimal.Decimal(f"{sign}{digits}E{2 * (power + 1 - len(pairs))}")
    if number == number.to_integral_value():
        integer = int(number)
        return integer if -(2**63) <= integer < 2**63 else str(integer)
    return float(number)


# -- dates and intervals -----------------------------------------------------


def parse_datetime(text: str) -> datetime.datetime:
    """Read the way dates are kept in sqlite."""
    return datetime.datetime.fromisoformat(text)


def encode_datetime(value: str, code: int) -> bytes:
    moment = parse_datetime(value)
    out = bytes(
        [
            moment.year // 100 + 100,
            moment.year % 100 + 100,
            moment.month,
            moment.day,
            moment.hour + 1,
            moment.minute + 1,
            moment.second + 1,
        ]
    )
    if code == DATE or (code == TIMESTAMP and not moment.microsecond):
        return out
    out += (moment.microsecond * 1000).to_bytes(4, "big")
    return out + b"\x14\x3c" if code == TIMESTAMP_TZ else out


def decode_datetime(data: bytes) -> str:
    """DATE and TIMESTAMP values become ISO text, with a fraction only if any."""
    year = (data[0] - 100) * 100 + data[1] - 100
    hour, minute, second = (part - 1 for part in data[4:7])
    moment = datetime.datetime.combine(
        datetime.date(year, data[2], data[3]), datetime.time(hour, minute, second)
    )
    if len(data) >= 11:
        nanoseconds = int.from_bytes(data[7:11], "big")
        moment = moment.replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(" ")


def encode_interval(value: str | float) -> bytes:
    """INTERVAL DAY TO SECOND, kept in sqlite as a number of microseconds."""
    micros = int(value)
    sign, micros = (-1, -micros) if micros < 0 else (1, micros)
    seconds, micros = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (
        (sign * days + _DURATION_MID).to_bytes(4, "big")
        + bytes(sign * part + _DURATION_OFFSET for part in (hours, minutes, seconds))
        + (sign * micros * 1000 + _DURATION_MID).to_bytes(4, "big")
    )


def decode_interval(data: bytes) -> int:
    days = int.from_bytes(data[:4], "big") - _DURATION_MID
    hours, minutes, seconds = (b - _DURATION_OFFSET for b in data[4:7])
    nanoseconds = int.from_bytes(data[7:11], "big") - _DURATION_MID
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return total * 1_000_000 + nanoseconds // 1000


# -- binary floating point ---------------------------------------------------


def encode_float(value: float, form: str) -> bytes:
    raw = struct.pack(form, value)
    if raw[0] & 0x80:
        return bytes(~b & 0xFF for b in raw)
    return bytes([raw[0] | 0x80]) + raw[1:]


def decode_float(data: bytes) -> float:
    if data[0] & 0x80:
        data = bytes([data[0] & 0x7F]) + data[1:]
    else:
        data = bytes(~b & 0xFF for b in data)
    return float(struct.unpack(">d" if len(data) == 8 else ">f", data)[0])


# -- any value -----------------------------------------------------------------


_FORMS = {BINARY_DOUBLE: ">d", BINARY_FLOAT: ">f"}


def decode(data: bytes | None, code: int, csfrm: int) -> Any:
    """A bind value as sqlite is to see it.  Empty strings are nulls."""
    if not data:
        return None
    if code in STRINGS:
        return data.decode("utf_16_be" if csfrm == NCHAR else "utf_8")
    if code in DATETIMES:
        return decode_datetime(data)
    decoders: dict[int, Callable[[bytes], Any]] = {
        NUMBER: decode_number,
        BINARY_INTEGER: decode_number,
        INTERVAL_DS: decode_interval,
        BINARY_DOUBLE: decode_float,
        BINARY_FLOAT: decode_float,
        BOOLEAN: lambda data: data[-1],
    }
    return decoders.get(code, bytes)(data)


def encode(value: Any, code: int, csfrm: int) -> bytes | None:
    """A value coming out of sqlite in the wire format of type ``code``."""
    if value is None or value == "":
        return None
    text = value.decode() if isinstance(value, bytes) and code in STRINGS else value
    encoders: dict[int, Callable[[], bytes]] = {
        **dict.fromkeys(
            STRINGS,
            lambda: str(text).encode("utf_16_be" if csfrm == NCHAR else "utf_8"),
        ),
        **dict.fromkeys(DATETIMES, lambda: encode_datetime(str(value), code)),
        NUMBER: lambda: encode_number(value),
        BINARY_INTEGER: lambda: encode_number(value),
        INTERVAL_DS: lambda: encode_interval(value),
        **dict.fromkeys(_FORMS, lambda: encode_float(float(value), _FORMS[code])),
        BOOLEAN: lambda: b"\1\1" if value else b"\0",
    }
    if code in encoders:
        return encoders[code]()
    return value if isinstance(value, bytes) else str(value).encode()
