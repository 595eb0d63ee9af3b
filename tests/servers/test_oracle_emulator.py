"""What tests rely on in the emulator of an Oracle Database, with the real driver."""

from __future__ import annotations

import datetime
import decimal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import oracledb
import pytest

from djpool.adapters.oracledb_inside import find_socket
from tests.servers.oracle_emulator import (
    ORACLE_19,
    ORACLE_19_BOUNDARIES,
    ORACLE_23,
    OracleEmulator,
)
from tests.servers.process import wait_until

if TYPE_CHECKING:
    # The driver's own annotations leave half of it out.
    Connect = Callable[..., Any]

DIALECTS = {
    "19": ORACLE_19,
    "19 with boundaries": ORACLE_19_BOUNDARIES,
    "23": ORACLE_23,
}


@pytest.fixture(params=DIALECTS)
def server(request: pytest.FixtureRequest) -> Iterator[OracleEmulator]:
    """Give an emulator of each version."""
    emulator = OracleEmulator(
        users={"scott": "tiger"},
        services=("FREEPDB1",),
        dialect=DIALECTS[request.param],
    )
    emulator.start()
    yield emulator
    emulator.close()
    assert not emulator.protocol_errors


@pytest.fixture
def connect(server: OracleEmulator) -> Iterator[Connect]:
    """Give `connect(…)`, whose connections are closed after the test."""
    opened: list[Any] = []
    sockets: list[socket.socket | None] = []

    def open_one(**changes: Any) -> Any:
        account = {"user": "scott", "password": "tiger"} | changes
        name = f"127.0.0.1:{server.port}/FREEPDB1"
        opened.append(oracledb.connect(name, **account))
        sockets.append(find_socket(opened[-1]._impl))
        return opened[-1]

    yield open_one
    for connection in opened:
        if connection.is_healthy():
            connection.close()
    for each in sockets:
        if each is not None:
            each.close()  # the driver forgets to, where the server was in a hurry


def query(connection: Any, text: str, *args: Any) -> list[tuple[Any, ...]]:
    """Return the rows that a query gives."""
    with connection.cursor() as cursor:
        cursor.execute(text, *args)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def code_of(call: Callable[..., Any], *args: Any) -> str:
    """Return the code of the error that a call raises, such as ORA-00942."""
    with pytest.raises(oracledb.Error) as caught:
        call(*args)
    return str(caught.value.args[0].full_code)


def test_logging_on_and_off(server: OracleEmulator, connect: Connect) -> None:
    """Each step is one round trip; a session is gone when its client may say so."""
    with server.counting() as seen:
        connection = connect()
    logon = {"CONNECT": 1, "AUTH_PHASE_TWO": 1}
    if server.dialect.fast_auth:
        logon |= {"FAST_AUTH": 1}
    else:
        logon |= {"PROTOCOL": 1, "DATA_TYPES": 1, "AUTH_PHASE_ONE": 1}
    assert seen == logon
    assert connection.version == ".".join(map(str, server.dialect.version))
    assert [session.sid for session in server.sessions()] == [connection.session_id]
    with server.counting() as seen:
        connection.close()
        assert not server.sessions()
    assert seen == {"LOGOFF": 1}


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"user": "nobody"}])
def test_a_wrong_logon(
    server: OracleEmulator, connect: Connect, wrong: dict[str, str]
) -> None:
    """Either is the same to who asks."""
    assert code_of(lambda: connect(**wrong)) == "ORA-01017"
    assert server.stats.logons_failed == 1


def test_transactions(server: OracleEmulator, connect: Connect) -> None:
    """They begin with the first change, and others see them when they are over."""
    one, other = connect(), connect()
    cursor = one.cursor()
    cursor.execute("CREATE TABLE t (id NUMBER(10) PRIMARY KEY)")
    assert not one.transaction_in_progress
    cursor.execute("INSERT INTO t VALUES (1)")
    assert one.transaction_in_progress
    assert query(other, "SELECT COUNT(*) FROM t") == [(0,)]
    one.rollback()
    cursor.execute("SAVEPOINT early")
    cursor.execute("INSERT INTO t VALUES (2)")
    cursor.execute("SAVEPOINT late")
    cursor.execute("INSERT INTO t VALUES (3)")
    cursor.execute("ROLLBACK TO SAVEPOINT late")
    one.commit()
    assert query(other, "SELECT id FROM t") == [(2,)]
    one.autocommit = True
    cursor.execute("INSERT INTO t VALUES (:1)", [4])
    cursor.execute("INSERT INTO t VALUES (:1)", [5])  # not parsed again
    assert not one.transaction_in_progress
    assert query(other, "SELECT COUNT(*) FROM t") == [(3,)]


