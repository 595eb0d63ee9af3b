"""Which statements change an Oracle Database session, told from their text."""

from __future__ import annotations

import pytest

from djpool.adapters.oracledb_session import statements
from djpool.core.session import Change

HARMLESS = [
    "SELECT 1 FROM DUAL",
    "SELECT * FROM shop FOR UPDATE NOWAIT",
    "SELECT SYS_CONTEXT('USERENV', 'SESSION_USER') FROM DUAL",
    "SELECT PARAMETER FROM NLS_SESSION_PARAMETERS",
    "WITH x AS (SELECT 1 FROM DUAL) SELECT * FROM x",
    "INSERT INTO shop (a) VALUES (:arg0) RETURNING id INTO :arg1",
    "MERGE INTO shop USING DUAL ON (1 = 1) WHEN MATCHED THEN UPDATE SET a = 1",
    "UPDATE shop SET a = 1",
    "DELETE FROM shop",
    "CREATE TABLE shop (n NUMBER)",
    "CREATE GLOBAL TEMPORARY TABLE shop (n NUMBER) ON COMMIT DELETE ROWS",
    "ALTER TABLE shop ADD (a NUMBER)",
    "DROP TABLE shop CASCADE CONSTRAINTS",
    "TRUNCATE TABLE shop",
    "COMMENT ON TABLE shop IS 'a'",
    "SET TRANSACTION READ ONLY",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "LOCK TABLE shop IN EXCLUSIVE MODE",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "COMMIT",
    "EXPLAIN PLAN FOR SELECT 1 FROM DUAL",
]
CHANGING = [
    "ALTER SESSION SET NLS_SORT = GERMAN",
    "alter session set nls_date_format = 'YYYY' time_zone='+07:00'",
    'ALTER SESSION SET CURRENT_SCHEMA = "shop"',
    "ALTER SESSION SET TIME_ZONE = 'UTC'",
    "SET ROLE NONE",
    "BEGIN NULL; END;",
    "BEGIN DBMS_SESSION.SET_IDENTIFIER('a'); END;",
    "BEGIN EXECUTE IMMEDIATE 'ALTER SESSION SET NLS_SORT = GERMAN'; END;",
    "DECLARE a NUMBER; BEGIN a := 1; END;",
    "CALL shop.a()",
]
WITHOUT_RETURN = [
    "ALTER SESSION SET OPTIMIZER_MODE = RULE",
    "ALTER SESSION SET NLS_SORT = GERMAN OPTIMIZER_MODE = RULE",
    "ALTER SESSION SET ISOLATION_LEVEL = SERIALIZABLE",
    "ALTER SESSION SET CONSTRAINTS = DEFERRED",
    "ALTER SESSION SET EVENTS '10046 trace name context forever, level 12'",
    "ALTER SESSION ENABLE PARALLEL DML",
    "ALTER SESSION CLOSE DATABASE LINK a",
    "ALTER SESSION SET CONTAINER = a",
    "/* x */ ALTER /* y */ SESSION SET CURSOR_SHARING = FORCE",
    "BEGIN EXECUTE IMMEDIATE 'ALTER SESSION SET SQL_TRACE = TRUE'; END;",
    "CREATE PRIVATE TEMPORARY TABLE ORA$PTT_SHOP (n NUMBER)",
    "BEGIN DBMS_ALERT.REGISTER('a'); END;",
    "BEGIN DBMS_FLASHBACK.ENABLE_AT_TIME(SYSDATE); END;",
    "BEGIN DBMS_SESSION.SET_SQL_TRACE(TRUE); END;",
]
LOCKING = [
    "BEGIN :a := DBMS_LOCK.REQUEST(7); END;",
    "begin :a := dbms_lock . convert(7, 6); end;",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert statements(statement) == 0


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) == Change.SETTINGS


@pytest.mark.parametrize("statement", WITHOUT_RETURN)
def test_without_return(statement: str) -> None:
    assert statements(statement) & Change.BEYOND
    assert not statements(statement) & Change.LOCKS


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.BEYOND
    assert statements(statement) & Change.LOCKS
