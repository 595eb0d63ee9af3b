"""`manage.py poolstats`, run as people run it, beside processes that have pools.

Those are workers with made-up figures: what a pool counts is tested elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from prometheus_client.parser import text_string_to_metric_families

from djpool.core.stats import PoolStats, total
from djpool.management import server as server_module
from djpool.management.server import ServerFigures, Servers, server_figures
from djpool.management.table import draw
from djpool.monitor import process
from djpool.monitor.read import ProcessReading
from tests.monitor.helpers import Worker, make_stats
from tests.servers.process import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.postgres import PostgresServer

SETTINGS = "tests.monitor.settings"
ROOT = Path(__file__).parent.parent
TEN = ["default", *(f"tenant{number}" for number in range(1, 10))]


class Start(Protocol):
    """What the `start` fixture gives."""

    def __call__(
        self,
        pools: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        fork: bool = False,
    ) -> Worker:
        """Start a worker of the project of the tests."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give the environment of the command and of the workers."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "DJPOOL_STATS_DIR": str(tmp_path / "sockets"),
        "PYTHONPATH": os.pathsep.join(paths),
        "COLUMNS": "120",
    }


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Give a function that starts a worker; all end after the test."""
    with ExitStack() as workers:
        yield lambda pools=None, *, fork=False: workers.enter_context(
            Worker(None, pools, fork=fork, env=environment)
        )


Poolstats = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def poolstats(environment: dict[str, str]) -> Poolstats:
    """Give a function that runs the command and checks its exit status."""

    def run(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "django", "poolstats", *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_where_nobody_runs_that_is_said(poolstats: Poolstats) -> None:
    """It is no failure: a project may have no workers just now."""
    done = poolstats()
    assert done.stdout == "No running process shows pools.\n"
    assert done.stderr == ""


def test_every_running_process_has_a_row(poolstats: Poolstats, start: Start) -> None:
    """And each database a sum, if there are several."""
    first = start({"default": {"in_use": 4, "size": 6}, "other": {}})
    second = start()
    lines = poolstats().stdout.splitlines()
    cells = [line.split() for line in lines]
    assert cells[0][:3] == ["PID", "DATABASE", "POOL"]
    assert {(row[0], row[1]) for row in cells[1:]} == {
        (str(first.pid), "default"),
        (str(first.pid), "other"),
        (str(second.pid), "default"),
        ("all", "default"),
    }
    assert cells[-1][:6] == ["all", "default", "fallback", "9/20", "5", "4"]
    assert max(map(len, lines)) <= 120


def test_a_forked_worker_has_a_row_of_its_own(
    poolstats: Poolstats, start: Start
) -> None:
    """The child of a server that has pools itself, and serves beside it."""
    worker = start(fork=True)
    told = json.loads(poolstats("--format", "json").stdout)
    assert [each["pid"] for each in told["processes"]] == sorted(worker.paths)
    assert worker.end() == ""
    assert "No running process" in poolstats().stdout


def test_json_has_every_figure(poolstats: Poolstats, start: Start) -> None:
    """In the documented shape, and nothing else on standard output."""
    workers = [start({"default": {"in_use": 4}}), start()]
    done = poolstats("--format", "json")
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert list(told) == ["processes", "totals", "server", "notes"]
    readings = told["processes"]
    assert [each["pid"] for each in readings] == sorted(each.pid for each in workers)
    for reading in readings:
        assert set(reading) == {
            "pid",
            "user",
            "command",
            "uptime_seconds",
            "pools",
            "suspended",
        }
        assert reading["user"] == process.user_name(os.geteuid())
        assert "worker.py" in reading["command"]
        assert reading["uptime_seconds"] >= 0
    pools = [PoolStats.from_dict(each["pools"]["default"]) for each in readings]
    assert told["totals"] == {"default": total(pools).as_dict()}
    assert told["totals"]["default"]["in_use"] == 5
    assert told["server"] == {"default": None, "other": None}
    assert told["notes"] == []


def test_prometheus_gets_metrics_only(
    poolstats: Poolstats, start: Start, tmp_path: Path
) -> None:
    """Notes are for people: they go to standard error."""
    workers = [start(), start({"default": {}, "other": {}})]
    (tmp_path / "sockets" / "stray.txt").touch()
    done = poolstats("--format", "prometheus")
    metrics = {
        metric.name: metric for metric in text_string_to_metric_families(done.stdout)
    }
    pools = {
        (sample.labels["pid"], sample.labels["alias"])
        for sample in metrics["djpool_acquired"].samples
    }
    first, second = (str(worker.pid) for worker in workers)
    assert pools == {(first, "default"), (second, "default"), (second, "other")}
    assert "stray.txt" in done.stderr
    assert poolstats("--format", "prometheus", "--database", "other").stdout


def test_one_database_of_one_process(poolstats: Poolstats, start: Start) -> None:
    first = start({"default": {}, "other": {}})
    start({"default": {}})
    words = ("--format", "json", "--database", "other")
    for more in ((), ("--pid", first.pid)):
        told = json.loads(poolstats(*words, *more).stdout)
        assert [each["pid"] for each in told["processes"]] == [first.pid]
        assert list(told["processes"][0]["pools"]) == ["other"]
        assert list(told["totals"]) == list(told["server"]) == ["other"]


def test_what_could_not_be_seen_is_noted(poolstats: Poolstats, start: Start) -> None:
    stopped, killed = start(), start()
    stopped.signal(signal.SIGSTOP)
    wait_until(lambda: process.is_stopped(stopped.pid), "a process to stop")
    killed.kill()
    done = poolstats()
    assert done.stdout.splitlines() == [
        "No running process shows pools.",
        f"note: Process {stopped.pid} is stopped (SIGSTOP, a debugger): no answer.",
    ]
    done = poolstats("--pid", stopped.pid, status=1)
    assert f"Process {stopped.pid} is stopped" in done.stderr


def test_the_worker_dies_and_its_row_is_gone(
    poolstats: Poolstats, start: Start
) -> None:
    victim, other = start(), start()
    assert str(victim.pid) in poolstats().stdout
    victim.kill()
    lines = poolstats().stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["PID", str(other.pid)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--database", "nowhere"),
            "--database 'nowhere' is unknown; known: default, other, plain",
        ),
        (("--database", "plain"), "Databases with a pool: default, other"),
        (("--pid", "0"), "--pid must be 1 or more, not 0"),
        (("--pid", "1"), "--pid 1: no such process with pools; there are: none."),
        (("--fail-above", "101"), "from 0 to 100 (percent), not 101"),
        (("--fail-above", "-0.5"), "from 0 to 100 (percent), not -0.5"),
        (("--fail-above", "nan"), "from 0 to 100 (percent), not nan"),
        (("--watch", "0"), "--watch must be from 0.1 to 86400 (seconds), not 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    poolstats: Poolstats, words: tuple[str, ...], message: str
) -> None:
    done = poolstats(*words, status=1)
    assert message in done.stderr
    assert done.stdout == ""


def test_the_processes_there_are_named_where_one_is_not(
    poolstats: Poolstats, start: Start
) -> None:
    worker = start()
    done = poolstats("--pid", 1, status=1)
    assert f"there are: {worker.pid}." in done.stderr


def test_a_place_that_will_not_do_is_refused(
    poolstats: Poolstats, environment: dict[str, str]
) -> None:
    environment["DJPOOL_STATS_DIR"] = "run"
    done = poolstats(status=1)
    assert "DJPOOL_STATS_DIR must be an absolute path, not 'run'" in done.stderr


def test_a_full_pool_fails_the_command(poolstats: Poolstats, start: Start) -> None:
    """Above means above; the figures are shown all the same."""
    worker = start({"default": {"in_use": 9}, "other": {"in_use": 10}})
    done = poolstats("--fail-above", 90, status=1)
    pid = worker.pid
    assert f"Above 90 %: other of process {pid}: 10 of 10 in use\n" in done.stderr
    assert "WAIT P99" in done.stdout
    poolstats("--fail-above", 100)
    poolstats("--fail-above", 90, "--database", "default")
    done = poolstats("--fail-above", 0, "--format", "json", status=1)
    assert json.loads(done.stdout)["totals"]["other"]["in_use"] == 10


def test_without_any_pool_in_the_settings_that_is_said(
    poolstats: Poolstats, environment: dict[str, str]
) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    environment["DJPOOL_TESTS_DATABASES"] = json.dumps({"default": database})
    assert 'No database of these settings has OPTIONS["pool"]' in poolstats().stdout


def test_watching_ends_with_an_interrupt(
    environment: dict[str, str], start: Start
) -> None:
    """Each look is a line of its own in JSON; ^C is no failure."""
    worker = start()
    command = [sys.executable, "-m", "django", "poolstats", "--watch", "0.1"]
    with subprocess.Popen(
        [*command, "--format", "json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        for _ in range(3):
            told = json.loads(watching.stdout.readline())
            assert [each["pid"] for each in told["processes"]] == [worker.pid]
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=60)
        assert watching.returncode == 0
        assert errors == ""


def test_watching_ends_when_a_pool_is_full(poolstats: Poolstats, start: Start) -> None:
    start({"default": {"in_use": 10}})
    done = poolstats("--watch", "--fail-above", 90, status=1)
    assert "10 of 10 in use" in done.stderr
    assert done.stdout.endswith("\n\n")


def test_two_containers_with_one_number_are_two_rows(
    poolstats: Poolstats, start: Start
) -> None:
    """Prometheus gets their sum: it takes no labels twice."""
    worker = start({"default": {}})
    path = worker.path
    twin = path.with_name(path.name.replace(".sock", "-00ff.sock"))
    twin.hardlink_to(path)
    told = json.loads(poolstats("--format", "json").stdout)
    assert [each["pid"] for each in told["processes"]] == [worker.pid] * 2
    text = poolstats("--format", "prometheus").stdout
    (line,) = [line for line in text.splitlines() if "djpool_acquired_total{" in line]
    assert line.endswith(" 16")


# ---- the server's own words ------------------------------------------------------


def test_the_server_says_how_many_it_has(
    poolstats: Poolstats, environment: dict[str, str], postgres: PostgresServer
) -> None:
    """Also the connections of others, and not the one that it was asked over."""
    environment["DJPOOL_TESTS_DATABASES"] = json.dumps(
        {"default": postgres_settings(postgres)}
    )
    with postgres.admin(), postgres.admin(postgres.database):
        told = json.loads(poolstats("--format", "json").stdout)
        table = poolstats().stdout
        metrics = poolstats("--format", "prometheus").stdout
    assert told["server"] == {
        "default": {
            "vendor": "postgresql",
            "connections": 2,
            "in_database": 1,
            "max_connections": 100,
            "reserved": 3,
        }
    }
    assert told["notes"] == []
    assert (
        "server of default: 2 connections (1 to this database) "
        "of at most 100, 3 of them for administrators\n"
    ) in table
    labels = '{alias="default",vendor="postgresql"}'
    assert f"djpool_server_connections{labels} 2\n" in metrics
    assert f"djpool_server_connections_max{labels} 100\n" in metrics


def test_a_pools_credentials_are_used(
    poolstats: Poolstats, environment: dict[str, str], postgres: PostgresServer
) -> None:
    """The settings have no password where the pool fetches one."""
    database = postgres_settings(postgres)
    environment["PGPASSWORD_OF_THE_TESTS"] = database.pop("PASSWORD")
    database["OPTIONS"]["pool"] = {"credentials": "tests.test_poolstats.credentials"}
    environment["DJPOOL_TESTS_DATABASES"] = json.dumps({"default": database})
    told = json.loads(poolstats("--format", "json").stdout)
    assert told["notes"] == []
    assert told["server"]["default"]["max_connections"] == 100


def credentials() -> dict[str, str]:
    """Return the password as a vault would."""
    return {"password": os.environ["PGPASSWORD_OF_THE_TESTS"]}


def test_a_server_that_is_down_is_a_note(
    poolstats: Poolstats, environment: dict[str, str], start: Start
) -> None:
    """With the driver's words. The processes are shown: they may tell why."""
    worker = start()
    environment["DJPOOL_TESTS_DATABASES"] = json.dumps(
        {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "shop",
                "HOST": "127.0.0.1",
                "PORT": str(free_port()),
                "OPTIONS": {"pool": True},
            }
        }
    )
    told = json.loads(poolstats("--format", "json").stdout)
    assert [each["pid"] for each in told["processes"]] == [worker.pid]
    assert told["server"] == {"default": None}
    (note,) = told["notes"]
    assert note.startswith("The server of 'default' does not say: connection failed")
    assert "refused" in note


