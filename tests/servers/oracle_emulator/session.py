"""One client connection: the conversation from CONNECT to the end."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.servers.oracle_emulator import datatypes, sql, ttc, wire
from tests.servers.oracle_emulator.auth import Challenge
from tests.servers.oracle_emulator.engine import Column, Engine, Result, SessionState
from tests.servers.oracle_emulator.errors import OracleError
from tests.servers.oracle_emulator.lobs import Lobs
from tests.servers.oracle_emulator.ttc import BindType, Locator
from tests.servers.oracle_emulator.wire import (
    CallInterrupted,
    ConnectionLost,
    PacketSocket,
    ProtocolError,
    Reader,
    Writer,
)

if TYPE_CHECKING:
    from tests.servers.oracle_emulator.server import OracleEmulator


@dataclass
class Cursor:
    """A parsed statement the client can refer to by number."""

    id: int
    statement: sql.Statement
    binds: list[BindType] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    defines: list[BindType] = field(default_factory=list)
    directions: list[int] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    fetched: int = 0

    def value_types(self) -> list[BindType]:
        """Types of the binds that a re-execute sends a value for."""
        if self.directions:
            pairs = zip(self.binds, self.directions, strict=True)
            return [bind for bind, way in pairs if way != ttc.OUT]
        return self.binds[: len(self.binds) - self.statement.return_binds]


class Session:
    """A server process of the database, run by a thread of its own."""

    def __init__(self, server: OracleEmulator, sock: socket.socket, sid: int) -> None:
        self.server = server
        self.dialect = server.dialect
        self.sid = sid
        self.serial = sid * 7 % 60000 + 1
        self.user = ""
        self.service = ""
        self.client: dict[str, str] = {}  # what the client says of itself at logon
        self.engine: Engine | None = None
        self.doom: OracleError | None = None
        self._told = False  # of its doom, after which it ends
        self._tokens = server.dialect.field_version >= 18
        self._packets = PacketSocket(sock)
        self._challenge: Challenge | None = None
        self._cursors: dict[int, Cursor] = {}
        self._last_cursor = 0
        self._lobs = Lobs()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<Session sid={self.sid} user={self.user!r}>"

    # -- life ----------------------------------------------------------------------

    def run(self) -> None:
        """Thread body: serve requests until the connection ends."""
        try:
            if self._connect():
                while True:
                    self._serve_packet()
        except ConnectionLost:
            pass
        except ProtocolError as exc:
            self.server.protocol_errors.append(f"sid {self.sid}: {exc}")
        finally:
            self._close()

    def _close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        # In this order: whoever sees the end finds the session gone.
        self.server.session_ended(self)
        self._packets.sock.close()
        self._closed.set()

    def disconnect(self) -> None:
        """Cut the connection, from any thread; it is over when this returns."""
        self.server.session_ended(self)  # first, for the same reason
        with contextlib.suppress(OSError):  # it has ended by itself
            self._packets.sock.shutdown(socket.SHUT_RDWR)
        self._closed.wait(5)

    def notify(self, code: int) -> None:
        """Send an in-band notification, as before planned maintenance."""
        body = Writer().u16be(8).u32be(0).u32be(code)
        self._packets.write(wire.CONTROL, bytes(body.data))

    def wait(self, seconds: float) -> None:
        """Sleep, but notice a break from the client or the end of it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._packets.readable(left):
                if self._packets.read().type == wire.MARKER:
                    raise CallInterrupted
                raise ProtocolError("a request arrived before the last was answered")

    # -- packets ---------------------------------------------------------------------

    def _connect(self) -> bool:
        packet = self._packets.read()
        if packet.type != wire.CONNECT:
            raise ProtocolError(f"packet type {packet.type} instead of CONNECT")
        length = int.from_bytes(packet.body[16:18], "big")
        offset = int.from_bytes(packet.body[18:20], "big") - 8
        sdu = int.from_bytes(packet.body[6:8], "big")
        data = packet.body[offset : offset + length]
        if len(data) < length:  # too long for the packet: a DATA packet follows
            data = self._packets.read().body[2 : 2 + length]
        match = re.search(
            r"\((?:SERVICE_NAME|SID)=([^)]*)\)", data.decode(), re.IGNORECASE
        )
        self.service = match[1] if match else ""
        self.server.count_message("CONNECT")
        if self.service.upper() not in self.server.services:
            code = 12505 if b"(SID=" in data.upper() else 12514
            self._packets.write(wire.REFUSE, ttc.refuse(code))
            return False
        self._packets.write(wire.ACCEPT, ttc.accept(self.dialect, sdu))
        self._packets.large_lengths = True
        self._packets.sdu = sdu
        return True

    def _serve_packet(self) -> None:
        packet = self._packets.read()
        if packet.type == wire.MARKER:
            self._marker(packet.body[2])
        elif packet.type != wire.DATA:
            raise ProtocolError(f"packet type {packet.type}")
        elif int.from_bytes(packet.body[:2], "big") & wire.DATA_EOF:
            raise ConnectionLost("client said goodbye")
        else:
            try:
                self._request(Reader(packet.body[2:], self._more))
            except CallInterrupted:
                self._marker(wire.MARKER_BREAK)

    def _more(self) -> bytes:
        packet = self._packets.read()
        if packet.type == wire.MARKER:
            raise CallInterrupted
        return packet.body[2:]

    def _marker(self, kind: int) -> None:
        """Break: tell the client to reset.  Reset: agree, then say what failed."""
        if kind != wire.MARKER_RESET:
            self._packets.write_marker(wire.MARKER_BREAK)
            return
        self._packets.write_marker(wire.MARKER_RESET)
        out = Writer()
        self._error(out, OracleError(1013))
        self._send(out, self.dialect.end_of_response)

    def _send(self, out: Writer, marked: bool) -> None:
        """Send an answer, with its end marked if that was agreed on."""
        if marked:
            out.u8(ttc.END_OF_RESPONSE)
        self._packets.write_data(bytes(out.data), marked)

    # -- requests --------------------------------------------------------------------

    def _request(self, reader: Reader) -> None:
        out = Writer()
        while (kind := reader.u8()) == ttc.PIGGYBACK:
            self._piggyback(reader)
        if kind == ttc.PROTOCOL:
            self.server.count_message("PROTOCOL")
            self.client["DRIVER"] = ttc.read_protocol(reader)
            ttc.protocol(out, self.dialect)
        elif kind == ttc.DATA_TYPES:
            self.server.count_message("DATA_TYPES")
            ttc.read_data_types(reader)
            ttc.data_types(out)
        elif kind == ttc.FAST_AUTH:
            self.server.count_message("FAST_AUTH")
            self._fast_auth(reader, out)
        elif kind == ttc.FUNCTION:
            code = self._function_code(reader)
            name = ttc.FUNCTIONS.get(code, f"FUNCTION_{code}")
            self.server.count_message(name)
            self._function(name, reader, out)
        elif kind == ttc.ONEWAY:
            self.server.count_message(
                ttc.FUNCTIONS.get(self._function_code(reader), "ONEWAY")
            )
            return
        else:
            raise ProtocolError(f"message type {kind}")
        marked = kind in (ttc.FUNCTION, ttc.FAST_AUTH)
        self._send(out, marked and self.dialect.end_of_response)
        if self._told:
            raise ConnectionLost("the session was killed")

    def _function_code(self, reader: Reader) -> int:
        code = reader.u8()
        reader.u8()  # sequence number
        if self._tokens:
            reader.num()
        return code

    def _status(self) -> int:
        if self.engine is not None and self.engine.in_transaction:
            return ttc.TRANSACTION_IN_PROGRESS
        return 0

    def _error(
        self, out: Writer, error: OracleError | None = None, **fields: Any
    ) -> None:
        if error is not None:
            fields |= {"code": error.code, "message": error.message}
        ttc.error(out, self.dialect, call_status=self._status(), **fields)

    def _function(self, name: str, reader: Reader, out: Writer) -> None:
        """Run a function; an error replaces whatever was being answered."""
        start = len(out.data)
        try:
            if self.doom is not None:
                self._told = True
                raise self.doom
            if name == "AUTH_PHASE_ONE":
                self._auth_phase_one(reader, out)
            elif name == "AUTH_PHASE_TWO":
                self._auth_phase_two(reader, out)
            elif self.engine is None:
                raise OracleError(1012)
            else:
                self._database_function(name, reader, out, self.engine)
        except OracleError as exc:
            del out.data[start:]
            self._error(out, exc)

    def _database_function(
        self, name: str, reader: Reader, out: Writer, engine: Engine
    ) -> None:
        match name:
            case "EXECUTE":
                self._execute(reader, out, engine)
                return
            case "REEXECUTE" | "REEXECUTE_AND_FETCH":
                self._reexecute(name, reader, out, engine)
                return
            case "FETCH":
                cursor = self._cursor(reader.num())
                self._fetch(cursor, reader.num(), out)
                return
            case "LOB_OP":
                self._lobs.operate(reader, out)
            case "COMMIT":
                engine.commit()
            case "ROLLBACK":
                engine.rollback()
            case "LOGOFF":
                # Before the answer: whoever has that finds the session ended.
                engine.close()
                self.engine = None
            case "PING":
                pass
            case _:
                raise OracleError(3001)
        ttc.status(out, self._status())

    # -- logon -----------------------------------------------------------------------

    def _fast_auth(self, reader: Reader, out: Writer) -> None:
        """Protocol, data types and the first logon message in one request."""
        reader.raw(3)
        reader.u8()
        self.client["DRIVER"] = ttc.read_protocol(reader)
        reader.raw(6)
        reader.u8()
        ttc.read_data_types(reader)
        ttc.protocol(out, self.dialect)
        ttc.data_types(out)
        if reader.u8() != ttc.FUNCTION:
            raise ProtocolError("no logon in fast authentication")
        tokens, self._tokens = self._tokens, False  # not in a message of version 13
        name = ttc.FUNCTIONS[self._function_code(reader)]
        self._tokens = tokens
        self._function(name, reader, out)

    def _auth_phase_one(self, reader: Reader, out: Writer) -> None:
        user, _, pairs = ttc.read_auth(reader)
        self.client |= pairs
        password = self.server.users.get(user.upper(), "\0no such user")
        self._challenge = Challenge(password)
        ttc.parameters(out, self._challenge.parameters())
        ttc.status(out, 0)

    def _auth_phase_two(self, reader: Reader, out: Writer) -> None:
        user, _, pairs = ttc.read_auth(reader)
        if self._challenge is None or not self._challenge.verify(pairs):
            self.server.logon_failed()
            raise OracleError(1017)
        if error := self.server.logon_error(user.upper()):
            self.server.logon_failed()
            raise error
        self.client |= pairs
        self.user = user.upper()
        self.engine = Engine(self.server.store, self)
        if text := pairs.get("AUTH_ALTER_SESSION"):
            self.engine.execute(sql.parse(text.rstrip("\0")), [])
        self.server.logged_on()
        facts = {
            "AUTH_SVR_RESPONSE": self._challenge.proof(),
            "AUTH_VERSION_NO": str(self.dialect.version_number),
            "AUTH_SESSION_ID": str(self.sid),
            "AUTH_SERIAL_NUM": str(self.serial),
            "AUTH_MAX_OPEN_CURSORS": "300",
            "AUTH_MAX_IDEN_LENGTH": "128",
            "AUTH_INSTANCENAME": "emulator",
            "AUTH_SC_SERVICE_NAME": self.service,
            "AUTH_SC_DBUNIQUE_NAME": self.service,
            "AUTH_SC_REAL_DBUNIQUE_NAME": self.service,
        }
        ttc.parameters(out, [(key, value, 0) for key, value in facts.items()])
        ttc.status(out, 0)

    # -- piggybacks ------------------------------------------------------------------

    def _piggyback(self, reader: Reader) -> None:
        code = self._function_code(reader)
        name = ttc.FUNCTIONS.get(code, f"FUNCTION_{code}")
        self.server.count_piggyback(name)
        if self.engine is None:
            raise ProtocolError("piggyback before logon")
        match name:
            case "CLOSE_CURSORS":
                reader.u8()
                for _ in range(reader.num()):
                    self._cursors.pop(reader.num(), None)
            case "SESSION_STATE":
                reader.num()
            case "LOB_OP":
                self._lobs.free(reader)
            case _:
                self._change(name, reader, self.engine.state)

    @staticmethod
    def _change(name: str, reader: Reader, state: SessionState) -> None:
        """What the client sets on its connection, and says with the next request."""
        match name:
            case "SET_SCHEMA":
                reader.u8()
                state.current_schema = reader.text()
            case "SET_END_TO_END":
                state.attributes |= ttc.read_end_to_end(reader)
            case "SET_KEY_VALUE":
                namespace, entries = ttc.read_key_values(reader)
                for key, value in entries.items():
                    state.contexts[namespace.upper(), key.upper()] = value
            case _:
                raise ProtocolError(f"piggyback {name}")

    # -- statements ------------------------------------------------------------------

    def _cursor(self, cursor_id: int) -> Cursor:
        try:
            return self._cursors[cursor_id]
        except KeyError:
            raise OracleError(1001) from None

    def _new_cursor(self, statement: sql.Statement, cursor_id: int) -> Cursor:
        if not cursor_id:
            self._last_cursor += 1
            cursor_id = self._last_cursor
        return Cursor(cursor_id, statement)

    def _execute(self, reader: Reader, out: Writer, engine: Engine) -> None:
        request = ttc.read_execute(reader, self.dialect)
        if request.options & ttc.DEFINE:
            cursor = self._cursor(request.cursor_id)
            cursor.defines = request.types
            self._error(out, cursor_id=cursor.id)
            return
        if request.sql is None:
            cursor = self._cursor(request.cursor_id)
        else:
            self._hear(request.sql)
            cursor = self._new_cursor(sql.parse(request.sql), request.cursor_id)
        statement = cursor.statement
        parsed = request.sql is not None
        rows: list[list[Any]] = []
        if request.types:
            cursor.binds = request.types
            count = len(request.types) - statement.return_binds
            plsql = statement.kind == "plsql"
            if count:
                rows = [
                    self._bind_row(reader, request.types[:count], plsql)
                    for _ in range(request.iterations)
                ]
        if request.options & ttc.EXECUTE:
            result = self._run(engine, cursor, rows, request.options & ttc.COMMIT)
            wanted = request.rows_wanted if request.options & ttc.FETCH else 0
            self._answer(cursor, result, out, wanted, parsed)
        else:
            if statement.kind == "query":
                cursor.columns = engine.describe(statement)
                ttc.describe(out, self.dialect, cursor.columns)
            self._error(out, cursor_id=cursor.id)
        self._cursors[cursor.id] = cursor

    def _reexecute(
        self, name: str, reader: Reader, out: Writer, engine: Engine
    ) -> None:
        cursor = self._cursor(reader.num())
        iterations = reader.num()
        reader.num()
        commit = reader.num() & ttc.COMMIT_REEXECUTE
        wanted = 0
        if name == "REEXECUTE_AND_FETCH":
            wanted, iterations = iterations, 1
        types = cursor.value_types()
        plsql = cursor.statement.kind == "plsql"
        rows = []
        if types:
            rows = [self._bind_row(reader, types, plsql) for _ in range(iterations)]
        self._hear(cursor.statement.text)
        if cursor.directions:  # put back the places of OUT binds
            for index, row in enumerate(rows):
                values = iter(row)
                rows[index] = [
                    None if way == ttc.OUT else next(values)
                    for way in cursor.directions
                ]
        result = self._run(engine, cursor, rows, commit)
        self._answer(cursor, result, out, wanted, parsed=False)

    def _hear(self, text: str) -> None:
        self.server.statements.append((self.sid, text))
        if self.server.drop_at and self.server.drop_at in text:
            raise ConnectionLost("as told")

    def _bind_row(
        self, reader: Reader, types: list[BindType], plsql: bool
    ) -> list[Any]:
        values = ttc.read_bind_row(reader, types, plsql)
        for index, value in enumerate(values):
            if isinstance(value, Locator):
                values[index] = self._lobs.content(value)
        return values

    def _run(
        self, engine: Engine, cursor: Cursor, rows: list[list[Any]], commit: int
    ) -> Result:
        result = engine.execute(cursor.statement, rows)
        if commit:
            engine.commit()
        return result

    def _answer(
        self, cursor: Cursor, result: Result, out: Writer, wanted: int, parsed: bool
    ) -> None:
        """Everything that follows an execution."""
        if result.columns is not None:
            changed = parsed or result.columns != cursor.columns
            if changed:
                cursor.columns, cursor.defines = result.columns, []
                ttc.describe(out, self.dialect, cursor.columns)
            cursor.rows, cursor.fetched = result.rows, 0
            has_lobs = any(c.type.code in datatypes.LOBS for c in cursor.columns)
            if wanted and not (has_lobs and changed):
                self._fetch(cursor, wanted, out)
            else:
                self._error(out, cursor_id=cursor.id)
            return
        if result.returned:
            targets = cursor.binds[len(cursor.binds) - cursor.statement.return_binds :]
            for returned in result.returned:
                out.u8(ttc.ROW_DATA)
                for column, bind in enumerate(targets):
                    out.num(len(returned))
                    for row in returned:
                        ttc.out_value(out, row[column], bind)
        elif cursor.statement.kind == "plsql" and cursor.binds:
            self._out_binds(cursor, result, out)
        self._error(
            out, cursor_id=cursor.id, rowcount=result.rowcount, rowid=result.last_rowid
        )

    def _out_binds(self, cursor: Cursor, result: Result, out: Writer) -> None:
        names = cursor.statement.binds
        if not cursor.directions:
            cursor.directions = [
                ttc.OUT if n in result.out_binds else ttc.IN for n in names
            ]
        ttc.io_vector(out, cursor.directions)
        if result.out_binds:
            out.u8(ttc.ROW_DATA)
            for name, bind, way in zip(
                names, cursor.binds, cursor.directions, strict=True
            ):
                if way != ttc.IN:
                    ttc.out_value(out, result.out_binds.get(name), bind)

    def _fetch(self, cursor: Cursor, wanted: int, out: Writer) -> None:
        """Send rows; fewer than wanted means there are no more (ORA-01403)."""
        rows, cursor.rows = cursor.rows[:wanted], cursor.rows[wanted:]
        if rows:
            ttc.row_header(out, len(rows))
        for row in rows:
            out.u8(ttc.ROW_DATA)
            for index, value in enumerate(row):
                self._column_value(out, cursor, index, value)
        cursor.fetched += len(rows)
        end = OracleError(ttc.NO_DATA_FOUND) if len(rows) < wanted else None
        self._error(out, end, cursor_id=cursor.id, rowcount=cursor.fetched)

    def _column_value(
        self, out: Writer, cursor: Cursor, index: int, value: Any
    ) -> None:
        kind = cursor.columns[index].type
        code = kind.code
        if code in datatypes.LOBS and cursor.defines:
            code = cursor.defines[index].code  # other columns ignore their define
        try:
            if code in datatypes.LOBS:
                self._lobs.send(out, value, kind.csfrm)
            elif ttc.is_long(code):
                csfrm = cursor.defines[index].csfrm
                ttc.long_value(out, datatypes.encode(value, code, csfrm))
            else:
                out.octets(datatypes.encode(value, code, kind.csfrm))
        except (ValueError, ArithmeticError) as exc:
            raise OracleError(1722) from exc
