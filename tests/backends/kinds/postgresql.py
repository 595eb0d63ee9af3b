"""PostgreSQL's session state."""

from __future__ import annotations

from typing import Any

from psycopg import Cursor, ProgrammingError
from psycopg.adapt import PyFormat
from psycopg.rows import dict_row
from psycopg.types.string import StrDumper
from psycopg2.extras import NamedTupleCursor

from tests.backends.engines import OTHER_DRIVERS
from tests.backends.kinds import Kind, attribute


def setting(name: str, value: str) -> Kind:
    """A setting, set by name."""
    return Kind(name, f"SET {name} = {value}", f"SHOW {name}")


def raw_setting(wrapper: Any) -> None:
    """Set something where djpool does not look."""
    wrapper.ensure_connection()
    cursor = wrapper.connection.cursor()
    cursor.execute("SET statement_timeout = '77s'")
    cursor.close()


def by_the_driver_s_cursor(wrapper: Any) -> None:
    """Set something by way of a cursor's connection."""
    with wrapper.cursor() as cursor:
        raw = cursor.connection.cursor()
        raw.execute("SET statement_timeout = '77s'")
        raw.close()


def notice_handler(wrapper: Any) -> None:
    """Hear the server's notices."""
    wrapper.ensure_connection()
    wrapper.connection.add_notice_handler(print)


def dumper(wrapper: Any) -> None:
    """Have complex numbers written as text."""
    wrapper.ensure_connection()
    wrapper.connection.adapters.register_dumper(complex, StrDumper)


def dumps_complex(wrapper: Any) -> object:
    """Whether it knows how to write a complex number."""
    wrapper.ensure_connection()
    try:
        wrapper.djpool_lease.connection.adapters.get_dumper(complex, PyFormat.TEXT)
    except ProgrammingError:
        return False
    return True


def handlers(wrapper: Any) -> object:
    """How many hear notices."""
    wrapper.ensure_connection()
    return len(wrapper.djpool_lease.connection._notice_handlers)


ROWS = "SELECT count(*) FROM pg_catalog."
KINDS = [
    setting("statement_timeout", "'77s'"),
    setting("search_path", "pg_catalog"),
    setting("work_mem", "'77MB'"),
    setting("timezone", "'Asia/Tokyo'"),
    setting("datestyle", "'SQL, DMY'"),
    setting("application_name", "'another'"),
    setting("default_transaction_isolation", "'serializable'"),
    setting("default_transaction_read_only", "on"),
    setting("lock_timeout", "'7s'"),
    setting("extra_float_digits", "0"),
    Kind(
        "a tenant",
        "SELECT set_config('shop.tenant', '7', false)",
        "SELECT coalesce(current_setting('shop.tenant', true), '')",
    ),
    Kind(
        "SET LOCAL outside of it",
        "SET SESSION statement_timeout = '77s'; SET LOCAL work_mem = '77MB'",
        "SHOW statement_timeout",
    ),
    Kind(
        "session characteristics",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
    ),
    Kind(
        "a temporary table",
        "CREATE TEMPORARY TABLE mine (n int)",
        ROWS + "pg_class WHERE relname = 'mine'",
    ),
    Kind(
        "a temporary table of rows",
        "SELECT 1 AS n INTO TEMP mine",
        ROWS + "pg_class WHERE relname = 'mine'",
    ),
    Kind(
        "a temporary view",
        "CREATE OR REPLACE TEMP VIEW mine AS SELECT 1",
        ROWS + "pg_class WHERE relname = 'mine'",
    ),
    Kind(
        "an advisory lock",
        "SELECT pg_advisory_lock(77)",
        ROWS + "pg_locks WHERE locktype = 'advisory'",
    ),
    Kind(
        "an advisory lock, tried",
        "SELECT pg_try_advisory_lock_shared(77)",
        ROWS + "pg_locks WHERE locktype = 'advisory'",
    ),
    Kind("LISTEN", "LISTEN news", "SELECT * FROM pg_listening_channels()"),
    Kind(
        "a prepared statement",
        "PREPARE mine AS SELECT 1",
        ROWS + "pg_prepared_statements",
    ),
    Kind(
        "a cursor WITH HOLD",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        ROWS + "pg_cursors WHERE name = 'mine'",
    ),
    Kind(
        "the last value of a sequence",
        "CREATE TEMP SEQUENCE numbers; SELECT nextval('numbers')",
        ROWS + "pg_class WHERE relname = 'numbers'",
    ),
    Kind(
        "something in a DO block",
        "DO $$ BEGIN PERFORM set_config('work_mem', '77MB', false); END $$",
        "SHOW work_mem",
    ),
    Kind("something after a comment", "/* x */ SET work_mem = '77MB'", "SHOW work_mem"),
    Kind("a raw statement", raw_setting, "SHOW statement_timeout"),
    Kind(
        "a statement of cursor.connection",
        by_the_driver_s_cursor,
        "SHOW statement_timeout",
    ),
]
if OTHER_DRIVERS:
    KINDS += [
        Kind("readonly", *attribute("readonly", True)),
        Kind("isolation_level", *attribute("isolation_level", 3)),
        Kind("cursor_factory", *attribute("cursor_factory", NamedTupleCursor)),
    ]
else:
    KINDS += [
        Kind("read_only", *attribute("read_only", True)),
        Kind("isolation_level", *attribute("isolation_level", 4)),
        Kind("deferrable", *attribute("deferrable", True)),
        Kind("row_factory", *attribute("row_factory", dict_row)),
        Kind("cursor_factory", *attribute("cursor_factory", Cursor)),
        Kind("prepare_threshold", *attribute("prepare_threshold", 3)),
        Kind("a notice handler", notice_handler, handlers),
        Kind("an adapter", dumper, dumps_complex),
    ]
