"""ORA- errors, and how sqlite3's errors are dressed up as them."""

from __future__ import annotations

import re
import sqlite3

MESSAGES = {
    1: "unique constraint ({detail}) violated",
    18: "maximum number of sessions exceeded",
    20: "maximum number of processes exceeded",
    28: "your session has been killed",
    54: "resource busy and acquire with NOWAIT specified or timeout expired",
    900: "invalid SQL statement",
    904: "{detail}: invalid identifier",
    911: "invalid character",
    918: "column ambiguously defined",
    942: "table or view does not exist",
    955: "name is already used by an existing object",
    1001: "invalid cursor",
    1002: "fetch out of sequence",
    1012: "not logged on",
    1013: "user requested cancel of current operation",
    1017: "invalid username/password; logon denied",
    1086: "savepoint '{detail}' never established in this session or is invalid",
    1089: "immediate shutdown or close in progress - no operations are permitted",
    1400: "cannot insert NULL into ({detail})",
    1403: "no data found",
    1722: "invalid number",
    1940: "cannot drop a user that is currently connected",
    2290: "check constraint ({detail}) violated",
    2291: "integrity constraint ({detail}) violated - parent key not found",
    2396: "exceeded maximum idle time, please connect again",
    3001: "unimplemented feature",
    6550: "line 1, column 7:\nPLS-00201: identifier '{detail}' must be declared",
    28000: "The account is locked.",
}


class OracleError(Exception):
    """An error that is sent to the client as ``ORA-nnnnn: message``."""

    def __init__(self, code: int, detail: str = "", message: str = "") -> None:
        text = message or MESSAGES.get(code, detail or "internal emulator error")
        self.code = code
        self.message = f"ORA-{code:05}: {text.format(detail=detail)}"
        super().__init__(self.message)


_RULES: list[tuple[str, int]] = [
    (r"no such table: (?:\w+\.)?(.*)", 942),
    (r"no such index: (.*)", 1418),
    (r"no such column: (.*)", 904),
    (r"no such function: (.*)", 904),
    (r"no such savepoint: (.*)", 1086),
    (r"has no column named (.*)", 904),
    (r"ambiguous column name: (.*)", 918),
    (r"UNIQUE constraint failed: (.*)", 1),
    (r"NOT NULL constraint failed: (.*)", 1400),
    (r"CHECK constraint failed: (.*)", 2290),
    (r"FOREIGN KEY constraint failed()", 2291),
    (r"(?:table|index|view) (.*) already exists", 955),
    (r"there is already (?:a|an) (.*)", 955),
    (r"database (?:table )?is locked()", 54),
    (r"unrecognized token: (.*)", 911),
]


def from_sqlite(exc: sqlite3.Error) -> OracleError:
    """Translate an sqlite3 exception."""
    text = str(exc)
    for pattern, code in _RULES:
        if match := re.search(pattern, text):
            return OracleError(code, match[1].strip().upper().replace(", ", ","))
    # Never 600: the driver takes ORA-00600 for a dead connection.
    return OracleError(900, message=f"invalid SQL statement (sqlite: {text})")
