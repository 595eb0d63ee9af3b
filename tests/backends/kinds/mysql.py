"""MySQL and MariaDB's session state."""

from __future__ import annotations

from typing import Any

from django.db import Error
from pymysql.constants import FIELD_TYPE

from tests.backends.kinds import Kind, attribute, run

MARIADB = ("mysql@mariadb",)
MYSQL = ("mysql@mysql", "mysql_connector")
MYSQLDB = ("mysql@",)
CONNECTOR = ("mysql_connector",)


def setting(name: str, value: str, only: tuple[str, ...] = ("",)) -> Kind:
    """A variable, set by name."""
    change = f"SET SESSION {name} = {value}"
    return Kind(name, change, f"SELECT @@SESSION.{name}", only=only)


def works(*statements: str) -> Any:
    """Tells whether statements do not fail. The last one may have rows."""

    def look(wrapper: Any) -> object:
        try:
            return [run(wrapper, statement) for statement in statements]
        except Error:
            return None

    return look


def doing(*statements: str) -> Any:
    """Runs several statements."""
    return lambda wrapper: [run(wrapper, statement) for statement in statements]


def raw_statement(wrapper: Any) -> None:
    """Set something where djpool does not look."""
    wrapper.ensure_connection()
    cursor = wrapper.connection.cursor()
    cursor.execute("SET SESSION sort_buffer_size = 777216")
    cursor.close()


def by_the_driver_s_cursor(wrapper: Any) -> None:
    """Set something by way of a cursor's connection."""
    with wrapper.cursor() as cursor:
        raw = raw_of(cursor).cursor()
        raw.execute("SET SESSION sort_buffer_size = 777216")
        raw.close()


def raw_of(cursor: Any) -> Any:
    """The driver's connection, as its cursors refer to it."""
    return getattr(cursor, "connection", None) or cursor._connection


def character_set(wrapper: Any) -> None:
    """Have the driver speak another character set."""
    wrapper.ensure_connection()
    raw = wrapper.connection
    if hasattr(raw, "set_charset_collation"):
        raw.set_charset_collation("latin1")
    else:
        raw.set_character_set("latin1")


def speaks(wrapper: Any) -> object:
    """How text comes through, both ways, and how it is compared."""
    sent = run(wrapper, "SELECT %s, HEX(%s), @@collation_connection", ["\xe9", "\xe9"])
    return sent, run(wrapper, "SELECT _utf8mb4 x'C3A9'")


def another_decoder(wrapper: Any) -> None:
    """Have NULLs and numbers come as something else."""
    wrapper.ensure_connection()
    raw = wrapper.connection
    decoders = raw.decoders if hasattr(raw, "decoders") else raw.converter
    decoders[FIELD_TYPE.LONG] = decoders[FIELD_TYPE.LONGLONG] = str


def quietly(statement: str) -> Any:
    """Tells whether a statement works that would count as a change."""

    def look(wrapper: Any) -> object:
        wrapper.ensure_connection()
        cursor = wrapper.djpool_lease.connection.cursor()
        try:
            cursor.execute(statement)
            cursor.fetchall()
        except wrapper.Database.Error:
            return False
        finally:
            cursor.close()
        return True

    return look


def refusal(statement: str) -> Any:
    """Tells why a statement does not work, by the server's number."""

    def look(wrapper: Any) -> object:
        try:
            run(wrapper, statement)
        except Error as error:
            return error.args[0]
        return None

    return look


TABLE = "CREATE TABLE IF NOT EXISTS mine_2 (n integer)"
CHARACTERS = "SELECT @@character_set_results, @@collation_connection"
NULL = "SELECT @mine"
TEMPORARY = works("SELECT count(*) FROM mine")
BUFFER = "SELECT @@SESSION.sort_buffer_size"
AN_HOUR = "'+07:00'"

KINDS = [
    setting("sql_mode", "''"),
    setting("time_zone", AN_HOUR),
    setting("foreign_key_checks", "0"),
    setting("unique_checks", "0"),
    setting("group_concat_max_len", "77"),
    setting("wait_timeout", "77"),
    setting("sql_safe_updates", "1"),
    setting("lc_time_names", "'de_DE'"),
    setting("innodb_lock_wait_timeout", "77"),
    setting("sql_auto_is_null", "1"),
    setting("sql_select_limit", "77"),
    setting("auto_increment_increment", "7"),
    setting("div_precision_increment", "7"),
    setting("max_execution_time", "77", MYSQL),
    setting("transaction_isolation", "'SERIALIZABLE'", MYSQL),
    setting("transaction_read_only", "1", MYSQL),
    setting("max_statement_time", "77", MARIADB),
    setting("tx_isolation", "'SERIALIZABLE'", MARIADB),
    setting("tx_read_only", "1", MARIADB),
    Kind(
        "isolation",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT @@SESSION.transaction_isolation",
        only=MYSQL,
    ),
    Kind(
        "the next transaction's mode",
        "SET TRANSACTION READ ONLY",
        refusal("INSERT INTO nowhere VALUES (1)"),
    ),
    Kind(
        "NAMES",
        "SET NAMES latin1",
        CHARACTERS,
    ),
    Kind(
        "a collation",
        "SET collation_connection = 'utf8mb4_bin'",
        CHARACTERS,
    ),
    Kind(
        "something in a comment",
        "/*!40101 SET time_zone = '+07:00' */",
        "SELECT @@time_zone",
    ),
    Kind("a user variable", "SET @mine = 7", NULL),
    Kind("a user variable in a query", "SELECT @mine := 7", NULL),
    Kind("a user variable from a query", "SELECT 7 INTO @mine", NULL),
    Kind("a temporary table", "CREATE TEMPORARY TABLE mine (n integer)", TEMPORARY),
    Kind(
        "a prepared statement", "PREPARE mine FROM 'SELECT 1'", quietly("EXECUTE mine")
    ),
    Kind("a named lock", "SELECT GET_LOCK('mine', 1)", "SELECT IS_USED_LOCK('mine')"),
    Kind(
        "a named lock, by DO", "DO GET_LOCK('mine', 1)", "SELECT IS_USED_LOCK('mine')"
    ),
    Kind(
        "a locked table",
        doing(TABLE, "LOCK TABLES mine_2 READ"),
        refusal("SELECT 1 FROM nowhere"),
    ),
    Kind(
        "a handler",
        doing(TABLE, "HANDLER mine_2 OPEN"),
        quietly("HANDLER mine_2 READ FIRST"),
    ),
    Kind("the database", "USE information_schema", "SELECT DATABASE()"),
    Kind("a role", "SET ROLE djpool_tests", "SELECT CURRENT_ROLE()"),
    Kind("a block", "BEGIN NOT ATOMIC SET @mine = 7; END", NULL, only=MARIADB),
    Kind("a raw statement", raw_statement, BUFFER),
    Kind(
        "a statement of cursor.connection", by_the_driver_s_cursor, BUFFER, only=MYSQLDB
    ),
    Kind("the driver's character set", character_set, speaks),
    Kind("a decoder", another_decoder, "SELECT 1 + 1", only=MYSQLDB),
    Kind("get_warnings", *attribute("get_warnings", True), only=CONNECTOR),
    Kind("raise_on_warnings", *attribute("raise_on_warnings", True), only=CONNECTOR),
    Kind("use_unicode", *attribute("use_unicode", False), only=CONNECTOR),
    Kind("the driver's time_zone", *attribute("time_zone", "+07:00"), only=CONNECTOR),
    Kind("the driver's sql_mode", *attribute("sql_mode", ""), only=CONNECTOR),
]
