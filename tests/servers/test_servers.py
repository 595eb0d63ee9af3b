"""The servers and the proxy do as they are told, or the other tests prove nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest

from tests.servers import mariadb as mariadb_module
from tests.servers import mysql as mysql_module
from tests.servers import pgbouncer as pgbouncer_module
from tests.servers import postgres as postgres_module
from tests.servers.mariadb import MariaDBServer
from tests.servers.mysql import MySQLFamilyServer, MySQLServer
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer, find_bin_directory
from tests.servers.process import HOST, ServerError, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeProxy
    from tests.servers.proxy import Proxy


def test_wait_until_gives_up_by_name() -> None:
    """A wait in vain ends in time and says what it waited for."""
    with pytest.raises(ServerError, match="the moon"):
        wait_until(lambda: False, "the moon", timeout=0.05)


def test_a_free_port_is_never_one_for_outgoing_connections() -> None:
    """A client of a stopped server cannot take its port, or talk to itself."""
    port = free_port()
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert port < int(first)


class TestPostgres:
    """The database server. These tests restart it, so its sessions are theirs."""

    def test_it_runs_without_privileges(self, postgres: PostgresServer) -> None:
        """PostgreSQL refuses root; so it has another account then."""
        assert postgres.running
        assert postgres.account.uid != 0

    def test_the_plain_role_is_plain(self, postgres: PostgresServer) -> None:
        """It logs in by password, creates databases, and is no superuser."""
        query = (
            "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            assert connection.execute(query).fetchone() == (False, True)
            assert connection.pgconn.used_password

    def test_the_superuser_is_one(self, postgres: PostgresServer) -> None:
        """What only a superuser can do, a test can do."""
        with postgres.admin() as admin:
            assert admin.execute("SHOW is_superuser").fetchone() == ("on",)

    def test_a_wrong_password_is_refused(self, postgres: PostgresServer) -> None:
        """Passwords are really checked, as they would not be with "trust"."""
        wrong = postgres.connection_parameters(password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication"):
            psycopg.connect(**wrong)

    def test_it_listens_on_tcp_only(self, postgres: PostgresServer) -> None:
        """No socket file is left in a directory that others use too."""
        with postgres.admin() as admin:
            row = admin.execute("SHOW unix_socket_directories").fetchone()
        assert row == ("",)

    def test_the_log_tells_what_was_asked_since_a_mark(
        self, postgres: PostgresServer
    ) -> None:
        """A statement is in the log by the time its result is here."""
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            connection.execute("SELECT 'before'")
            mark = postgres.mark()
            connection.execute("SELECT 'after'")
            logged = postgres.log_since(mark)
        assert "SELECT 'after'" in logged
        assert "SELECT 'before'" not in logged

    def test_killed_sessions_are_gone(self, postgres: PostgresServer) -> None:
        """The server has none of them left, and their clients find out."""
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            assert postgres.sessions() == 1
            assert postgres.kill_sessions() == 1
            assert postgres.sessions() == 0
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_restart_keeps_the_data_and_no_session(
        self, postgres: PostgresServer, mode: postgres_module.StopMode
    ) -> None:
        """The same address works again; an open session does not."""
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.commit()
            postgres.restart(mode)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            connection.execute("DROP TABLE kept")

    def test_a_stopped_server_refuses(self, postgres: PostgresServer) -> None:
        """Nobody listens, and a start makes it as it was."""
        postgres.stop()
        try:
            assert not postgres.running
            with pytest.raises(psycopg.OperationalError, match="refused"):
                psycopg.connect(**postgres.connection_parameters())
        finally:
            postgres.start()
        psycopg.connect(**postgres.connection_parameters()).close()

    def test_a_frozen_server_says_nothing_until_it_is_thawed(
        self, postgres: PostgresServer
    ) -> None:
        """Not in a session that is open, either: that is a process of its own."""
        with psycopg.connect(**postgres.connection_parameters()) as connection:
            pgconn = connection.pgconn
            postgres.freeze()
            try:
                pgconn.send_query(b"SELECT 'late'")
                ready, _, _ = select.select([pgconn.socket], [], [], 0.3)
                assert not ready
            finally:
                postgres.thaw()
            result = pgconn.get_result()
            assert result is not None
            assert result.get_value(0, 0) == b"late"
            assert pgconn.get_result() is None

    def test_a_crashed_server_starts_again(self, postgres: PostgresServer) -> None:
        """One that ended by itself leaves nothing in the way of the next."""
        pid_file = postgres.directory / "data" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        wait_until(lambda: not postgres.running, "the server to crash")
        postgres.start()
        psycopg.connect(**postgres.connection_parameters()).close()

    def test_a_failed_start_says_why(self, postgres: PostgresServer) -> None:
        """The error has the server's own words, and the next start is not hindered."""
        configuration = postgres.directory / "data" / "postgresql.conf"
        good = configuration.read_text()
        postgres.stop()
        try:
            configuration.write_text(good + "max_connections = many\n")
            with pytest.raises(ServerError, match='"max_connections": "many"'):
                postgres.start()
        finally:
            configuration.write_text(good)
            postgres.start()

    def test_a_missing_server_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A machine without PostgreSQL fails the tests; it does not skip them."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(postgres_module, "DEBIAN", tmp_path)
        find_bin_directory.cache_clear()
        try:
            with pytest.raises(ServerError, match="need a PostgreSQL server"):
                PostgresServer()
        finally:
            find_bin_directory.cache_clear()


