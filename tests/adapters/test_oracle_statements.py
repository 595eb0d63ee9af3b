"""Which statements change an Oracle Database session, told from their text."""

from __future__ import annotations

import pytest

from djpool.adapters.oracledb_session import statements
from djpool.core.session import CHANGES, IN_DOUBT, Change, Trace

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
    "SELECT 'ALTER SESSION SET SQL_TRACE = TRUE; SET ROLE a' FROM DUAL",
    "SELECT q'[it's; SET ROLE a]', nQ'{a'}', q'!;!' FROM DUAL",
    "SELECT 1 /* /* ; SET ROLE a */ FROM DUAL -- it's; SET ROLE a",
    'SELECT "; SET ROLE a" FROM DUAL',
    "INSERT INTO a VALUES ('DBMS_ALERT.REGISTER')",
    "SELECT 1 FROM DUAL WHERE a LIKE 'b' ESCAPE '\\'",
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
    "ALTER/**/SESSION SET/**/NLS_SORT = GERMAN",
    "BEGIN EXECUTE IMMEDIATE 'ALTER ' || 'SESSION SET NLS_SORT = ''A'' '; END;",
    "SELECT q'[']' FROM DUAL; SET ROLE a",
    "SELECT '\\' FROM DUAL; SET ROLE a --'",
    # Perhaps that ends the comment.
    "SELECT 1 FROM DUAL; --\rSET ROLE a",
]
UNREADABLE = [
    "SELECT 'it",
    "SELECT q'[it'",
    'SELECT "it',
    "SELECT /* it",
    "SELECT \0",
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
    "BEGIN EXECUTE IMMEDIATE 'ALTER /* x */ SESSION SET SQL_TRACE = TRUE'; END;",
    "BEGIN EXECUTE IMMEDIATE q'[ALTER SESSION SET NLS_SORT='a' SQL_TRACE=TRUE]'; END;",
    "BEGIN EXECUTE IMMEDIATE 'CREATE PRIVATE TEMPORARY TABLE ORA$PTT_A (n)'; END;",
    "CREATE/**/PRIVATE/**/TEMPORARY TABLE ORA$PTT_SHOP (n NUMBER)",
    "BEGIN \"DBMS_ALERT\"/**/.REGISTER('a'); END;",
]
LOCKING = [
    "BEGIN :a := DBMS_LOCK.REQUEST(7); END;",
    "begin :a := dbms_lock . convert(7, 6); end;",
    "begin :a := dbms_lock/**/.request(7); end;",
    "SELECT DBMS_LOCK.REQUEST(7) FROM DUAL",
]
ASKING = [
    "SELECT numbers.CURRVAL FROM DUAL",
    'SELECT "NUMBERS".currval FROM DUAL',
    "SELECT numbers /* */ . currval FROM DUAL",
    "INSERT INTO item VALUES (shop_seq.CURRVAL)",
    "SELECT a.NEXTVAL, b.CURRVAL FROM DUAL",
    "CREATE TABLE item AS SELECT numbers.CURRVAL AS a FROM DUAL",
]
ASKING_NOTHING = [
    "SELECT 'numbers.CURRVAL' FROM DUAL -- numbers.CURRVAL",
    "SELECT currval FROM shop",
    "INSERT INTO shop VALUES (numbers.NEXTVAL, numbers.CURRVAL)",
    'INSERT INTO shop VALUES ("NUMBERS".CURRVAL, a.numbers.NEXTVAL)',
    "BEGIN INSERT INTO shop VALUES (1); SELECT numbers.CURRVAL INTO :a FROM DUAL; END;",
    "INSERT INTO shop VALUES (1); SELECT numbers.CURRVAL FROM DUAL",
]
LEAVING = [
    "INSERT INTO shop VALUES (1)",
    "MERGE INTO shop USING DUAL ON (1 = 1) WHEN MATCHED THEN UPDATE SET a = 1",
    "SELECT numbers.NEXTVAL FROM DUAL",
    "SELECT shop.a(1) FROM DUAL",
    "BEGIN NULL; END;",
    "DECLARE a NUMBER; BEGIN NULL; END;",
    "CALL a()",
    "SELECT 'it",
]
LEAVING_NOTHING = [
    "SELECT 1 FROM DUAL",
    "SELECT COUNT(*), NVL(MAX(a), 'numbers.NEXTVAL') FROM shop WHERE b IN (1, 2)",
    "SELECT numbers.CURRVAL FROM DUAL",
    'CREATE TABLE "SHOP" ("A" NUMBER(11) NOT NULL PRIMARY KEY, "B" NVARCHAR2(10) NULL)',
    'ALTER TABLE "SHOP" ADD ("C" NUMBER)',
    "SET TRANSACTION READ ONLY",
    "COMMIT",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert not statements(statement) & CHANGES


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) & CHANGES == Change.SETTINGS


@pytest.mark.parametrize("statement", UNREADABLE)
def test_what_cannot_be_read(statement: str) -> None:
    assert statements(statement) == IN_DOUBT


@pytest.mark.parametrize("statement", WITHOUT_RETURN)
def test_without_return(statement: str) -> None:
    assert statements(statement) & Change.BEYOND
    assert not statements(statement) & Change.LOCKS


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.BEYOND
    assert statements(statement) & Change.LOCKS


@pytest.mark.parametrize("statement", ASKING)
def test_questions(statement: str) -> None:
    assert statements(statement) & Trace.ASKS_ID


@pytest.mark.parametrize("statement", ASKING_NOTHING)
def test_what_is_no_question(statement: str) -> None:
    assert not statements(statement) & Trace.ASKS_ID


@pytest.mark.parametrize("statement", LEAVING)
def test_what_leaves_an_answer(statement: str) -> None:
    assert statements(statement) & Trace.LEAVES_ID


@pytest.mark.parametrize("statement", LEAVING_NOTHING)
def test_what_leaves_none(statement: str) -> None:
    assert not statements(statement) & (Trace.LEAVES_ID | Trace.LEAVES_ROWS)