def test_a_silent_server_is_asked_once_for_all_its_databases(
    poolstats: Poolstats, environment: dict[str, str], start: Start
) -> None:
    """It takes connections and never answers; the processes are shown all the same."""
    worker = start()
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        environment["DJPOOL_TESTS_DATABASES"] = json.dumps(
            {
                alias: {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": f"shop{alias}",
                    "HOST": "127.0.0.1",
                    "PORT": str(silent.getsockname()[1]),
                    "OPTIONS": {"pool": {"max_size": 1 + number}, "connect_timeout": 2},
                }
                for number, alias in enumerate(TEN)
            }
        )
        told = json.loads(poolstats("--format", "json").stdout)
        silent.setblocking(False)
        clients = []
        with suppress(BlockingIOError):
            while True:
                clients.append(silent.accept()[0])
    for client in clients:
        client.close()
    assert len(clients) == 1
    assert [each["pid"] for each in told["processes"]] == [worker.pid]
    assert told["server"] == dict.fromkeys(TEN)
    (note,) = told["notes"]
    named = ", ".join(map(repr, TEN))
    assert note.startswith(f"The server of {named} does not say: connection ")


def test_one_connection_asks_for_every_database_of_a_server(
    poolstats: Poolstats, environment: dict[str, str], postgres: PostgresServer
) -> None:
    """One that is missing is refused, and noted; the others are asked for then."""
    known = postgres_settings(postgres)
    environment["DJPOOL_TESTS_DATABASES"] = json.dumps(
        {
            "default": known | {"NAME": "nowhere"},
            "shop": known,
            "twin": known,
            "admin": known | {"NAME": "postgres"},
        }
    )
    with postgres.admin(), postgres.admin(postgres.database):
        told = json.loads(poolstats("--format", "json").stdout)
    assert told["server"]["default"] is None
    (note,) = told["notes"]
    assert note.startswith("The server of 'default' does not say: connection failed")
    in_database = {}
    for alias in ("shop", "twin", "admin"):
        assert told["server"][alias]["connections"] == 2
        in_database[alias] = told["server"][alias]["in_database"]
    assert in_database == {"shop": 1, "twin": 1, "admin": 1}


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give the settings of three aliases, each with a server of its own."""
    settings: dict[str, Any] = {
        alias: {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "shop",
            "HOST": alias,
            "OPTIONS": {},
        }
        for alias in ("one", "two", "three")
    }
    monkeypatch.setattr(
        server_module, "connections", SimpleNamespace(settings=settings)
    )
    return settings


def test_servers_are_asked_side_by_side(
    monkeypatch: pytest.MonkeyPatch, servers: Mapping[str, Any]
) -> None:
    """None answers before all have been asked."""
    together = threading.Barrier(len(servers))

    def connect(alias: str) -> Any:
        together.wait(30)
        return fake_postgresql(len(alias))

    monkeypatch.setattr(server_module, "PATIENCE", 60.0)
    monkeypatch.setattr(server_module, "unpooled", connect)
    figures, notes = Servers().ask(servers)
    assert notes == []
    told = {alias: each and each.connections for alias, each in figures.items()}
    assert told == {"one": 3, "two": 3, "three": 5}


def test_a_server_that_owes_an_answer_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, servers: Mapping[str, Any]
) -> None:
    """Or watching a silent server would start a thread with each look."""
    asked: list[str] = []
    answer = threading.Event()

    def connect(alias: str) -> Any:
        asked.append(alias)
        if alias == "two":
            answer.wait(30)
        return fake_postgresql(7)

    monkeypatch.setattr(server_module, "PATIENCE", 0.2)
    monkeypatch.setattr(server_module, "unpooled", connect)
    asking = Servers()
    for looks in (1, 2):
        figures, notes = asking.ask(servers)
        assert notes == ["The server of 'two' does not say: no answer within 0.2 s"]
        assert [alias for alias, each in figures.items() if each is None] == ["two"]
        assert asked.count("one") == looks
        assert asked.count("two") == 1
    monkeypatch.setattr(server_module, "PATIENCE", 60.0)
    answer.set()
    figures, notes = asking.ask(servers)
    assert notes == []
    assert None not in figures.values()


def test_where_no_thread_can_be_started_servers_are_asked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, servers: Mapping[str, Any]
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(server_module, "unpooled", lambda alias: fake_postgresql(7))
    figures, notes = Servers().ask(servers)
    assert notes == []
    assert None not in figures.values()


@pytest.mark.parametrize(("told", "connects"), [(41, ["one"]), (1, ["one", "two"])])
def test_behind_a_pooler_each_database_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    servers: dict[str, Any],
    told: int,
    connects: list[str],
) -> None:
    """It may have a server for each; else one connection tells of both databases."""
    del servers["three"]
    servers["two"] |= {"HOST": "one", "NAME": "admin"}
    asked: list[str] = []

    def connect(alias: str) -> Any:
        asked.append(alias)
        connection = fake_postgresql(7, (41,), (2,))
        connection.connection.info.backend_pid = told
        return connection

    monkeypatch.setattr(server_module, "unpooled", connect)
    figures, notes = Servers().ask(servers)
    assert notes == []
    assert asked == connects
    in_database = [each and each.in_database for each in figures.values()]
    assert in_database == [1, 2 if told == 41 else 1]


def fake_postgresql(connections: int, *rows: tuple[Any, ...]) -> FakeConnection:
    """Return a connection to a server with so many others."""
    return FakeConnection("postgresql", (connections, 1, 100, 3, 0), *rows)


def postgres_settings(postgres: PostgresServer) -> dict[str, Any]:
    """Return the settings of the server's database, with a pool."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": postgres.database,
        "USER": postgres.user,
        "PASSWORD": postgres.password,
        "HOST": postgres.host,
        "PORT": str(postgres.port),
        "OPTIONS": {"pool": True},
    }