@pytest.fixture(params=["mariadb", "mysql"])
def kin(request: pytest.FixtureRequest) -> MySQLFamilyServer:
    """Give each server of MySQL's family, running. Who stops it starts it again."""
    server: MySQLFamilyServer = request.getfixturevalue(request.param)
    return server


class TestMySQLFamily:
    """MariaDB and MySQL. These tests restart them, so their sessions are theirs."""

    def test_each_is_what_it_is_called(
        self, mariadb: MariaDBServer, mysql: MySQLServer
    ) -> None:
        """MariaDB is also known as mysqld; MySQL's newest authentication is wanted."""
        with mariadb.admin() as admin:
            assert "MariaDB" in value(admin, "SELECT version()")
        with mysql.admin() as admin:
            version = value(admin, "SELECT version()")
            assert "MariaDB" not in version
            assert int(version.split(".")[0]) >= 9

    def test_it_runs_without_privileges(self, kin: MySQLFamilyServer) -> None:
        """Root starts it as another account."""
        assert kin.running
        assert kin.account.uid != 0

    def test_the_plain_account_is_plain(self, kin: MySQLFamilyServer) -> None:
        """It logs in by password, creates databases for tests, and no accounts."""
        with pymysql.connect(**kin.connection_parameters()) as connection:
            assert value(connection, "SELECT @@character_set_database") == "utf8mb4"
            execute(connection, "CREATE DATABASE test_servers")
            execute(connection, "CREATE TABLE test_servers.made (n int)")
            execute(connection, "DROP DATABASE test_servers")
            with pytest.raises(pymysql.OperationalError, match="CREATE USER"):
                execute(connection, "CREATE USER another")

    def test_the_superuser_is_one(self, kin: MySQLFamilyServer) -> None:
        """What only a superuser can do, a test can do, over TCP too."""
        account = {"user": kin.superuser, "password": kin.superuser_password}
        count = f"SELECT count(*) FROM mysql.user WHERE user = '{kin.user}'"
        with pymysql.connect(**kin.connection_parameters(**account)) as connection:
            assert value(connection, count) == 1
        with kin.admin() as admin:
            assert value(admin, count) == 1

    @pytest.mark.parametrize("user", ["djpool", "admin", "root", ""])
    @pytest.mark.parametrize("password", ["wrong", ""])
    def test_a_wrong_password_is_refused(
        self, kin: MySQLFamilyServer, user: str, password: str
    ) -> None:
        """Nobody gets in without one, nor by an account that came with the server."""
        wrong = kin.connection_parameters(user=user, password=password)
        with pytest.raises(pymysql.OperationalError, match="Access denied"):
            pymysql.connect(**wrong)

    def test_its_socket_is_its_own(self, kin: MySQLFamilyServer) -> None:
        """No socket file is left in a directory that others use too."""
        with kin.admin() as admin:
            assert value(admin, "SELECT @@socket") == str(kin.socket)
        assert kin.directory.stat().st_mode & 0o077 == 0

    def test_the_log_tells_what_was_asked_since_a_mark(
        self, kin: MySQLFamilyServer
    ) -> None:
        """A statement is in the log by the time its result is here."""
        with pymysql.connect(**kin.connection_parameters()) as connection:
            value(connection, "SELECT 'before'")
            mark = kin.mark()
            value(connection, "SELECT 'after'")
            logged = kin.log_since(mark)
        assert "SELECT 'after'" in logged
        assert "SELECT 'before'" not in logged

    def test_killed_sessions_are_gone(self, kin: MySQLFamilyServer) -> None:
        """The server has none of them left, and their clients find out."""
        with pymysql.connect(**kin.connection_parameters()) as connection:
            assert kin.sessions() == 1
            assert kin.kill_sessions() == 1
            assert kin.sessions() == 0
            with pytest.raises(pymysql.OperationalError):
                value(connection, "SELECT 1")

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_restart_keeps_the_data_and_no_session(
        self, kin: MySQLFamilyServer, mode: mysql_module.StopMode
    ) -> None:
        """The same address works again; an open session does not."""
        with pymysql.connect(**kin.connection_parameters()) as connection:
            execute(connection, "CREATE TABLE kept (n int)")
            execute(connection, "INSERT INTO kept VALUES (1)")
            connection.commit()
            kin.restart(mode)
            with pytest.raises(pymysql.OperationalError):
                execute(connection, "SELECT 1")
        with pymysql.connect(**kin.connection_parameters()) as connection:
            assert value(connection, "SELECT n FROM kept") == 1
            execute(connection, "DROP TABLE kept")

    def test_a_stopped_server_refuses(self, kin: MySQLFamilyServer) -> None:
        """Nobody listens, and a start makes it as it was."""
        kin.stop()
        try:
            assert not kin.running
            with pytest.raises(pymysql.OperationalError, match="refused"):
                pymysql.connect(**kin.connection_parameters())
        finally:
            kin.start()
        pymysql.connect(**kin.connection_parameters()).close()

    def test_a_crashed_server_starts_again(self, kin: MySQLFamilyServer) -> None:
        """One that ended by itself leaves nothing in the way of the next."""
        os.kill(int((kin.directory / "pid").read_text()), signal.SIGKILL)
        wait_until(lambda: not kin.running, "the server to crash")
        kin.start()
        pymysql.connect(**kin.connection_parameters()).close()

    def test_a_failed_start_says_why(self, kin: MySQLFamilyServer) -> None:
        """The error has the server's own words, and the next start is not hindered."""
        good = kin.configuration.read_text()
        kin.stop()
        try:
            kin.configuration.write_text(good + "no_such_thing = ON\n")
            with pytest.raises(ServerError, match="unknown variable 'no_such_thing=ON"):
                kin.start()
        finally:
            kin.configuration.write_text(good)
            kin.start()

    def test_a_missing_mariadb_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A machine without it fails the tests; it does not skip them."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(mariadb_module, "SYSTEM", str(tmp_path))
        with pytest.raises(ServerError, match="need a MariaDB server"):
            MariaDBServer()

    def test_a_missing_mysql_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The error says where to get one."""
        monkeypatch.setattr(mysql_module, "ARCHIVE", tmp_path / "mysql.tar")
        with pytest.raises(ServerError, match=r"need a MySQL server.*fetch-mysql"):
            MySQLServer()

    def test_a_damaged_mysql_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Half an archive is no server, and nothing of it stays behind."""
        half = tmp_path / "mysql.tar"
        with mysql_module.ARCHIVE.open("rb") as archive:
            half.write_bytes(archive.read(20_000_000))
        monkeypatch.setattr(mysql_module, "ARCHIVE", half)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(ServerError, match=f"cannot unpack {half}"):
            MySQLServer()
        assert list(tmp_path.iterdir()) == [half]


