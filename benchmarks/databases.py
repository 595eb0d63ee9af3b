"""Where a request is measured, and the ways to set Django up there."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import mysql_server, oracle_server, postgres_server

# What all are compared with: a connection that is there already, and stays.
KEPT = "CONN_MAX_AGE=600"
STOCK = "CONN_MAX_AGE=0"
OURS, OURS_NATIVE = "djpool", "djpool, native"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to set an alias up: what its entry in DATABASES says besides where.

    `needs` is a module without which it is left out.
    """

    name: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "django"

    @property
    def possible(self) -> bool:
        """Whether everything is installed."""
        return importlib.util.find_spec(self.needs) is not None

    def entry(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """The entry of a database that is at `place`."""
        return {"ENGINE": self.engine, **place, **self.settings}


@dataclass(frozen=True, slots=True)
class Log:
    """What a server writes down."""

    statements: Callable[[], int]  # that it was given so far
    end: Callable[[], None]  # of logging them: from now on it is only fast


@dataclass(frozen=True, slots=True)
class Site:
    """A database that runs. `place` is where, in the words of DATABASES.

    One with a log is reached over TCP, and its round trips are counted.
    """

    place: Mapping[str, Any]
    log: Log | None = None


@dataclass(frozen=True, slots=True)
class Database:
    """A kind of database, how to get one, and what is measured on it."""

    name: str
    open: Callable[[Path], AbstractContextManager[Site]]
    distributions: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    # Whether it is the real thing. An emulator knows little SQL.
    real: bool = True

    @property
    def possible(self) -> list[Configuration]:
        """The configurations whose packages are installed."""
        return [each for each in self.configurations if each.possible]


# -- databases -----------------------------------------------------------------


@contextmanager
def postgresql(_directory: Path) -> Iterator[Site]:
    with postgres_server() as server:

        def statements() -> int:
            asked = re.compile(r"LOG:  (?:statement|execute [^:]*): ")
            return len(asked.findall(server.log_since(0)))

        def log_statements(which: str) -> None:
            with server.admin() as admin:
                admin.execute(f"ALTER SYSTEM SET log_statement = '{which}'")
                admin.execute("SELECT pg_reload_conf()")
            time.sleep(0.5)  # sessions learn of it one by one

        yield Site(place_of(server), Log(statements, lambda: log_statements("none")))


def mysql_family(kind: str) -> Callable[[Path], AbstractContextManager[Site]]:
    """How to get one of the tests' servers, "mariadb" or "mysql"."""

    @contextmanager
    def opened(_directory: Path) -> Iterator[Site]:
        with mysql_server(kind) as server:

            def statements() -> int:
                asked = re.compile(r"\b(?:Query|Prepare|Execute)\t")
                return len(asked.findall(server.log_since(0)))

            def end() -> None:
                with server.admin() as admin, admin.cursor() as cursor:
                    cursor.execute("SET GLOBAL general_log = OFF")

            yield Site(place_of(server), Log(statements, end))

    return opened


@contextmanager
def oracle(_directory: Path) -> Iterator[Site]:
    with oracle_server() as server:

        def statements() -> int:
            return server.mark()

        yield Site(place_of(server), Log(statements, lambda: None))


def place_of(server: Any) -> dict[str, Any]:
    """Where one of the tests' servers is, in the words of DATABASES."""
    return {
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.database,
    }


@contextmanager
def sqlite(directory: Path) -> Iterator[Site]:
    yield Site({"NAME": str(directory / "bench.sqlite3")})


def pool(**options: Any) -> dict[str, Any]:
    return {"OPTIONS": {"pool": {"max_size": 4, **options}}}


POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"
MYSQL = "django.db.backends.mysql"
CONNECTOR = "mysql.connector.django"
ORACLE = "django.db.backends.oracle"

# SQLAlchemy's pool, for django-db-connection-pool.
SQLALCHEMY = {"POOL_OPTIONS": {"POOL_SIZE": 4, "MAX_OVERFLOW": 0}}

# The same on MariaDB and on MySQL.
MYSQLCLIENT = (
    Configuration(KEPT, MYSQL, {"CONN_MAX_AGE": 600}),
    Configuration(STOCK, MYSQL),
    Configuration(
        "django-db-connection-pool",
        "dj_db_conn_pool.backends.mysql",
        SQLALCHEMY,
        needs="dj_db_conn_pool",
    ),
    Configuration(OURS, "djpool.backends.mysql", pool()),
    Configuration("djpool, PyMySQL", "pymysql_backend", pool()),
)

DATABASES = (
    Database(
        "PostgreSQL",
        postgresql,
        ("psycopg", "psycopg-pool", "django-db-connection-pool", "SQLAlchemy"),
        (
            Configuration(KEPT, POSTGRESQL, {"CONN_MAX_AGE": 600}),
            Configuration(STOCK, POSTGRESQL),
            Configuration("Django's pool", POSTGRESQL, pool()),
            Configuration(
                "Django's pool, CONN_HEALTH_CHECKS",
                POSTGRESQL,
                {**pool(), "CONN_HEALTH_CHECKS": True},
            ),
            Configuration(
                "django-db-connection-pool",
                "dj_db_conn_pool.backends.postgresql",
                SQLALCHEMY,
                needs="dj_db_conn_pool",
            ),
            Configuration(
                OURS_NATIVE,
                "djpool.backends.postgresql",
                pool(implementation="native"),
            ),
            Configuration(
                OURS, "djpool.backends.postgresql", pool(implementation="fallback")
            ),
        ),
    ),
    Database(
        "MariaDB",
        mysql_family("mariadb"),
        ("mysqlclient", "PyMySQL", "django-db-connection-pool", "SQLAlchemy"),
        MYSQLCLIENT,
    ),
    Database(
        "MySQL",
        mysql_family("mysql"),
        ("mysqlclient", "PyMySQL", "django-db-connection-pool", "SQLAlchemy"),
        MYSQLCLIENT,
    ),
    Database(
        "MySQL-Connector",
        mysql_family("mysql"),
        ("mysql-connector-python",),
        (
            Configuration(KEPT, CONNECTOR, {"CONN_MAX_AGE": 600}),
            Configuration(STOCK, CONNECTOR),
            Configuration(
                "the driver's pool",
                CONNECTOR,
                {"OPTIONS": {"pool_size": 4, "pool_name": "bench"}},
            ),
            Configuration(
                OURS_NATIVE,
                "djpool.backends.mysql_connector",
                pool(implementation="native"),
            ),
            Configuration(
                OURS,
                "djpool.backends.mysql_connector",
                pool(implementation="fallback"),
            ),
        ),
    ),
    Database(
        "Oracle-emulated",
        oracle,
        ("oracledb",),
        (
            Configuration(KEPT, ORACLE, {"CONN_MAX_AGE": 600}),
            Configuration(STOCK, ORACLE),
            Configuration("Django's pool", ORACLE, {"OPTIONS": {"pool": {"max": 4}}}),
            Configuration(
                OURS_NATIVE, "djpool.backends.oracle", pool(implementation="native")
            ),
            Configuration(
                OURS, "djpool.backends.oracle", pool(implementation="fallback")
            ),
        ),
        real=False,
    ),
    Database(
        "SQLite",
        sqlite,
        (),
        (
            Configuration(KEPT, SQLITE, {"CONN_MAX_AGE": 600}),
            Configuration(STOCK, SQLITE),
            Configuration(OURS, "djpool.backends.sqlite3", pool()),
        ),
    ),
)
