"""The engines that tests run on: a backend, an implementation, and a server.

An engine is named "backend-implementation+release@server". What is left out is the
default: the backend's own implementation, the option `release` as it comes, and the
server that is most usual for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

# Set by tests/backends/other_drivers.py, in a process that has other ones.
OTHER_DRIVERS = "DJPOOL_TESTS_OTHER_DRIVERS" in os.environ

POSTGRESQL = (
    ["postgresql"] if OTHER_DRIVERS else ["postgresql-native", "postgresql-fallback"]
)
MYSQL = ["mysql@mariadb", "mysql@mysql"]
CONNECTOR = ["mysql_connector-native", "mysql_connector-fallback"]
ORACLE = [] if OTHER_DRIVERS else ["oracle-native", "oracle-fallback"]
SERVERS = [*POSTGRESQL, *MYSQL, *CONNECTOR, *ORACLE]
ENGINES = SERVERS if OTHER_DRIVERS else ["sqlite3", *SERVERS]

USUAL = {
    "postgresql": "postgres",
    "postgis": "postgres",
    "mysql": "mariadb",
    "gis_mysql": "mariadb",
    "mysql_connector": "mysql",
    "oracle": "oracle",
    "gis_oracle": "oracle",
}


class Engine(NamedTuple):
    """An engine's name, taken apart. `server` is the fixture that gives it."""

    backend: str
    implementation: str | None
    release: str | None
    server: str | None

    @property
    def pool(self) -> dict[str, Any]:
        """`OPTIONS["pool"]` as far as the name says."""
        said = {"implementation": self.implementation, "release": self.release}
        return {option: value for option, value in said.items() if value is not None}


def engine_of(name: str) -> Engine:
    """Take an engine's name apart."""
    what, _, server = name.partition("@")
    what, _, release = what.partition("+")
    backend, _, implementation = what.partition("-")
    server = server or USUAL.get(backend, "")
    return Engine(backend, implementation or None, release or None, server or None)


def server_of(name: str, request: pytest.FixtureRequest) -> Any:
    """An engine's server, running; None for SQLite."""
    server = engine_of(name).server
    return None if server is None else request.getfixturevalue(server)


def server_database(server: Any) -> dict[str, Any]:
    """`DATABASES` for a test server, but for ENGINE and the pool."""
    return {
        "NAME": server.database,
        "USER": server.user,
        "PASSWORD": server.password,
        "HOST": server.host,
        "PORT": str(server.port),
    }