class TestPgBouncer:
    """The pooler before the server, in transaction mode."""

    def test_it_runs_without_privileges(self, pgbouncer: PgBouncer) -> None:
        assert pgbouncer.running
        assert pgbouncer.account.uid != 0

    def test_it_hands_on_what_clients_ask(
        self, pgbouncer: PgBouncer, postgres: PostgresServer
    ) -> None:
        """And says what it does itself, over a console."""
        port = pgbouncer.ask("SELECT inet_server_port() AS port")
        assert port == [{"port": postgres.port}]
        assert pgbouncer.pools()["pool_mode"] == "transaction"

    def test_a_wrong_password_is_refused(self, pgbouncer: PgBouncer) -> None:
        with pytest.raises(psycopg.OperationalError, match="SASL authentication"):
            psycopg.connect(
                host=pgbouncer.host,
                port=pgbouncer.port,
                user=pgbouncer.user,
                password="wrong",
                dbname=pgbouncer.database,
            )

    def test_a_missing_program_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres: PostgresServer
    ) -> None:
        """A machine without it fails the tests; it does not skip them."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(pgbouncer_module, "SYSTEM", str(tmp_path))
        with pytest.raises(ServerError, match="need PgBouncer"):
            PgBouncer(postgres)


@pytest.mark.parametrize(
    "server", ["postgres.PostgresServer", "mariadb.MariaDBServer", "mysql.MySQLServer"]
)
def test_nothing_survives_a_killed_test_run(server: str) -> None:
    """Not even SIGKILL leaves a server or its files behind."""
    module, name = server.split(".")
    program = (
        f"from tests.servers.{module} import {name} as Server; s = Server();"
        "s.start(); print(s.port, s.directory, flush=True); input()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        port, directory = run.stdout.readline().split()
        assert accepts(int(port))
        os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not accepts(int(port)), "the orphan to end")
    wait_until(lambda: not Path(directory).exists(), "its files to go")


class TestProxy:
    """The proxy, with a server that echoes."""

    def test_it_forwards_and_counts(self, echo: Proxy) -> None:
        """What goes in comes out, both ways, and is counted once."""
        with connect(echo) as client:
            assert ask(client, b"four") == b"four"
            assert echo.connections == 1
        wait_until(lambda: echo.connections == 0, "the link to end with its client")
        assert (echo.bytes_to_server, echo.bytes_to_client) == (4, 4)
        assert echo.accepted_total == 1

    def test_stopped_it_refuses_and_lets_the_open_go_on(self, echo: Proxy) -> None:
        """A stop is for those who come; resume() listens on the same port."""
        with connect(echo) as client:
            ask(client)
            echo.stop()
            with pytest.raises(ConnectionRefusedError):
                connect(echo)
            assert ask(client)
            echo.resume()
            with connect(echo) as another:
                assert ask(another)

    def test_paused_it_holds_back(self, echo: Proxy) -> None:
        """Nothing comes while it is paused; everything comes after."""
        with connect(echo) as client:
            ask(client)
            echo.pause()
            with connect(echo) as another:
                for waiting in (client, another):
                    waiting.sendall(b"held")
                    assert is_silent(waiting)
                echo.resume()
                for waiting in (client, another):
                    assert waiting.recv(10) == b"held"

    def test_an_answer_can_be_cut_in_two(self, echo: Proxy) -> None:
        """The first part comes, the second only when it goes on."""
        with connect(echo) as client:
            echo.pause_after(b"one")
            client.sendall(b"one two")
            received = b""
            while len(received) < 3:
                received += client.recv(10)
            assert received == b"one"
            assert is_silent(client)
            echo.resume()
            assert client.recv(10) == b" two"
            assert ask(client, b"one more") == b"one more"

    def test_a_black_hole_never_answers(self, echo: Proxy) -> None:
        """Whoever was in it hears nothing any more; who comes after it is served."""
        with connect(echo) as client:
            ask(client)
            echo.black_hole()
            with connect(echo) as another:
                for lost in (client, another):
                    lost.sendall(b"lost")
                    assert is_silent(lost)
                echo.resume()
                for lost in (client, another):
                    lost.sendall(b"lost")
                    assert is_silent(lost)
        with connect(echo) as client:
            assert ask(client)
        assert echo.bytes_to_server == echo.bytes_to_client == 4 + 4

    @pytest.mark.parametrize("mode", ["resume", "pause", "black_hole"])
    def test_a_cut_ends_what_is_open(self, echo: Proxy, mode: str) -> None:
        """Whatever the mode, all are ended when cut() returns; new ones may come."""
        with connect(echo) as client, connect(echo) as another:
            ask(client)
            ask(another)
            getattr(echo, mode)()
            assert echo.cut() == 2
            assert echo.connections == 0
            assert client.recv(10) == another.recv(10) == b""
        echo.resume()
        with connect(echo) as client:
            assert ask(client)

    def test_a_dead_server_is_passed_on(self, proxy: MakeProxy) -> None:
        """Without a server behind it, a connection ends at once."""
        with connect(proxy(HOST, free_port())) as client:
            assert client.recv(10) == b""

    def test_a_database_goes_through(
        self, postgres: PostgresServer, proxy: MakeProxy
    ) -> None:
        """The protocol does not notice it, until it fails."""
        way = proxy(postgres.host, postgres.port)
        parameters = postgres.connection_parameters(port=way.port)
        with psycopg.connect(**parameters) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            way.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        wait_until(lambda: postgres.sessions() == 0, "the server to notice")


@pytest.fixture
def echo(proxy: MakeProxy) -> Iterator[Proxy]:
    """Give a proxy in front of a server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=send_back, args=[connection]).start()

    def send_back(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)

    with socket.create_server((HOST, free_port())) as listener:
        server = threading.Thread(target=serve)
        server.start()
        way = proxy(*listener.getsockname())
        yield way
        way.close()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def connect(way: Proxy) -> socket.socket:
    """Connect to a proxy; no wait on the socket lasts longer than five seconds."""
    return socket.create_connection((way.host, way.port), timeout=5)


def ask(client: socket.socket, question: bytes = b"hear") -> bytes:
    """Send something and return what comes back."""
    client.sendall(question)
    return client.recv(100)


def is_silent(client: socket.socket) -> bool:
    """Whether nothing comes for a moment, not even the end."""
    client.settimeout(0.15)
    try:
        client.recv(100)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def execute(connection: pymysql.Connection, query: str) -> tuple[tuple[Any, ...], ...]:
    """Return the rows that a query gives."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
    return rows


def value(connection: pymysql.Connection, query: str) -> Any:
    """Return the only value that a query gives."""
    ((answer,),) = execute(connection, query)
    return answer
