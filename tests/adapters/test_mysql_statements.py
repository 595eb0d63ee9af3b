"""Which statements change a session of MySQL's or MariaDB's, told from their text."""

from __future__ import annotations

import pytest

from djpool.adapters.mysql_session import may_begin, statements
from djpool.core.session import Change

HARMLESS = [
    "SELECT 1",
    "(SELECT 1) UNION (SELECT 2)",
    "SELECT SQL_CALC_FOUND_ROWS * FROM shop FOR UPDATE",
    "SELECT @mine, @@sql_mode, LAST_INSERT_ID(7)",
    "SELECT /*+ SET_VAR(sort_buffer_size = 16M) */ 1",
    "/* SET x = 1 */ -- SET y = 2\nSELECT 1",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "INSERT INTO shop (email) VALUES ('a@example.com') RETURNING id",
    "INSERT IGNORE INTO shop VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a)",
    "REPLACE INTO shop VALUES (1)",
    "UPDATE shop SET a = 1",
    "DELETE FROM shop",
    "TRUNCATE TABLE shop",
    "LOAD DATA INFILE 'a' INTO TABLE shop",
    "CREATE TABLE shop (a_template text)",
    "CREATE OR REPLACE VIEW a AS SELECT 1",
    "DROP TEMPORARY TABLE shop",
    "ALTER TABLE shop ADD a int",
    "RENAME TABLE a TO b",
    "SHOW VARIABLES",
    "DESCRIBE shop",
    "EXPLAIN SELECT 1",
    "ANALYZE TABLE shop",
    "OPTIMIZE TABLE shop",
    "CHECK TABLE shop",
    "KILL 7",
    "FLUSH TABLES",
    "UNLOCK TABLES",
    "BEGIN",
    "begin work ; ",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "GRANT SELECT ON shop TO a",
]
CHANGING = [
    "SET sql_mode = ''",
    "SET @mine = 1",
    "SET NAMES latin1",
    "SET TRANSACTION READ ONLY",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET ROLE a",
    "SET autocommit = 0",
    "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
    "SELECT 1; SET sql_mode = ''",
    "USE shop",
    "SELECT @mine := 1",
    "UPDATE shop SET a = (@mine := a)",
    "SELECT 1 INTO @mine",
    "select 1 into/* */@mine",
    "LOAD DATA INFILE 'a' INTO TABLE shop (a, @b) SET c = @b",
    "CREATE TEMPORARY TABLE shop (a int)",
    "CREATE OR REPLACE TEMPORARY TABLE shop (a int)",
    "CREATE  /* x */  TEMPORARY TABLE shop (a int)",
    "PREPARE a FROM 'SELECT 1'",
    "EXECUTE a",
    "EXECUTE IMMEDIATE 'SET @a = 1'",
    "DEALLOCATE PREPARE a",
    "HANDLER shop OPEN",
    "CALL a()",
    "DO SLEEP(0)",
    "XA START 'a'",
    "BEGIN NOT ATOMIC SET @a = 1; END",
    "/*!40101 SET NAMES latin1 */",
    "/*M! SET NAMES latin1 */",
    "SELECT 1 /*! INTO @mine */",
    "BINLOG 'a'",
]
LOCKING = [
    "SELECT GET_LOCK('a', 1)",
    "SELECT shop.a, get_lock(shop.b, 0) FROM shop",
    "DO RELEASE_LOCK('a')",
    "SELECT RELEASE_ALL_LOCKS()",
    "LOCK TABLES shop WRITE",
    "LOCK TABLE shop READ",
    "LOCK INSTANCE FOR BACKUP",
    "FLUSH TABLES WITH READ LOCK",
    "FLUSH TABLES shop FOR EXPORT",
    "BACKUP STAGE START",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert statements(statement) == 0
    assert statements(statement.encode()) == 0


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) == Change.SETTINGS


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.LOCKS


@pytest.mark.parametrize(
    ("statement", "begins"),
    [
        (b"BEGIN", True),
        (b" start transaction", True),
        (b"/* x */ -- y\n # z\n BEGIN", True),
        (b"SELECT 1; BEGIN", True),
        (b"SELECT 1 ; /* x */ START TRANSACTION", True),
        (b"XA START 'a'", True),
        (b"COMMIT AND CHAIN", True),
        (b"rollback work and chain", True),
        (b"COMMIT", False),
        (b"SELECT 'BEGIN'", False),
        (b"SELECT 1; SELECT 'a'", False),
        (b"SET autocommit = 0", False),  # which the server tells the driver
        (b"INSERT INTO shop VALUES ('; or BEGIN')", False),
    ],
)
def test_what_may_open_a_transaction(*, statement: bytes, begins: bool) -> None:
    assert may_begin(statement) is begins
