"""Oracle Database's session state."""

from __future__ import annotations

from typing import Any

import oracledb
from django.db import DatabaseError

from tests.backends.kinds import Kind, attribute, run


def nls(name: str, value: str) -> Kind:
    """A setting, set by name."""
    look = f"SELECT VALUE FROM NLS_SESSION_PARAMETERS WHERE PARAMETER = '{name}'"
    return Kind(name, f"ALTER SESSION SET {name} = '{value}'", look)


def block(text: str) -> str:
    """Some PL/SQL."""
    return f"BEGIN {text} END;"


def context(name: str) -> str:
    """Asks for what the session says of itself."""
    return f"SELECT SYS_CONTEXT('USERENV', '{name}') FROM DUAL"


def told(name: str) -> Any:
    """Sets an attribute that the driver tells the server with the next statement."""

    def change(wrapper: Any) -> None:
        wrapper.ensure_connection()
        setattr(wrapper.connection, name, "MINE")

    return change


def variable(wrapper: Any) -> object:
    """What a package's variable is; None for nothing."""
    wrapper.ensure_connection()
    # PL/SQL counts as a change, but not where djpool does not look.
    with oracledb.Cursor(wrapper.djpool_lease.connection) as cursor:
        value = cursor.var(str)
        try:
            cursor.execute("BEGIN :value := shop.tenant; END;", [value])
        except oracledb.DatabaseError:
            return None
        return value.getvalue()


def by_hand(wrapper: Any) -> None:
    """Set something where djpool does not look."""
    wrapper.ensure_connection()
    with wrapper.connection.cursor() as cursor:
        cursor.execute("ALTER SESSION SET NLS_SORT = 'GERMAN'")


def by_the_driver_s_cursor(wrapper: Any) -> None:
    """Set something by way of a cursor's connection."""
    with wrapper.cursor() as cursor, cursor.connection.cursor() as raw:
        raw.execute("ALTER SESSION SET NLS_SORT = 'GERMAN'")


def has_table(wrapper: Any) -> object:
    """Whether the private table is there."""
    try:
        return run(wrapper, "SELECT COUNT(*) FROM ORA$PTT_MINE")
    except DatabaseError:
        return None


SORT = "SELECT VALUE FROM NLS_SESSION_PARAMETERS WHERE PARAMETER = 'NLS_SORT'"
STATE = "SELECT VALUE FROM EMU_SESSION_STATE WHERE NAME = 'OPTIMIZER_MODE'"
TENANT = "SELECT SYS_CONTEXT('SHOP', 'TENANT') FROM DUAL"
KINDS = [
    nls("NLS_SORT", "GERMAN"),
    nls("NLS_COMP", "LINGUISTIC"),
    nls("NLS_DATE_FORMAT", "YYYY"),
    nls("NLS_TIMESTAMP_FORMAT", "YYYY"),
    nls("NLS_TERRITORY", "GERMANY"),
    nls("NLS_LANGUAGE", "GERMAN"),
    nls("NLS_NUMERIC_CHARACTERS", ",."),
    Kind(
        "several settings",
        "ALTER SESSION SET NLS_SORT = 'GERMAN' NLS_COMP = ANSI TIME_ZONE = '+07:00'",
        SORT,
    ),
    Kind(
        "a time zone",
        "ALTER SESSION SET TIME_ZONE = '+07:00'",
        "SELECT SESSIONTIMEZONE FROM DUAL",
    ),
    Kind(
        "current_schema",
        "ALTER SESSION SET CURRENT_SCHEMA = SYS",
        context("CURRENT_SCHEMA"),
    ),
    Kind(
        "a setting in a block",
        block("EXECUTE IMMEDIATE 'ALTER SESSION SET NLS_SORT = GERMAN';"),
        SORT,
    ),
    Kind("no roles", "SET ROLE NONE", "SELECT ROLE FROM SESSION_ROLES ORDER BY ROLE"),
    Kind("a package's variable", block("shop.tenant := '7';"), variable),
    Kind(
        "module",
        block("DBMS_APPLICATION_INFO.SET_MODULE('MINE', 'MINE');"),
        context("MODULE"),
    ),
    Kind(
        "action",
        block("DBMS_APPLICATION_INFO.SET_ACTION('MINE');"),
        context("ACTION"),
    ),
    Kind(
        "client_info",
        block("DBMS_APPLICATION_INFO.SET_CLIENT_INFO('MINE');"),
        context("CLIENT_INFO"),
    ),
    Kind(
        "client_identifier",
        "CALL DBMS_SESSION.SET_IDENTIFIER('MINE')",
        context("CLIENT_IDENTIFIER"),
    ),
    Kind("the driver's module", told("module"), context("MODULE")),
    Kind("the driver's action", told("action"), context("ACTION")),
    Kind("the driver's clientinfo", told("clientinfo"), context("CLIENT_INFO")),
    Kind(
        "the driver's client_identifier",
        told("client_identifier"),
        context("CLIENT_IDENTIFIER"),
    ),
    Kind(
        "the driver's current_schema",
        told("current_schema"),
        context("CURRENT_SCHEMA"),
    ),
    Kind("an input type handler", *attribute("inputtypehandler", print)),
    Kind("an output type handler", *attribute("outputtypehandler", lambda *_: None)),
    Kind("a callback", *attribute("round_trip_callback", lambda *_: None)),
    Kind("call_timeout", *attribute("call_timeout", 77000)),
    Kind(
        "an application context",
        block("DBMS_SESSION.SET_CONTEXT('SHOP', 'TENANT', '7');"),
        TENANT,
        survives=False,
    ),
    Kind(
        "what cannot be asked for",
        "ALTER SESSION SET OPTIMIZER_MODE = 'RULE'",
        STATE,
        survives=False,
    ),
    Kind(
        "a private temporary table",
        "CREATE PRIVATE TEMPORARY TABLE ORA$PTT_MINE (N NUMBER)"
        " ON COMMIT PRESERVE DEFINITION",
        has_table,
        survives=False,
    ),
    Kind("a cursor by hand", by_hand, SORT, survives=False),
    Kind("a cursor's connection", by_the_driver_s_cursor, SORT, survives=False),
]
