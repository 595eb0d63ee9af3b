"""Every adapter, in each of its implementations, keeps what a pool promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg2 as psycopg2_itself
import pymysql
import pytest
from django.db import connections

from djpool.adapters import (
    dbapi,
    mysql_connector,
    mysqldb,
    oracledb,
    psycopg,
    psycopg2,
    sqlite3,
)
from djpool.core.adapter import Adapter, Connector
from djpool.core.options import Offer
from djpool.opener import Opener
from djpool.testing import PoolConformance
from tests.backends.engines import server_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import MakeAlias
    from tests.servers.mysql import MySQLFamilyServer
    from tests.servers.oracle import OracleServer
    from tests.servers.postgres import PostgresServer


def through_django(alias: str) -> Connector:
    """Connects as a pool of this alias does."""
    wrapper: Any = connections.create_connection(alias)
    opener = Opener(type(wrapper), wrapper.settings_dict, alias)
    return Connector(opener.connect, open=opener.open)


class TestSqlite3(PoolConformance):
    """A dead session is one whose file was replaced."""

    adapter = sqlite3.adapter

    @pytest.fixture
    def connector(self, make_alias: MakeAlias) -> Connector:
        alias = make_alias("sqlite3")
        self.path = Path(connections.settings[alias]["NAME"])
        return through_django(alias)

    def kill_sessions(self) -> None:
        copy = self.path.with_suffix(".copy")
        shutil.copy(self.path, copy)
        copy.replace(self.path)

    def set_manual(self, connection: Any) -> None:
        connection.isolation_level = "DEFERRED"


class OnServer(PoolConformance):
    """Connects as Django does, to a server that runs."""

    engine: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    server: Any

    @pytest.fixture
    def connector(
        self, make_alias: MakeAlias, request: pytest.FixtureRequest
    ) -> Connector:
        self.server = server_of(self.engine, request)
        return through_django(make_alias(self.engine, OPTIONS=self.options))

    def kill_sessions(self) -> None:
        self.server.kill_sessions()


class TestPsycopgNative(OnServer):
    adapter = psycopg.adapter
    implementation = "native"
    engine = "postgresql-native"


class TestPsycopgFallback(OnServer):
    adapter = psycopg.adapter
    engine = "postgresql-fallback"


class OnPsycopg2(OnServer):
    """Beside psycopg 3, which Django prefers: so without Django."""

    adapter = psycopg2.adapter

    def through_psycopg2(self, server: PostgresServer) -> Callable[[float], Any]:
        """How to connect to this server."""
        self.server = server
        parameters = server.connection_parameters()

        def connect(timeout: float) -> Any:
            limited = psycopg2.adapter.limit(parameters, timeout)
            connection = psycopg2_itself.connect(**limited)
            connection.autocommit = True
            return connection

        return connect


class TestPsycopg2(OnPsycopg2):
    @pytest.fixture
    def connector(self, postgres: PostgresServer) -> Connector:
        return Connector(self.through_psycopg2(postgres))


class OnMySQLdb(OnServer):
    adapter = mysqldb.adapter

    def set_manual(self, connection: Any) -> None:
        connection.autocommit(False)


class TestMysqlclientOnMariaDB(OnMySQLdb):
    engine = "mysql@mariadb"


class TestMysqlclientOnMySQL(OnMySQLdb):
    engine = "mysql@mysql"


class OnPyMySQL(OnMySQLdb):
    """Beside mysqlclient, for which it is a substitute: so without Django."""

    adapter = Adapter(offer=Offer(), driver=mysqldb.PyMySQLDriver)

    def through_pymysql(self, server: MySQLFamilyServer) -> Connector:
        """Connect to this server."""
        self.server = server
        parameters = server.connection_parameters(autocommit=True)

        def connect(timeout: float) -> Any:
            return pymysql.connect(**mysqldb.limit_connect(parameters, timeout))

        return Connector(connect)


class TestPyMySQLOnMariaDB(OnPyMySQL):
    @pytest.fixture
    def connector(self, mariadb: MySQLFamilyServer) -> Connector:
        return self.through_pymysql(mariadb)


class TestPyMySQLOnMySQL(OnPyMySQL):
    @pytest.fixture
    def connector(self, mysql: MySQLFamilyServer) -> Connector:
        return self.through_pymysql(mysql)


class OnMySQLConnector(OnServer):
    """Without TLS, for which it reads the system's certificates at each connect."""

    adapter = mysql_connector.adapter
    options: ClassVar = {"ssl_disabled": True}


class TestMySQLConnectorNative(OnMySQLConnector):
    implementation = "native"
    engine = "mysql_connector-native@mariadb"


class TestMySQLConnectorFallback(OnMySQLConnector):
    engine = "mysql_connector-fallback@mariadb"


class OnOracle(PoolConformance):
    """A transaction begins with a statement that changes something."""

    adapter = oracledb.adapter
    select = "SELECT 1 FROM DUAL"

    @pytest.fixture
    def connector(self, make_alias: MakeAlias, oracle: OracleServer) -> Connector:
        self.server = oracle
        return through_django(make_alias("oracle", **oracle.databases()))

    def kill_sessions(self) -> None:
        self.server.kill_sessions()

    def begin(self, connection: Any) -> None:
        self.set_manual(connection)


class TestOracleNative(OnOracle):
    implementation = "native"


class TestOracleFallback(OnOracle): ...


class TestAnyDriver(OnServer):
    """What djpool.pooled() takes for a backend of which it knows nothing."""

    adapter = dbapi.adapter("postgresql")
    engine = "postgresql-fallback"
    looks = knows_rest = False


class TestAnyOtherDriver(OnMySQLdb):
    """The same with a driver that does some things otherwise."""

    adapter = dbapi.adapter("mysql")
    engine = "mysql@mariadb"
    looks = knows_rest = False


class Psycopg2Speaker:
    """Psycopg2, as Django's backend speaks to it. Beside psycopg 3 it does not."""

    def __init__(self) -> None:
        self.connection: Any = None

    def inc_thread_sharing(self) -> None: ...

    def is_usable(self) -> bool:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2_itself.Error:
            return False
        return True

    def _rollback(self) -> None:
        self.connection.rollback()

    def _set_autocommit(self, autocommit: bool) -> None:
        self.connection.autocommit = autocommit

    def _close(self) -> None:
        self.connection.close()


class TestAnyDriverThatOverlooksABegin(OnPsycopg2):
    """With autocommit on, psycopg2 does not roll back one sent as a statement."""

    adapter = dbapi.adapter("postgresql")
    looks = knows_rest = False

    @pytest.fixture
    def connector(self, postgres: PostgresServer) -> Connector:
        connect = self.through_psycopg2(postgres)
        return Connector(
            connect, open=lambda timeout: (connect(timeout), Psycopg2Speaker())
        )
