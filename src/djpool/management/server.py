"""What a database server says of its connections, whoever has opened them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from djpool import config, credentials

# Seconds to connect to a server, where the settings say nothing else.
CONNECT_SECONDS = 5

# What the drivers of a vendor call that.
_CONNECT_OPTIONS = {
    "postgresql": "connect_timeout",
    "mysql": "connect_timeout",
    "oracle": "tcp_connect_timeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """A server's connections, without the one over which it was asked."""

    vendor: str
    # Of everyone: other projects, other machines, people.
    connections: int
    # Of them those to this alias's database; None where the server does not say.
    in_database: int | None
    max_connections: int
    # Of max_connections those that only administrators may use.
    reserved: int

    def as_dict(self) -> dict[str, Any]:
        """The same as a plain dict, fit for JSON."""
        return asdict(self)


def ask_server(alias: str) -> tuple[ServerFigures | None, str | None]:
    """Return what the server of an alias says of itself, and a note if it cannot.

    Both are None if the database has no server that counts connections. It is asked
    over a connection of its own, opened and closed here: not one of a pool, and not
    Django's. Drivers' and Django's errors become notes.
    """
    try:
        connection = unpooled(alias)
        try:
            return server_figures(connection), None
        finally:
            connection.close()
    except Exception as error:  # noqa: BLE001 (drivers differ in what they raise)
        reason = " ".join(str(error).split()) or type(error).__name__
        return None, f"The server of {alias!r} does not say: {reason}"


def server_figures(connection: BaseDatabaseWrapper) -> ServerFigures | None:
    """Return what the server of a connection says; None if it has none or is unknown.

    What the driver raises, for want of a right for example, is passed on.
    """
    ask = _QUESTIONS.get(connection.vendor)
    return ask(connection) if ask else None


def _postgresql(connection: BaseDatabaseWrapper) -> ServerFigures:
    # Who may not see another role's sessions sees them without their kind, so kinds
    # are known by what only a client's session has: a role and a database.
    everyone, here, most, superusers, reserved = _row(
        connection,
        """
        SELECT count(*), count(*) FILTER (WHERE datname = current_database()),
               current_setting('max_connections')::int,
               current_setting('superuser_reserved_connections')::int,
               coalesce(nullif(current_setting('reserved_connections', true), ''), '0')
                   ::int
          FROM pg_stat_activity
         WHERE coalesce(backend_type, 'client backend') = 'client backend'
           AND usesysid IS NOT NULL AND datname IS NOT NULL
           AND pid <> pg_backend_pid()
        """,
    )
    return ServerFigures(
        vendor=connection.vendor,
        connections=everyone,
        in_database=here,
        max_connections=most,
        reserved=superusers + reserved,
    )


def _mysql(connection: BaseDatabaseWrapper) -> ServerFigures:
    _name, connected = _row(connection, "SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    (most,) = _row(connection, "SELECT @@GLOBAL.max_connections")
    return ServerFigures(
        vendor=connection.vendor,
        connections=int(connected) - 1,
        in_database=None,  # without the right PROCESS, a user sees their own only
        max_connections=int(most),
        reserved=0,  # the one for administrators comes on top
    )


def _oracle(connection: BaseDatabaseWrapper) -> ServerFigures:
    everyone, most = _row(
        connection,
        """
        SELECT (SELECT COUNT(*) FROM v$session
                 WHERE type = 'USER' AND sid <> SYS_CONTEXT('USERENV', 'SID')),
               (SELECT TO_NUMBER(value) FROM v$parameter WHERE name = 'sessions')
          FROM dual
        """,
    )
    return ServerFigures(
        vendor=connection.vendor,
        connections=int(everyone),
        in_database=None,
        max_connections=int(most),
        reserved=0,
    )


_QUESTIONS: Mapping[str, Callable[[BaseDatabaseWrapper], ServerFigures]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "oracle": _oracle,
}


def _row(connection: BaseDatabaseWrapper, question: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(question)
        row: tuple[Any, ...] = cursor.fetchone()
    return row


def unpooled(alias: str) -> BaseDatabaseWrapper:
    """Return a new wrapper for an alias that has no pool and connects when used.

    A wrapper without OPTIONS["pool"] is the stock one.
    """
    settings_dict = _without_pool(connections.settings[alias])
    wrapper: BaseDatabaseWrapper = load_backend(
        settings_dict["ENGINE"]
    ).DatabaseWrapper(settings_dict, alias)
    option = _CONNECT_OPTIONS.get(wrapper.vendor)
    if option:
        settings_dict["OPTIONS"].setdefault(option, CONNECT_SECONDS)
    _add_credentials(wrapper, connections.settings[alias])
    return wrapper


def _without_pool(settings_dict: Mapping[str, Any]) -> dict[str, Any]:
    options = {**settings_dict.get("OPTIONS", {})}
    options.pop("pool", None)
    return {**settings_dict, "CONN_MAX_AGE": 0, "OPTIONS": options}


def _add_credentials(
    wrapper: BaseDatabaseWrapper, settings_dict: Mapping[str, Any]
) -> None:
    """Let a wrapper connect with what a pool's `credentials` option gives."""
    pool = settings_dict.get("OPTIONS", {}).get("pool")
    source = pool.get("credentials") if isinstance(pool, Mapping) else None
    if source is None:
        return
    place = config.place_of(wrapper.alias)
    parameters = wrapper.get_connection_params

    def with_credentials() -> dict[str, Any]:
        found = credentials.find(source, place)
        given = credentials.Credentials(found, place).get()
        wrapper.settings_dict = given.described(wrapper.settings_dict, place)
        return {**parameters(), **given.params}

    wrapper.get_connection_params = with_credentials  # type: ignore[method-assign]