class FakeConnection:
    """A connection whose server answers with the rows it was given."""

    def __init__(self, vendor: str, *rows: tuple[Any, ...]) -> None:
        self.vendor = vendor
        self.asked: list[str] = []
        self.connection = SimpleNamespace(info=SimpleNamespace())
        self._rows = iter(rows)

    def cursor(self) -> FakeConnection:
        """Return itself: it is its only cursor."""
        return self

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def close(self) -> None:
        """There is nothing to close."""

    def execute(self, question: str, params: tuple[str, ...] = ()) -> None:
        """Remember a question."""
        self.asked.append(question)

    def fetchone(self) -> tuple[Any, ...]:
        """Return the next answer."""
        return next(self._rows)


@pytest.mark.parametrize(
    ("connection", "figures"),
    [
        (
            # MySQL says numbers as text here.
            FakeConnection("mysql", ("Threads_connected", "8"), (151,)),
            {"connections": 7, "max_connections": 151},
        ),
        (
            FakeConnection("oracle", (7, 472)),
            {"connections": 7, "max_connections": 472},
        ),
    ],
)
def test_other_servers_are_asked_in_their_words(
    connection: Any, figures: dict[str, int]
) -> None:
    assert server_figures(connection) == ServerFigures(
        vendor=connection.vendor, in_database=None, reserved=0, **figures
    )


