"""What a database server says of its connections, whoever has opened them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from djpool import config, credentials
from djpool.core.errors import in_one_line

# Seconds for the answers of all servers together.
PATIENCE = 5.0
# Seconds to connect to a server, if the settings say nothing else. Less than those for
# the answer, so that the note has the driver's message, which has the address.
CONNECT_SECONDS = 4
# A server that refuses a connect does so within so many seconds. After a longer time
# the server is silent, for every database.
REFUSAL_SECONDS = 1.0

# What the drivers of a vendor call that.
_CONNECT_OPTIONS = {
    "postgresql": "connect_timeout",
    "mysql": "connect_timeout",
    "oracle": "tcp_connect_timeout",
}


# PostgreSQL's sessions of clients, without the one that asks. A role that may not see
# another role's sessions sees them without their kind. So the kind is known by what
# only a client's session has: a role and a database.
_CLIENTS = """
    coalesce(backend_type, 'client backend') = 'client backend'
    AND usesysid IS NOT NULL AND datname IS NOT NULL AND pid <> pg_backend_pid()
"""


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


class Servers:
    """Asks the servers of aliases for their figures, again and again if need be.

    Each server is asked in a thread of its own, over a connection that is neither of a
    pool nor Django's. One thread calls this.
    """

    def __init__(self) -> None:
        self._asked: list[_Server] = []

    def ask(
        self, aliases: Iterable[str]
    ) -> tuple[dict[str, ServerFigures | None], list[str]]:
        """Return the figures of each alias's server, and notes on those that fail.

        The figures are None if the database has no server that counts connections, or
        if the server does not answer within `PATIENCE` seconds. Drivers' and Django's
        errors become notes.
        """
        figures: dict[str, ServerFigures | None] = dict.fromkeys(aliases)
        servers, notes = self._by_server(figures)
        deadline = time.monotonic() + PATIENCE
        for server in servers:
            server.ask(deadline)
        for server in servers:
            found, why = server.answer(deadline)
            figures.update(found)
            notes += why
        # A server that owes an answer is not asked again before it has given it.
        self._asked = [server for server in servers if server.is_asked]
        return figures, notes

    def _by_server(self, aliases: Iterable[str]) -> tuple[list[_Server], list[str]]:
        servers: list[_Server] = []
        notes: list[str] = []
        for alias in aliases:
            try:
                address = _address(alias)
            except Exception as error:  # noqa: BLE001 (a backend's import may raise anything)
                notes.append(_note([alias], _reason(error)))
                continue
            if address is None:
                continue
            known = [server for server in servers if server.address == address]
            if not known:
                known = [each for each in self._asked if each.address == address]
                known = known or [_Server(address)]
                servers += known
            known[0].add(alias)
        return servers, notes


class _Server:
    """One server, as one user sees it, and the aliases that lead there."""

    def __init__(self, address: Mapping[str, Any]) -> None:
        self.address = address
        # By alias, like the reasons why there are none. The asking thread fills both.
        self._figures: dict[str, ServerFigures] = {}
        self._reasons: dict[str, str] = {}
        self._aliases: dict[str, list[str]] = {}  # by database
        self._thread: threading.Thread | None = None

    def add(self, alias: str) -> None:
        """Have the server asked for this alias, too."""
        aliases = self._aliases.setdefault(connections.settings[alias]["NAME"], [])
        if alias not in aliases:
            aliases.append(alias)

    @property
    def is_asked(self) -> bool:
        """True while the server owes an answer."""
        return self._thread is not None and self._thread.is_alive()

    def ask(self, deadline: float) -> None:
        """Begin to ask, if the server owes no answer."""
        if self.is_asked:
            return
        self._figures, self._reasons = {}, {}
        # A daemon: no driver can give up a statement that the server never answers.
        thread = threading.Thread(
            target=self._ask, args=(deadline,), name="djpool-server", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads
            self._ask(deadline)
        else:
            self._thread = thread

    def answer(self, deadline: float) -> tuple[dict[str, ServerFigures], list[str]]:
        """Return the figures by alias, and a note for each reason why some lack.

        Waits until the server has answered, or its time is over.
        """
        if self._thread is not None:
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        figures, reasons = self._figures.copy(), self._reasons.copy()
        unknown: dict[str, list[str]] = {}
        for alias in (each for some in self._aliases.values() for each in some):
            if alias not in figures:
                reason = reasons.get(alias, f"no answer within {PATIENCE:g} s")
                unknown.setdefault(reason, []).append(alias)
        return figures, [_note(some, reason) for reason, some in unknown.items()]

    def _ask(self, deadline: float) -> None:
        """Ask over one connection for all databases.

        Connect to the next database only if that tells more: the server has refused the
        one before, or a pooler may lead each database to another server.
        """
        databases = list(self._aliases.items())
        while databases and (began := time.monotonic()) < deadline:
            _, aliases = databases.pop(0)
            try:
                with closing(unpooled(aliases[0])) as connection:
                    figures = server_figures(connection)
                    if figures is None:
                        return
                    self._figures.update(dict.fromkeys(aliases, figures))
                    if not databases or _is_behind_a_pooler(connection):
                        continue
                    for name, others in databases:
                        figures = _in_another_database(connection, figures, name)
                        self._figures.update(dict.fromkeys(others, figures))
                    return
            except Exception as error:  # noqa: BLE001 (drivers differ in what they raise)
                if time.monotonic() - began > REFUSAL_SECONDS:
                    aliases = [
                        *aliases,
                        *(each for _, some in databases for each in some),
                    ]
                    databases = []
                self._reasons.update(dict.fromkeys(aliases, _reason(error)))


def _address(alias: str) -> dict[str, Any] | None:
    """Return what leads to the alias's server; None if no server counts connections.

    Aliases with equal addresses share a server, but for PostgreSQL's poolers.
    """
    settings_dict = connections.settings[alias]
    vendor = load_backend(settings_dict["ENGINE"]).DatabaseWrapper.vendor
    if vendor not in _QUESTIONS:
        return None
    pool = settings_dict.get("OPTIONS", {}).get("pool")
    # The user is a part of it: users differ in what they may see.
    address = {
        key: settings_dict.get(key)
        for key in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD")
    }
    address["OPTIONS"] = _without_pool(settings_dict)["OPTIONS"]
    if isinstance(pool, Mapping):
        address["credentials"] = pool.get("credentials")
    if vendor == "oracle" or not settings_dict["NAME"]:
        address["NAME"] = settings_dict["NAME"]  # which may be the whole address
    return address


def _note(aliases: Iterable[str], reason: str) -> str:
    return f"The server of {', '.join(map(repr, aliases))} does not say: {reason}"


def _reason(error: Exception) -> str:
    return in_one_line(error) or type(error).__name__


def server_figures(connection: BaseDatabaseWrapper) -> ServerFigures | None:
    """Return what the server of a connection says; None if it has none or is unknown.

    What the driver raises, for want of a right for example, is passed on.
    """
    ask = _QUESTIONS.get(connection.vendor)
    return ask(connection) if ask else None


def _postgresql(connection: BaseDatabaseWrapper) -> ServerFigures:
    everyone, here, most, superusers, reserved = _row(
        connection,
        f"""
        SELECT count(*), count(*) FILTER (WHERE datname = current_database()),
               current_setting('max_connections')::int,
               current_setting('superuser_reserved_connections')::int,
               coalesce(nullif(current_setting('reserved_connections', true), ''), '0')
                   ::int
          FROM pg_stat_activity
         WHERE {_CLIENTS}
        """,  # noqa: S608 (a constant)
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


def _in_another_database(
    connection: BaseDatabaseWrapper, figures: ServerFigures, name: str
) -> ServerFigures:
    """Return the figures of the same server for another of its databases."""
    if figures.in_database is None:
        return figures
    (there,) = _row(
        connection,
        f"SELECT count(*) FROM pg_stat_activity WHERE {_CLIENTS} AND datname = %s",  # noqa: S608 (a constant)
        (name,),
    )
    return replace(figures, in_database=there)


def _is_behind_a_pooler(connection: BaseDatabaseWrapper) -> bool:
    """True if a pooler stands in front, which may have a server for each database.

    PgBouncer gives each client a number of its own, and not the server process's.
    """
    if connection.vendor != "postgresql":
        return False
    (process,) = _row(connection, "SELECT pg_backend_pid()")
    return bool(connection.connection.info.backend_pid != process)


def _row(
    connection: BaseDatabaseWrapper, question: str, params: tuple[Any, ...] = ()
) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        if params:
            cursor.execute(question, params)
        else:
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
