"""A light translation of Oracle SQL into sqlite's.

The statement is split into tokens (so that strings, comments and quoted names
are safe) and rewritten in one pass.  It covers what Django and a pool's tests
say; it is no SQL parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from tests.servers.oracle_emulator.errors import OracleError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<string>[nN]?'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<bind>:\s*(?:\d+|[A-Za-z][\w$\#]*|"[^"]+"))
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_][\w$\#]*)
  | (?P<op>:=|=>|\|\||<>|!=|<=|>=|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Token:
    """One lexical element; ``upper`` is set for words only."""

    kind: str
    text: str
    spaced: bool = False
    upper: str = ""


def tokenize(sql: str) -> list[Token]:
    tokens: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "space":
            spaced = True
            continue
        upper = text.upper() if kind == "word" else ""
        tokens.append(Token(kind, text, spaced, upper))
        spaced = False
    return tokens


def join(tokens: list[Token]) -> str:
    return "".join((" " if t.spaced else "") + t.text for t in tokens).strip()


def unquote(text: str) -> str:
    """The value of a string literal or of a quoted name."""
    if text[:1] in "nN" and text[1:2] == "'":
        text = text[1:]
    if text[:1] in "'\"":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def bind_name(token: Token) -> str:
    name = token.text[1:].strip()
    return name[1:-1] if name.startswith('"') else name.upper()


@dataclass
class Statement:
    """A statement ready for sqlite, or for the emulator itself."""

    kind: str  # query, dml, ddl, plsql, alter_session, savepoint, ...
    text: str
    sqlite: list[str] = field(default_factory=list)
    describe: str = ""  # the sqlite text with NULL for every bind
    tokens: list[Token] = field(default_factory=list)
    binds: list[str] = field(default_factory=list)  # one name per bind
    return_binds: int = 0  # how many of them are RETURNING ... INTO targets
    for_update: bool = False

    @property
    def in_binds(self) -> int:
        return len(self.binds) - self.return_binds


_KINDS = {
    **dict.fromkeys(("SELECT", "WITH"), "query"),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "MERGE"), "dml"),
    **dict.fromkeys(("BEGIN", "DECLARE", "CALL"), "plsql"),
    **dict.fromkeys(("CREATE", "DROP", "TRUNCATE", "ALTER"), "ddl"),
    **dict.fromkeys(("GRANT", "REVOKE", "COMMENT", "ANALYZE", "AUDIT"), "ddl"),
    **dict.fromkeys(("SAVEPOINT", "COMMIT", "ROLLBACK"), "transaction"),
    **dict.fromkeys(("LOCK", "EXPLAIN"), "noop"),
    "SET": "set",
}
# What comes after CREATE, ALTER or DROP and is no schema object.
_KINDS_OF_DDL = {
    "USER": "user",
    "TABLESPACE": "noop",
    "TEMPORARY": "noop",
    "SESSION": "alter_session",
    "SYSTEM": "alter_system",
}
_NOOP_DDL = {"GRANT", "REVOKE", "COMMENT", "ANALYZE", "AUDIT"}
_NAMES = {
    "LIKEC": "LIKE",
    "LIKE2": "LIKE",
    "LIKE4": "LIKE",
    "MINUS": "EXCEPT",
    "SYSDATE": "EMU_NOW(0)",
    "CURRENT_DATE": "EMU_NOW(0)",
    "SYSTIMESTAMP": "EMU_NOW(6)",
    "SESSIONTIMEZONE": "EMU_TIME_ZONE()",
    "CURRENT_TIMESTAMP": "EMU_NOW(6)",
    "LOCALTIMESTAMP": "EMU_NOW(6)",
}


@lru_cache(maxsize=512)
def parse(sql: str) -> Statement:
    """Classify and translate one statement.  The result is shared: read only."""
    tokens = tokenize(sql)
    while tokens and tokens[0].text == "(":
        tokens = tokens[1:-1]
    if not tokens:
        raise OracleError(900)
    first, second = tokens[0].upper, tokens[1].upper if len(tokens) > 1 else ""
    kind = _KINDS.get(first)
    if kind is None:
        raise OracleError(900)
    if kind == "ddl":
        kind = _KINDS_OF_DDL.get(second, kind)
    statement = Statement(kind, sql, tokens=tokens)
    if kind == "plsql":
        names = (bind_name(t) for t in tokens if t.kind == "bind")
        statement.binds = list(dict.fromkeys(names))
    elif kind in ("query", "dml"):
        out = _Rewriter(tokenize(sql), statement).rewrite()
        statement.sqlite = [join(out)]
        nulls = [Token("op", "NULL", True) if t.text == "?" else t for t in out]
        statement.describe = join(nulls)
    elif kind == "ddl":
        statement.sqlite = [] if first in _NOOP_DDL else _ddl(tokens)
    else:
        statement.binds = [bind_name(t) for t in tokens if t.kind == "bind"]
    return statement


def expression(tokens: list[Token]) -> Statement:
    """A PL/SQL expression as a one row query."""
    holder = Statement("query", join(tokens))
    holder.sqlite = ["SELECT " + join(_Rewriter(tokens, holder).rewrite())]
    return holder


class _Rewriter:
    """One pass over the tokens of a query or of a DML statement."""

    def __init__(self, tokens: list[Token], statement: Statement) -> None:
        self.tokens = tokens
        self.statement = statement
        self.pos = 0
        self.returning = False

    def peek(self, offset: int = 0) -> Token:
        index = self.pos + offset
        if 0 <= index < len(self.tokens):
            return self.tokens[index]
        return Token("end", "")

    def rewrite(self) -> list[Token]:
        out: list[Token] = []
        while (token := self.peek()).kind != "end":
            special = self._SPECIAL.get(token.upper)
            replaced = special(self) if special is not None else None
            if replaced is None:
                replaced = [self._plain(token)]
                self.pos += 1
            out += replaced
        return out

    def _plain(self, token: Token) -> Token:
        """A token that needs no look at what comes after it."""
        if token.kind == "bind":
            self.statement.binds.append(bind_name(token))
            return Token("op", "?", token.spaced)
        if token.kind == "string":
            if not unquote(token.text):
                return Token("word", "NULL", True)  # '' is null
            return Token("string", token.text.lstrip("nN"), token.spaced)
        if token.upper in _NAMES and not self._is_dotted():
            return Token("word", _NAMES[token.upper], token.spaced)
        if token.kind == "word" and ("#" in token.text or "$" in token.text):
            return Token("quoted", f'"{token.upper}"', token.spaced)
        return token

    def _is_dotted(self) -> bool:
        return self.peek(-1).text == "." or self.peek(1).text == "."

    # Each of these is called at its word. It returns None if there is nothing
    # special about it after all; else it has moved on.

    def _into(self) -> list[Token] | None:
        if not self.returning:
            return None
        self._skip_return_binds()
        return []

    def _returns(self) -> list[Token] | None:
        if self.statement.kind != "dml":
            return None
        self.returning = True
        self.pos += 1
        return [Token("word", "RETURNING", True)]

    def _translate(self) -> list[Token] | None:
        return self._using_cs() if self._is_using_cs() else None

    def _offset(self) -> list[Token] | None:
        return self._limit() if self.peek(2).upper in {"ROW", "ROWS"} else None

    def _fetch(self) -> list[Token] | None:
        return self._limit() if self.peek(1).upper in {"FIRST", "NEXT"} else None

    def _for(self) -> list[Token] | None:
        if self.peek(1).upper != "UPDATE":
            return None
        self.statement.for_update = True
        while self.peek().kind != "end" and self.peek().text != ")":
            self.pos += 1
        return []

    def _dbms_lob(self) -> list[Token] | None:
        name = f"EMU_LOB_{self.peek(2).upper}"
        spaced = self.peek().spaced
        self.pos += 3
        return [Token("word", name, spaced)]

    def _sys(self) -> list[Token] | None:
        if self.peek(1).text != ".":
            return None
        self.pos += 2
        return []

    def _user(self) -> list[Token] | None:
        if self._is_dotted() or self.peek(1).text == "(":
            return None
        self.pos += 1
        return [Token("word", "SYS_CONTEXT('USERENV','SESSION_USER')", True)]

    def _moment(self) -> list[Token] | None:
        if self.peek(-1).upper == "AS":  # CAST(x AS DATE)
            self.pos += 1
            return [Token("word", "TEXT", True)]
        if self.peek(1).kind != "string":
            return None
        literal = unquote(self.peek(1).text)
        self.pos += 2
        day_only = len(literal) == len("2000-01-01")
        return [
            Token("string", f"'{literal} 00:00:00'" if day_only else f"'{literal}'")
        ]

    def _interval(self) -> list[Token] | None:
        if self.peek(-1).upper != "AS":
            return None
        while self.peek().upper != "SECOND":  # CAST(x AS INTERVAL DAY(9) TO ...
            self.pos += 1
        self.pos += 4 if self.peek(1).text == "(" else 1
        return [Token("word", "INTEGER", True)]

    _SPECIAL: ClassVar[dict[str, Callable[[_Rewriter], list[Token] | None]]] = {
        "INTO": _into,
        "RETURNING": _returns,
        "RETURN": _returns,
        "TRANSLATE": _translate,
        "OFFSET": _offset,
        "FETCH": _fetch,
        "FOR": _for,
        "DBMS_LOB": _dbms_lob,
        "SYS": _sys,
        "USER": _user,
        "DATE": _moment,
        "TIMESTAMP": _moment,
        "INTERVAL": _interval,
    }

    def _closing(self, start: int) -> int:
        """Index of the parenthesis that closes the one at ``start``."""
        depth = 0
        for index in range(start, len(self.tokens)):
            depth += {"(": 1, ")": -1}.get(self.tokens[index].text, 0)
            if not depth:
                return index
        raise OracleError(907, message="missing right parenthesis")

    def _is_using_cs(self) -> bool:
        if self.peek(1).text != "(":
            return False
        end = self._closing(self.pos + 1)
        return self.tokens[end - 2].upper == "USING"

    def _using_cs(self) -> list[Token]:
        """TRANSLATE(x USING NCHAR_CS) is just x."""
        end = self._closing(self.pos + 1)
        inner = _Rewriter(self.tokens[self.pos + 2 : end - 2], self.statement)
        self.pos = end + 1
        return [Token("op", "(", True), *inner.rewrite(), Token("op", ")")]

    def _limit(self) -> list[Token]:
        """OFFSET n ROWS FETCH FIRST m ROWS ONLY, binds kept in their order."""
        offset = Token("number", "0", True)
        count = Token("number", "-1", True)
        if self.peek().upper == "OFFSET":
            offset = self._amount(self.peek(1))
            self.pos += 3
        if self.peek().upper == "FETCH":
            count = self._amount(self.peek(2))
            while self.peek().upper != "ONLY" and self.peek().kind != "end":
                self.pos += 1
            self.pos += 1
        return [Token("word", "LIMIT", True), offset, Token("op", ","), count]

    def _amount(self, token: Token) -> Token:
        if token.kind == "bind":
            self.statement.binds.append(bind_name(token))
            return Token("op", "?", True)
        return Token("number", token.text, True)

    def _skip_return_binds(self) -> None:
        self.pos += 1
        while self.peek().kind == "bind" or self.peek().text == ",":
            if self.peek().kind == "bind":
                self.statement.binds.append(bind_name(self.peek()))
                self.statement.return_binds += 1
            self.pos += 1


# -- data definition -----------------------------------------------------------

_IDENTITY = re.compile(
    r"NUMBER(\s*\([^)]*\))?\s+GENERATED\s+(ALWAYS|BY\s+DEFAULT)(\s+ON\s+NULL)?"
    r"\s+AS\s+IDENTITY(\s*\([^)]*\))?(\s+NOT\s+NULL)?(?P<pk>\s+PRIMARY\s+KEY)?",
    re.IGNORECASE,
)
_CONSTRAINT = re.compile(
    r"\b(ADD|DROP|ENABLE|DISABLE|MODIFY|RENAME)\s+CONSTRAINT\b", re.IGNORECASE
)
_DDL_RULES = [
    (r"INTERVAL\s+DAY\s*(\(\d+\))?\s+TO\s+SECOND\s*(\(\d+\))?", "INTERVAL_DS"),
    (r"(TIMESTAMP\s*(?:\(\d+\))?)\s+WITH\s+(LOCAL\s+)?TIME\s+ZONE", r"\1"),
    (r"\(\s*(\d+)\s+(?:CHAR|BYTE)\s*\)", r"(\1)"),
    (r"NUMBER\s*\(\s*\*\s*,", "NUMBER(38,"),
    (r"DEFAULT\s+(SYSDATE|SYSTIMESTAMP)", "DEFAULT CURRENT_TIMESTAMP"),
    (r"DEFAULT\s+ON\s+NULL\s+", "DEFAULT "),
    (r"\s+(USING\s+INDEX\s+)?TABLESPACE\s+\S+", ""),
    (r"\s+ON\s+COMMIT\s+(DELETE|PRESERVE)\s+ROWS", ""),
    (r"CREATE\s+(GLOBAL|PRIVATE)\s+TEMPORARY\s+TABLE", "CREATE TEMP TABLE"),
    (r"\s+ON\s+COMMIT\s+(DROP|PRESERVE)\s+DEFINITION", ""),
    (r"CREATE\s+OR\s+REPLACE\s+VIEW", "CREATE VIEW"),
]


def _ddl(tokens: list[Token]) -> list[str]:
    """DDL goes through plain substitutions; literals are set aside first."""
    literals: list[str] = []
    plain: list[Token] = []
    for token in tokens:
        if token.kind == "string":
            place = f"\x00{len(literals)}\x00"
            literals.append(token.text.lstrip("nN"))
            plain.append(Token("string", place, token.spaced))
        else:
            plain.append(token)
    text = join(plain)
    words = [t.upper for t in tokens[:4]]
    if words[0] == "TRUNCATE":
        return [f"DELETE FROM {join(tokens[2:3])}"]
    if words[0] == "CREATE" and words[1] == "SEQUENCE":
        return []
    if words[:2] == ["ALTER", "TABLE"] and _CONSTRAINT.search(text):
        return []  # sqlite cannot add or drop constraints: accept and ignore
    if words[0] == "DROP":
        text = re.sub(
            r"\s+(CASCADE\s+CONSTRAINTS|PURGE)\b", "", text, flags=re.IGNORECASE
        )
    key = "INTEGER PRIMARY KEY AUTOINCREMENT"
    text = _IDENTITY.sub(lambda m: key if m["pk"] else "INTEGER", text)
    for pattern, replacement in _DDL_RULES:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return [re.sub("\x00(\\d+)\x00", lambda m: literals[int(m[1])], text)]


def session_parameters(statement: Statement) -> list[tuple[str, str]]:
    """The name and value pairs of ALTER SESSION SET a = 'x' b = y."""
    tokens = statement.tokens[2:]
    if not tokens or tokens[0].upper != "SET":
        return [(join(tokens).upper(), "")]
    pairs, pos = [], 1
    while pos < len(tokens):
        name = tokens[pos].upper or unquote(tokens[pos].text)
        if pos + 2 >= len(tokens) or tokens[pos + 1].text != "=":
            raise OracleError(2248, message="invalid option for ALTER SESSION")
        value, pos = tokens[pos + 2], pos + 3
        text = unquote(value.text)
        if value.text == "-" and pos < len(tokens):
            text, pos = "-" + tokens[pos].text, pos + 1
        pairs.append((name, text))
    return pairs
