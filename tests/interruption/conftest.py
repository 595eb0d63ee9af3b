"""Workers whose requests are interrupted, on every driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from tests.backends.engines import engine_of, server_database, server_of
from tests.interruption.drivers import DRIVERS
from tests.interruption.worker import EXTRA

if TYPE_CHECKING:
    from tests.servers.mysql import MySQLServer

ROOT = Path(__file__).parents[2]
RELEASES = ("request", "transaction")
MAX_SIZE = 2
# Statements to interrupt, for each driver, implementation and release. More take long:
# DJPOOL_INTERRUPTED=3000 a minute or two for each.
COUNT = int(os.environ.get("DJPOOL_INTERRUPTED", "150"))
# Seconds that a worker may interrupt requests.
LIMIT = 180
# A failed test shows so many examples of what went wrong.
SHOWN = 4

# The driver of each backend, and others by what follows a colon in an engine's name.
FIRST = {
    "sqlite3": "sqlite3",
    "postgresql": "psycopg",
    "mysql": "mysqlclient",
    "mysql_connector": "Connector in Python",
    "oracle": "oracledb",
}
OTHERS = {
    "psycopg2": "psycopg2",
    "python": "psycopg in Python",
    "PyMySQL": "PyMySQL",
    "C": "Connector in C",
}
CONNECTOR = [
    *("mysql_connector-native", "mysql_connector-fallback"),
    *("mysql_connector-native:C", "mysql_connector-fallback:C"),
]
ENGINES = [
    "sqlite3",
    *("postgresql-native", "postgresql-fallback", "postgresql:psycopg2"),
    *("mysql@mariadb", "mysql@mariadb:PyMySQL"),
    *CONNECTOR,
    *("oracle-native", "oracle-fallback"),
]
# Their drivers can read each row when the project fetches it.
UNBUFFERED = ["mysql@mariadb", "mysql@mariadb:PyMySQL"]

Report = dict[str, Any]
Interrupt = Callable[..., dict[str, Report]]


@pytest.fixture
def prepared_mysql(mysql: MySQLServer) -> Iterator[None]:
    """Let MySQL load its clients' files, and take passwords without TLS."""

    def let(value: int) -> None:
        with mysql.admin() as admin, admin.cursor() as cursor:
            cursor.execute(f"SET GLOBAL local_infile = {value}")

    let(1)
    # From now on the server remembers the password, and asks for no proof of it that
    # needs TLS. MariaDB does both by default.
    pymysql.connect(**mysql.connection_parameters()).close()
    yield
    let(0)


@pytest.fixture
def interrupt(tmp_path: Path, request: pytest.FixtureRequest) -> Interrupt:
    """Gives `interrupt(engine, way, …)`, which runs workers and returns their reports.

    There is one worker for each value of the option `release`. They run at once.
    """

    def run(name: str, way: str, **changes: Any) -> dict[str, Report]:
        engine = name.partition(":")[0]
        if engine_of(engine).server == "mysql":
            request.getfixturevalue("prepared_mysql")
        server = server_of(engine, request)
        plans = {
            release: make_plan(name, way, release, server, tmp_path, **changes)
            for release in RELEASES
        }
        with ThreadPoolExecutor(len(plans)) as threads:
            return dict(zip(plans, threads.map(work, plans.values()), strict=True))

    return run


def make_plan(
    name: str,
    way: str,
    release: str,
    server: Any,
    folder: Path,
    *,
    count: int,
    rows: int = 300,
    kinds: tuple[str, ...] = (),
    unbuffered: bool = False,
    converter: bool = False,
    seconds: float = LIMIT,
    **options: Any,
) -> dict[str, Any]:
    """Return what a worker is to do.

    Args:
        name: One of `ENGINES`.
        way: One of `ways.WAYS`, which says what `count` is.
        release: The pool's option.
        server: The engine's server; None for SQLite.
        folder: A folder for files.
        count: See `way`.
        rows: The rows of a long answer.
        kinds: Kinds of statements. Without any, all that the driver can run.
        unbuffered: Whether the driver reads each row when the worker fetches it.
        converter: Whether a converter in `OPTIONS` refuses a date.
        seconds: The time for all rounds.
        options: `OPTIONS`, in addition to the driver's.
    """
    engine_name, _, other = name.partition(":")
    engine = engine_of(engine_name)
    driver = OTHERS[other] if other else FIRST[engine.backend]
    database: dict[str, Any] = {"ENGINE": f"djpool.backends.{engine.backend}"}
    if server is None:
        database["NAME"] = str(folder / f"{release}.sqlite3")
    else:
        database |= server_database(server)
    pool = {"max_size": MAX_SIZE, "timeout": 10, "release": release} | engine.pool
    database["OPTIONS"] = {**DRIVERS[driver].options, **options, "pool": pool}
    return {
        "database": database,
        "driver": driver,
        "way": way,
        "count": count,
        "rows": rows,
        "kinds": kinds,
        "unbuffered": unbuffered,
        "converter": converter,
        "seconds": seconds,
        "host": "" if server is None else server.host,
        "port": None if server is None else server.port,
        "prefix": f"ask_{release}",
        "folder": str(folder),
        "seed": 7,
    }


def work(plan: dict[str, Any]) -> Report:
    """Run a worker to its end; return its report."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.interruption.worker", json.dumps(plan)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT + EXTRA + 20,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: Report = json.loads(done.stdout)
    return report


def assert_unharmed(
    reports: dict[str, Report],
    *,
    interrupted: int = 0,
    own: bool = False,
    sockets: bool = True,
) -> None:
    """Fail unless each request got its own answer, and the pools have all they had.

    Args:
        reports: The reports by release.
        interrupted: The least number of interrupted statements.
        own: Whether to look at later statements of an interrupted request, too.
        sockets: Whether to count sockets. Connector/Python's part in C can leave one
            open when it is interrupted while it connects: see "Known limits".
    """
    for release, report in reports.items():
        told = f"release {release!r}: {in_short(report)}"
        assert report["wrong"] == report["errors"] == 0, told
        assert report["lost"] == report["halves"] == 0, told
        assert not (own and report["own_wrong"]), told
        assert report["interrupted"] >= interrupted, told
        assert report["capacity"] == MAX_SIZE, told
        assert report["size"] <= MAX_SIZE, told
        assert report["in_use"] == 0, told
        if sockets and report["sockets"] is not None:
            assert report["sockets"] <= MAX_SIZE, told


def in_short(report: Report) -> str:
    """Return the counts of a report in one line, and a few examples below."""
    # What happened in an interrupted request itself is no failure of most tests.
    examples = sorted(report["examples"], key=lambda each: each.startswith("own"))
    counts = ", ".join(
        f"{name} {value:g}"
        for name, value in report.items()
        if isinstance(value, (int, float))
    )
    return "\n- ".join([counts, *examples[:SHOWN]])