def test_values_come_back_as_they_went(
    server: OracleEmulator, connect: Connect
) -> None:
    """Every type that Django has a field for."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE t (id NUMBER(10) PRIMARY KEY, s VARCHAR2(30 CHAR) NOT NULL,"
        " n NUMBER(12,2), f BINARY_DOUBLE, d DATE, ts TIMESTAMP, ns NVARCHAR2(10),"
        " r RAW(10), c CLOB, b BLOB, i INTERVAL DAY TO SECOND)"
    )
    moment = datetime.datetime(2024, 2, 29, 23, 59, 58, 123456)  # noqa: DTZ001
    span = datetime.timedelta(days=-3, hours=4, microseconds=5)
    cursor.setinputsizes(None, None, None, None, None, oracledb.DB_TYPE_TIMESTAMP)
    number = decimal.Decimal("-1234.56")
    values: list[Any] = [
        1, "héé €", number, 2.5, moment, moment, "ñ", b"\0\xff", "text", b"bin", span,
    ]  # fmt: skip
    cursor.execute("INSERT INTO t VALUES (:1,:2,:3,:4,:5,:6,:7,:8,:9,:10,:11)", values)
    (row,) = cursor.execute("SELECT * FROM t")
    found = [each.read() if hasattr(each, "read") else each for each in row]
    values[2], values[4] = -1234.56, moment.replace(microsecond=0)
    assert found == values
    for wanted in (0, 1, -1, 10**15, -(10**15), 0.5, -0.001, 123456.789, 1e-10):
        assert query(connection, "SELECT :1 FROM DUAL", [wanted]) == [(wanted,)]
    big = "long text " * 20000
    lob = connection.createlob(oracledb.DB_TYPE_CLOB, big)
    cursor.execute("UPDATE t SET c = :1", [lob])
    assert cursor.execute("SELECT c FROM t").fetchone()[0].read() == big


def test_many_rows_at_once(server: OracleEmulator, connect: Connect) -> None:
    """In, out, and as what a change returns."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (id NUMBER, s VARCHAR2(40))")
    rows = [(number, "x" * (number % 30 + 1)) for number in range(300)]
    cursor.executemany("INSERT INTO t VALUES (:1, :2)", rows)
    assert cursor.rowcount == 300
    assert query(connection, "SELECT * FROM t ORDER BY id") == rows
    page = "SELECT id FROM t ORDER BY id OFFSET 2 ROWS FETCH FIRST 3 ROWS ONLY"
    assert query(connection, page) == [(2,), (3,), (4,)]
    changed = cursor.var(int)
    cursor.execute("UPDATE t SET s = 'y' WHERE id < 3 RETURNING id INTO :1", [changed])
    assert changed.getvalue() == [0, 1, 2]


def test_errors_have_oracle_s_numbers(server: OracleEmulator, connect: Connect) -> None:
    """And leave the conversation in step."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (id NUMBER PRIMARY KEY, s VARCHAR2(9) NOT NULL)")
    cursor.execute("INSERT INTO t VALUES (1, 'x')")
    for text, code in {
        "SELECT * FROM nowhere": "ORA-00942",
        "SELECT absent FROM DUAL": "ORA-00904",
        "FROBNICATE": "ORA-00900",
        "INSERT INTO t VALUES (1, 'x')": "ORA-00001",
        "INSERT INTO t VALUES (2, '')": "ORA-01400",  # which is null
        "BEGIN nope.proc; END;": "ORA-06550",
        "BEGIN RAISE_APPLICATION_ERROR(-20001, 'no'); END;": "ORA-20001",
    }.items():
        assert code_of(cursor.execute, text) == code
    assert query(connection, "SELECT 1 FROM DUAL") == [(1,)]


def test_each_session_has_a_state_of_its_own(
    server: OracleEmulator, connect: Connect
) -> None:
    """Of everything that one lease could leave for the next."""
    connection, other = connect(), connect()
    cursor = connection.cursor()
    cursor.execute("ALTER SESSION SET NLS_DATE_FORMAT = 'YYYY' TIME_ZONE = 'UTC'")
    connection.module, connection.client_identifier = "billing", "alice"
    cursor.execute("BEGIN DBMS_SESSION.SET_CONTEXT('ctx', 'tenant', 'acme'); END;")
    cursor.execute("BEGIN app.level := 3; END;")
    everything = "SELECT kind, name, value FROM emu_session_state"
    mine, theirs = query(connection, everything), query(other, everything)
    for row in [
        ("PARAMETER", "NLS_DATE_FORMAT", "YYYY"),
        ("ATTRIBUTE", "MODULE", "billing"),
        ("ATTRIBUTE", "CLIENT_IDENTIFIER", "alice"),
        ("CONTEXT", "CTX.TENANT", "acme"),
        ("PACKAGE", "APP.LEVEL", "3"),
    ]:
        assert row in mine
        assert row not in theirs
    context = "SELECT SYS_CONTEXT('ctx', 'tenant') FROM DUAL"
    assert query(connection, context) == [("acme",)]
    cursor.execute("BEGIN DBMS_SESSION.RESET_PACKAGE; END;")
    assert not [row for row in query(connection, everything) if row[0] == "PACKAGE"]


@pytest.mark.parametrize("how", ["drop", "error"])
def test_a_killed_session(server: OracleEmulator, connect: Connect, how: Any) -> None:
    """Its client learns of it when it next asks."""
    connection = connect()
    assert server.kill(connection.session_id, how)
    assert code_of(connection.ping) == "DPY-4011"
    assert not connection.is_healthy()
    wait_until(lambda: not server.sessions(), "the session to end")


def test_a_statement_can_be_broken_off(
    server: OracleEmulator, connect: Connect
) -> None:
    """By the driver's call_timeout."""
    connection = connect()
    connection.call_timeout = 100
    sleep = "BEGIN DBMS_SESSION.SLEEP(60); END;"
    assert code_of(connection.cursor().execute, sleep) == "DPY-4024"
    connection.call_timeout = 0
    assert query(connection, "SELECT 1 FROM DUAL") == [(1,)]


def test_stopped_it_keeps_its_data(server: OracleEmulator, connect: Connect) -> None:
    """Sessions end, and clients find nobody, until it starts again."""
    connect().cursor().execute("CREATE TABLE kept (id NUMBER)")
    server.stop()
    assert not server.sessions()
    assert code_of(connect) == "DPY-6005"
    server.start()
    assert query(connect(), "SELECT COUNT(*) FROM kept") == [(0,)]
