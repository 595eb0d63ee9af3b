"""Which statements change a session of MySQL's or MariaDB's, told from their text."""

from __future__ import annotations

import pytest

from djpool.adapters.mysql_session import statements
from djpool.core.session import ASKS, CHANGES, IN_DOUBT, Change, Trace

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
    # Comments are white space, and literals are data.
    "SELECT 'SET x; LOCK TABLES := INTO @a'",
    'SELECT "it\'s; SET x", \'say "; SET x\', "a""; SET x"',
    "SELECT 'it\\'s; SET x = 1'",
    "SELECT 'it''s; SET x = 1', '\\\\'",
    "SELECT `; SET x`, `a``; SET x` FROM `it's`",
    "SELECT 1 # it's; SET x = 1",
    "SELECT 1 -- it's; SET x = 1",
    "SELECT 1 /* it's; SET x = 1 */",
    "SELECT '/*! SET x = 1 */' /* /*! */",
    "INSERT INTO page VALUES ('lock'), ('load and flush @ it')",
    "SELECT 1 FROM shop, `lock`, shop.tables",
    "SELECT `temporary`, begin FROM created",
    "BEGIN/**/WORK",
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
    "SET/**/sql_mode = ''",
    "SELECT 1/* ; */;SET/**/sql_mode = ''",
    # What is comment or literal, and what is not.
    "SELECT 5--'1'; SET x = 1 -- '",
    "SELECT 1 --\t'\n; SET x = 1 -- '",
    "SELECT 1 -- '\r\n; SET x = 1 -- '",
    "SELECT 1 # '\n; SET x = 1 # '",
    "SELECT '\\\\'; SET x = 1; -- '",
    "SELECT '\\'; SET x = 1; -- '",
    'SELECT "\\"; SET x = 1; -- "',
    "SELECT 1 /* /* */; SET x = 1 -- */",
    "SELECT /*! 1 */; SET x = 1",
    "SELECT /*!99999 ' */ 1; SET x = 1 -- '",
    "SELECT 1 INTO /* a */ # b\n @mine",
    "CREATE/**/TEMPORARY/**/TABLE shop (a int)",
]
# What the server refuses, or reads in a way that no text tells.
UNREADABLE = [
    "SELECT 'it",
    "SELECT `it",
    "SELECT \"it'",
    "SELECT 1 /* it",
    "SELECT \0",
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
    "SELECT get_lock/**/('a', 1)",
    "SELECT `get_lock`('a', 1)",
    'SELECT "get_lock" (1, 1)',
    "LOCK/**/TABLES shop WRITE",
    "EXECUTE IMMEDIATE 'SELECT GET_LOCK(1, 1)'",
    "PREPARE a FROM 'SELECT GET_LOCK(1, 1)'",
    "SELECT 1; /*!40000 LOCK TABLES shop WRITE */",
]
OPENING = [
    "BEGIN",
    " start transaction",
    "/* x */ -- y\n # z\n BEGIN",
    "SELECT 1; BEGIN",
    "SELECT 1 ; /* x */ START/**/TRANSACTION",
    "SELECT 1;;/**/begin",
    "XA START 'a'",
    "COMMIT AND CHAIN",
    "COMMIT/**/AND CHAIN",
    "COMMIT AND CHAIN NO RELEASE",
    "COMMIT RELEASE",
    "rollback work and chain",
    "CALL a()",
    "EXECUTE a",
    "EXECUTE IMMEDIATE 'BEGIN'",
    "DO 1",
    "BEGIN NOT ATOMIC START TRANSACTION; END",
    "HANDLER shop OPEN",
    "SELECT 1 /*! ; BEGIN */",
    "/*M!100000 BEGIN */",
    "SET completion_type = 'CHAIN'",
    "SET @@session.`completion_type` = 1",
    "SET STATEMENT completion_type = 1 FOR COMMIT",
    "SELECT 'it",
    "SELECT '\\'; BEGIN; -- '",
    "whatever comes",
]
OPENING_NOTHING = [
    "SELECT 1",
    "(SELECT 1) UNION (SELECT 2)",
    "SELECT 'BEGIN'",
    "SELECT 1; SELECT 'a'",
    "SELECT 'a\\'b'",
    "INSERT INTO shop VALUES ('; or BEGIN')",
    "REPLACE INTO shop VALUES (1)",
    "UPDATE shop SET begin = 1 -- ; BEGIN",
    "DELETE FROM shop # ; BEGIN",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "SET autocommit = 0",  # of which the server tells the driver
    "SET NAMES utf8mb4",
    "SET SQL_AUTO_IS_NULL = 0",
    "SET foreign_key_checks=0",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION TRANSACTION READ ONLY",
    "SET @mine = 'completion_type'",
    "SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "ROLLBACK WORK TO a",
    "COMMIT",
    "COMMIT WORK",
    "COMMIT AND NO CHAIN",
    "COMMIT WORK AND NO CHAIN NO RELEASE",
    "ROLLBACK",
    "ROLLBACK AND NO CHAIN NO RELEASE",
    "LOAD DATA INFILE 'a' INTO TABLE shop",
    "LOAD INDEX INTO CACHE shop",
    *("SHOW TABLES", "DESCRIBE shop", "DESC shop", "EXPLAIN SELECT 1", "HELP 'a'"),
    *("CREATE TABLE a (b int)", "ALTER TABLE a ADD c int", "DROP TABLE a"),
    *("TRUNCATE a", "RENAME TABLE a TO b", "GRANT SELECT ON a TO b", "KILL 7"),
    *("ANALYZE TABLE a", "CHECK TABLE a", "CHECKSUM TABLE a", "OPTIMIZE TABLE a"),
    *("REPAIR TABLE a", "USE shop", "FLUSH TABLES", "VALUES ROW(1)", "TABLE shop"),
]
ASKING = [
    ("SELECT LAST_INSERT_ID()", Trace.ASKS_ID),
    ("SELECT last_insert_id /* */ ( )", Trace.ASKS_ID),
    ("SELECT `last_insert_id`()", Trace.ASKS_ID),
    ("SELECT @@last_insert_id", Trace.ASKS_ID),
    ("SELECT @@identity, 1", Trace.ASKS_ID),
    ("SELECT @@session.identity", Trace.ASKS_ID),
    ("SELECT @@SESSION . `last_insert_id`", Trace.ASKS_ID),
    ("SELECT @@insert_id", Trace.ASKS_ID),
    ("SET @mine = LAST_INSERT_ID()", Trace.ASKS_ID),
    ("INSERT INTO item VALUES (LAST_INSERT_ID())", Trace.ASKS_ID),
    ("SELECT LASTVAL(numbers)", Trace.ASKS_ID),
    ("SELECT PREVIOUS/**/VALUE FOR numbers", Trace.ASKS_ID),
    ("SELECT ROW_COUNT()", Trace.ASKS_PREVIOUS),
    ("SELECT FOUND_ROWS ( )", Trace.ASKS_PREVIOUS),
    ("SHOW WARNINGS", Trace.ASKS_PREVIOUS),
    ("SHOW/**/ERRORS LIMIT 1", Trace.ASKS_PREVIOUS),
    ("SHOW COUNT(*) WARNINGS", Trace.ASKS_PREVIOUS),
    ("SHOW COUNT( * ) ERRORS", Trace.ASKS_PREVIOUS),
    ("SHOW PROFILE", Trace.ASKS_PREVIOUS),
    ("SHOW PROFILES", Trace.ASKS_PREVIOUS),
    ("GET DIAGNOSTICS @a = ROW_COUNT", Trace.ASKS_PREVIOUS),
    ("GET CURRENT DIAGNOSTICS @a = NUMBER", Trace.ASKS_PREVIOUS),
    ("SELECT @@warning_count", Trace.ASKS_PREVIOUS),
    ("SELECT @@session.error_count", Trace.ASKS_PREVIOUS),
    ("SELECT /*! LAST_INSERT_ID() */ 1", Trace.ASKS_ID),
    ("SELECT 1 /*!50000 , @@identity */", Trace.ASKS_ID),
    ("SELECT NEXTVAL(a), LASTVAL(b)", Trace.ASKS_ID),
    ("SELECT PREVIOUS VALUE FOR a, NEXT VALUE FOR a", Trace.ASKS_ID),
    ("PREPARE a FROM 'SELECT LAST_INSERT_ID()'", Trace.ASKS_ID),
    ("EXECUTE IMMEDIATE 'SELECT @@identity'", Trace.ASKS_ID),
    ("EXECUTE IMMEDIATE 'SELECT FOUND_ROWS()'", Trace.ASKS_PREVIOUS),
    ("SHOW VARIABLES LIKE 'last_insert_id'", Trace.ASKS_ID),
    ("SHOW SESSION VARIABLES WHERE variable_name = 'identity'", Trace.ASKS_ID),
    ("SHOW LOCAL VARIABLES LIKE 'warning_count'", Trace.ASKS_PREVIOUS),
    (
        "TABLE performance_schema.session_variables /* 'LAST_INSERT_ID' */",
        Trace.ASKS_ID,
    ),
    ("SHOW VARIABLES LIKE 'last_insert%'", Trace.ASKS_ID),
    (r"SHOW VARIABLES LIKE 'last\_insert\_id'", Trace.ASKS_ID),
    ("TABLE session_variables -- CONCAT('LAST_INSERT', '_ID')", Trace.ASKS_ID),
    ("EXECUTE IMMEDIATE CONCAT('select last_insert', '_id()')", Trace.ASKS_ID),
    ("SELECT numbers.currval FROM dual", Trace.ASKS_ID),
    ("CREATE TABLE a AS SELECT LAST_INSERT_ID() AS b", Trace.ASKS_ID),
    ("CREATE TABLE a (b int) SELECT @@identity AS b", Trace.ASKS_ID),
    ("SELECT LAST_INSERT_ID() -- \0", ASKS),
]
ASKING_NOTHING = [
    "SELECT 'LAST_INSERT_ID()', \"ROW_COUNT()\" -- @@identity\n /* FOUND_ROWS() */",
    "SELECT last_insert_id, row_count FROM found_rows",
    "SELECT LAST_INSERT_ID(7)",
    "SELECT LAST_INSERT_ID('7')",
    "SET @@last_insert_id = 7",
    "SELECT @identity, @@sql_mode",
    "SHOW VARIABLES",
    "INSERT INTO shop VALUES (1); SELECT LAST_INSERT_ID()",
    "SELECT SQL_CALC_FOUND_ROWS 1; SELECT FOUND_ROWS()",
    "UPDATE shop SET a = 1; SELECT ROW_COUNT()",
    "SELECT NEXTVAL(numbers); SELECT LASTVAL(numbers)",
    "SELECT NEXTVAL(a.numbers), LASTVAL( a.`numbers`)",
    "SELECT NEXT VALUE FOR `numbers`, PREVIOUS VALUE FOR numbers",
    "SHOW VARIABLES LIKE 'version'",
    "SHOW VARIABLES LIKE '%timeout%'",
    "BEGIN NOT ATOMIC INSERT INTO shop VALUES (1); SELECT LAST_INSERT_ID(); END",
    "SHOW COLUMNS FROM a LIKE 'identity'",
    "PREPARE a FROM 'SELECT 1'",
    "EXECUTE a",
    "CREATE VIEW a AS SELECT ROW_COUNT()",
    "CREATE TRIGGER a BEFORE DELETE ON b BEGIN DO 1; SET @d = ROW_COUNT(); END",
]
LEAVING = [
    "INSERT INTO shop VALUES (1)",
    "REPLACE INTO shop VALUES (1)",
    "LOAD DATA INFILE 'a' INTO TABLE shop",
    "CALL a()",
    "EXECUTE a",
    "WITH a AS (SELECT 1) UPDATE shop SET a = LAST_INSERT_ID(1)",
    "SELECT LAST_INSERT_ID(7)",
    "UPDATE shop SET id = LAST_INSERT_ID(id + 1)",
    "SELECT NEXTVAL(numbers)",
    "SELECT NEXT VALUE FOR numbers",
    "SET insert_id = 7",
    "CREATE TABLE a (id int AUTO_INCREMENT PRIMARY KEY) SELECT 1",
    "ANALYZE INSERT INTO shop VALUES (1)",
    "BEGIN NOT ATOMIC INSERT INTO shop VALUES (1); END",
    "DO a()",
    "SELECT 'it",
]
LEAVING_NOTHING = [
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "SELECT 1",
    "SELECT my_function(1), 'LAST_INSERT_ID(7)'",
    "SELECT LAST_INSERT_ID()",
    "UPDATE shop SET a = 1",
    "DELETE FROM shop",
    "CREATE TABLE shop (a int)",
    "CREATE VIEW a AS SELECT 1",
    "ALTER TABLE shop ADD a int",
    "SET sql_mode = ''",
    "BEGIN",
    "COMMIT",
    "SHOW TABLES",
    "ANALYZE TABLE shop",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_harmless(statement: str) -> None:
    assert not statements(statement) & CHANGES
    assert not statements(statement.encode()) & CHANGES


@pytest.mark.parametrize("statement", CHANGING)
def test_changing(statement: str) -> None:
    assert statements(statement) & CHANGES == Change.SETTINGS


@pytest.mark.parametrize("statement", UNREADABLE)
def test_what_cannot_be_read(statement: str) -> None:
    assert statements(statement) == IN_DOUBT


@pytest.mark.parametrize("statement", LOCKING)
def test_locking(statement: str) -> None:
    assert statements(statement) & Change.LOCKS


@pytest.mark.parametrize("statement", OPENING)
def test_what_may_open_a_transaction(statement: str) -> None:
    assert statements(statement) & Trace.OPENS
    assert statements(statement.encode()) & Trace.OPENS


@pytest.mark.parametrize("statement", OPENING_NOTHING)
def test_what_opens_none(statement: str) -> None:
    assert not statements(statement) & Trace.OPENS


@pytest.mark.parametrize(("statement", "asks"), ASKING)
def test_questions(statement: str, asks: Trace) -> None:
    assert statements(statement) & ASKS == asks


@pytest.mark.parametrize("statement", ASKING_NOTHING)
def test_what_is_no_question(statement: str) -> None:
    assert not statements(statement) & ASKS


@pytest.mark.parametrize("statement", LEAVING)
def test_what_leaves_an_answer(statement: str) -> None:
    assert statements(statement) & Trace.LEAVES_ID


@pytest.mark.parametrize("statement", LEAVING_NOTHING)
def test_what_leaves_none(statement: str) -> None:
    assert not statements(statement) & Trace.LEAVES_ID