@pytest.mark.parametrize("vendor", ["sqlite", "microsoft"])
def test_who_has_no_server_or_another_is_not_asked(vendor: str) -> None:
    connection: Any = FakeConnection(vendor)
    assert server_figures(connection) is None
    assert connection.asked == []
    assert vendor not in server_module._QUESTIONS


# ---- the table -------------------------------------------------------------------


def reading(**changes: Any) -> tuple[ProcessReading, PoolStats]:
    """Return a process with one pool."""
    stats = make_stats(pid=12, **changes)
    pools = {stats.alias: stats}
    return (
        ProcessReading(
            pid=12, user="shop", command="", uptime_seconds=None, pools=pools
        ),
        stats,
    )


def test_a_table_for_people() -> None:
    stats = reading()[1]
    assert draw([reading(), reading()], {"default": total([stats, stats])}) == (
        "PID  DATABASE  POOL      SIZE/MAX  IN USE  IDLE  OPENING  WAITING  ACQUIRED  "
        "WAITED  TIMEOUTS  CLOSED  WAIT P99\n"
        " 12  default   fallback      3/10       1     2        0        0         8  "
        "     3         1       1     >60 s\n"
        " 12  default   fallback      3/10       1     2        0        0         8  "
        "     3         1       1     >60 s\n"
        "all  default   fallback      6/20       2     4        0        0        16  "
        "     6         2       2     >60 s"
    )


@pytest.mark.parametrize(
    ("slot", "shown"), [(0, "<0.1 ms"), (5, "<5 ms"), (12, "<1 s"), (18, ">60 s")]
)
def test_the_slowest_wait_of_a_hundred(slot: int, shown: str) -> None:
    counts = [0] * 19
    counts[slot] = 1000
    histogram = make_stats().use_seconds
    waits = type(histogram)(counts=tuple(counts))
    assert draw([reading(wait_seconds=waits)], {}).endswith(f" {shown}")
    assert draw([reading(wait_seconds=histogram)], {}).endswith(" -")


def test_what_is_long_is_cut() -> None:
    """Or the table would not fit; JSON has it in full."""
    process, stats = reading(
        alias="a" * 40,
        implementation="b" * 40,
        size=100,
        max_size=1000,
        acquired_total=12_345_678,
        waited_total=987_654_321_000,
        timeouts_total=999_999,
        closed_total={"idle": 123_456_000, "broken": 789},
    )
    table = draw([(replace(process, pid=4194304), stats)], {})
    assert max(map(len, table.splitlines())) <= 120
    for shown in ("aaaaaaaaaaa…", "bbbbbbb…", "12.3M", "987.7G", "999999", "123.5M"):
        assert f"  {shown}  " in table
