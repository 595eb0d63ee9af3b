"""Just enough PL/SQL: a BEGIN ... END block of calls and assignments.

Known are the packages that change session state, DBMS_SESSION.SLEEP, plain
DML and EXECUTE IMMEDIATE.  A variable of a package (``pkg.name := value``) lives
in the session's package state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.servers.oracle_emulator import sql
from tests.servers.oracle_emulator.errors import OracleError
from tests.servers.oracle_emulator.sql import Token

if TYPE_CHECKING:
    from tests.servers.oracle_emulator.engine import Engine

_CATALOGUE = {"USER_SEQUENCES", "USER_TAB_IDENTITY_COLS"}


def run(engine: Engine, tokens: list[Token], binds: dict[str, Any]) -> dict[str, Any]:
    """Execute a block; gives the binds it assigned."""
    return _Block(engine, binds).run(tokens)


class _Block:
    def __init__(self, engine: Engine, binds: dict[str, Any]) -> None:
        self.engine = engine
        self.binds = dict(binds)
        self.assigned: dict[str, Any] = {}

    def run(self, tokens: list[Token]) -> dict[str, Any]:
        words = [t.upper for t in tokens]
        if _CATALOGUE & set(words):
            return {}  # Django's housekeeping of sequences, which sqlite lacks
        if words[0] == "CALL":
            self._statement(tokens[1:])
            return self.assigned
        start = words.index("BEGIN") + 1
        end = (
            len(words) - 1 - words[::-1].index("END") if "END" in words else len(words)
        )
        for statement in _split(tokens[start:end], ";"):
            if statement:
                self._statement(statement)
        return self.assigned

    def _statement(self, tokens: list[Token]) -> None:
        first = tokens[0].upper
        texts = [t.text for t in tokens]
        if ":=" in texts:
            self._assign(tokens, texts.index(":="))
        elif first in ("INSERT", "UPDATE", "DELETE", "SAVEPOINT", "COMMIT", "ROLLBACK"):
            self._sql(sql.join(tokens))
        elif first == "EXECUTE":
            self._sql(str(self._value(tokens[2:])))
        elif first != "NULL":
            self._call(tokens)

    def _sql(self, text: str) -> None:
        statement = sql.parse(text)
        self.engine.execute(statement, [[self.binds.get(n) for n in statement.binds]])

    def _assign(self, tokens: list[Token], at: int) -> None:
        value = self._value(tokens[at + 1 :])
        if tokens[0].kind == "bind":
            name = sql.bind_name(tokens[0])
            self.binds[name] = self.assigned[name] = value
        else:
            self.engine.state.package[sql.join(tokens[:at]).upper()] = value

    def _call(self, tokens: list[Token]) -> Any:
        name, arguments = _name_and_arguments(tokens)
        values = [self._value(a) for a in arguments]
        if name == "RAISE_APPLICATION_ERROR":
            raise OracleError(-int(values[0]), message=str(values[1]))
        if name in _PROCEDURES:
            return _PROCEDURES[name](self.engine, *values)
        raise OracleError(6550, name)

    def _value(self, tokens: list[Token]) -> Any:
        if len(tokens) > 2 and tokens[1].text == "=>":
            tokens = tokens[2:]
        name, _ = _name_and_arguments(tokens)
        if name in self.engine.state.package:
            return self.engine.state.package[name]
        tokens = self._with_variables(tokens)
        try:
            return self.engine.evaluate(sql.expression(tokens), self.binds)
        except sqlite3.Error:
            if name and name == sql.join(tokens).upper():
                return name  # a constant such as DBMS_SESSION.REINITIALIZE
            raise

    def _with_variables(self, tokens: list[Token]) -> list[Token]:
        """Turn the package variables in an expression into binds."""
        out: list[Token] = []
        at = 0
        while at < len(tokens):
            name = "".join(t.text for t in tokens[at : at + 3]).upper()
            if name in self.engine.state.package:
                bind = f"EMU_{len(out)}"
                self.binds[bind] = self.engine.state.package[name]
                out.append(Token("bind", f":{bind}", True))
                at += 3
            else:
                out.append(tokens[at])
                at += 1
        return out


def _split(tokens: list[Token], separator: str) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == separator and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _name_and_arguments(tokens: list[Token]) -> tuple[str, list[list[Token]]]:
    """Split ``pkg.name(a, b)``; the name is empty if it is something else."""
    at = 0
    while at < len(tokens) and (
        tokens[at].kind in ("word", "quoted") or tokens[at].text == "."
    ):
        at += 1
    name = "".join(sql.unquote(t.text) for t in tokens[:at]).upper()
    rest = tokens[at:]
    if not rest:
        return name, []
    if rest[0].text != "(" or rest[-1].text != ")":
        return "", []
    return name, [a for a in _split(rest[1:-1], ",") if a]


# -- supplied packages ------------------------------------------------------------


def _reset_package(engine: Engine, *_: Any) -> None:
    engine.state.package.clear()


def _attribute(*names: str) -> Callable[..., None]:
    def procedure(engine: Engine, *values: Any) -> None:
        for name, value in zip(names, values, strict=False):
            engine.state.attributes[name] = "" if value is None else str(value)

    return procedure


def _set_context(
    engine: Engine, namespace: str, name: str, value: Any, *_: Any
) -> None:
    engine.state.contexts[namespace.upper(), name.upper()] = str(value)


def _clear_context(engine: Engine, namespace: str, *rest: Any) -> None:
    names = [str(r).upper() for r in rest[-1:] if r is not None]
    for key in list(engine.state.contexts):
        if key[0] == namespace.upper() and (not names or key[1] in names):
            del engine.state.contexts[key]


def _set_role(engine: Engine, roles: str) -> None:
    engine.execute(sql.parse(f"SET ROLE {roles}"), [])


def _set_nls(engine: Engine, name: str, value: str) -> None:
    engine.execute(sql.parse(f"ALTER SESSION SET {name} = {value}"), [])


def _sleep(engine: Engine, seconds: Any) -> None:
    engine.session.wait(float(seconds))


def _nothing(engine: Engine, *_: Any) -> None:
    del engine


_PROCEDURES: dict[str, Callable[..., Any]] = {
    "DBMS_SESSION.RESET_PACKAGE": _reset_package,
    "DBMS_SESSION.MODIFY_PACKAGE_STATE": _reset_package,
    "DBMS_SESSION.SET_IDENTIFIER": _attribute("CLIENT_IDENTIFIER"),
    "DBMS_SESSION.CLEAR_IDENTIFIER": lambda e: _attribute("CLIENT_IDENTIFIER")(e, ""),
    "DBMS_SESSION.SET_CONTEXT": _set_context,
    "DBMS_SESSION.CLEAR_CONTEXT": _clear_context,
    "DBMS_SESSION.CLEAR_ALL_CONTEXT": _clear_context,
    "DBMS_SESSION.SET_ROLE": _set_role,
    "DBMS_SESSION.SET_NLS": _set_nls,
    "DBMS_SESSION.SLEEP": _sleep,
    "DBMS_LOCK.SLEEP": _sleep,
    "DBMS_APPLICATION_INFO.SET_MODULE": _attribute("MODULE", "ACTION"),
    "DBMS_APPLICATION_INFO.SET_ACTION": _attribute("ACTION"),
    "DBMS_APPLICATION_INFO.SET_CLIENT_INFO": _attribute("CLIENT_INFO"),
    "DBMS_OUTPUT.ENABLE": _nothing,
    "DBMS_OUTPUT.DISABLE": _nothing,
}
