"""`python -m djpool`: the demo as people run it, and the way to `poolstats`."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from djpool.__main__ import main
from djpool.demo import run, watch
from djpool.demo.database import parse
from djpool.demo.errors import DemoError
from djpool.demo.screen import Row, Screen, table
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers.postgres import PostgresServer

DJPOOL = [sys.executable, "-m", "djpool"]
DEMO = [*DJPOOL, "demo"]
SMALL = ["--requests", "200", "--clients", "16"]
# Seconds for a whole demo.
BOUND = 120

MOST = re.compile(r"at most (\d+) connections open")


def finish(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def is_gone(pid: int) -> bool:
    """Whether a process has ended, and its parent has taken note."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


# -- a demo that runs --------------------------------------------------------------


@pytest.mark.acceptance
def test_the_demo_ends_by_itself_with_a_verdict() -> None:
    """The figures, one line that says it all, and exit status 0."""
    done = finish([*DEMO, *SMALL])
    assert (done.returncode, done.stderr) == (0, "")
    assert "djpool   200/200       0" in done.stdout
    assert "\x1b" not in done.stdout  # nothing is redrawn where there is no terminal
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("OK: 200 requests, no errors, p50 ")
    assert verdict.endswith(
        "at most 4 connections open, of 4 allowed; every lease returned."
    )


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_compare_shows_the_leak_and_its_cure(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Two clients need two connections, or four where their last requests linger."""
    command = [*DEMO, "--requests", "100", "--clients", "2", "--compare"]
    if kind == "postgresql":
        command += ["--database", url_of(request.getfixturevalue("postgres"))]
    done = finish(command)
    assert (done.returncode, done.stderr) == (0, "")
    stock, pooled = map(int, MOST.findall(done.stdout))
    assert pooled <= 4 < stock


def url_of(postgres: PostgresServer) -> str:
    """Return the URL of the tests' server."""
    who = f"{postgres.user}:{quote(postgres.password, safe='')}"
    return f"postgresql://{who}@{postgres.host}:{postgres.port}/{postgres.database}"


@pytest.mark.acceptance
def test_a_postgresql_server_is_left_as_it_was(postgres: PostgresServer) -> None:
    """No table and no session remains, and the password is not shown."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    with postgres.admin(postgres.database) as admin:
        before = admin.execute(tables).fetchall()
        done = finish([*DEMO, *SMALL, "--database", url_of(postgres)])
        assert admin.execute(tables).fetchall() == before
    assert (done.returncode, done.stderr) == (0, "")
    assert "counted by PostgreSQL" in done.stdout
    assert postgres.password not in done.stdout
    wait_until(lambda: postgres.sessions() == 0, "the demo's sessions to end")


@pytest.mark.acceptance
def test_a_file_of_ones_own_is_left_as_it_was(tmp_path: Path) -> None:
    """Its tables are there after, the demo's is not, and its journal is the same.

    Here with a pool of one, which everybody has to wait for.
    """
    path = tmp_path / "own file.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (id)")
    url = f"sqlite:///{quote(str(path))}"
    done = finish([*DEMO, *SMALL, "--max-size", "1", "--database", url])
    assert (done.returncode, done.stderr) == (0, "")
    assert "at most 1 connections open, of 1 allowed" in done.stdout
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        journal = connection.execute("PRAGMA journal_mode").fetchone()
    assert ("precious",) in names
    assert not [name for (name,) in names if name.startswith("djpool")]
    assert journal == ("delete",)


@pytest.mark.acceptance
def test_connections_are_counted_where_the_system_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without /proc the site itself counts, in place of djpool."""

    def refuse(*_arguments: object) -> None:
        raise FileNotFoundError("/proc")

    monkeypatch.setattr(watch, "OpenFiles", refuse)
    shown = io.StringIO()
    plan = run.Plan(database=None, requests=100, clients=2, max_size=4, compare=True)
    assert run.run(plan, Screen(shown))
    assert "counted by the site" in shown.getvalue()
    stock, pooled = map(int, MOST.findall(shown.getvalue()))
    assert pooled <= 4 < stock


@pytest.mark.acceptance
def test_the_leak_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's backend never has more connections than were set aside for it."""
    monkeypatch.setattr(watch, "CEILING", 20)
    shown = io.StringIO()
    plan = run.Plan(database=None, requests=400, clients=16, max_size=4, compare=True)
    assert run.run(plan, Screen(shown))
    assert "by 16 clients at once" in shown.getvalue()
    assert "by 10 clients at once" in shown.getvalue()
    stock, _pooled = map(int, MOST.findall(shown.getvalue()))
    assert 4 < stock <= 20
    assert "so many are enough" in shown.getvalue()


# -- a demo that does not run to its end -------------------------------------------


def begin() -> tuple[subprocess.Popen[str], int]:
    """Start a long demo; return it and its server's pid when the load is on."""
    process = subprocess.Popen(
        [*DEMO, "--requests", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    server = 0
    for line in process.stdout:
        if found := re.search(r"process (\d+)$", line):
            server = int(found[1])
        if re.search(r"requests [1-9]", line):
            break
    assert server
    return process, server


@pytest.mark.acceptance
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_server_with_it(how: signal.Signals) -> None:
    """It says so in a line, not with a traceback."""
    process, server = begin()
    process.send_signal(how)
    _, errors = process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert errors == "\ndjpool demo: interrupted; the server has ended\n"
    assert is_gone(server)


@pytest.mark.acceptance
def test_a_killed_demo_takes_its_server_with_it() -> None:
    """Nobody stops the server then; it sees for itself."""
    process, server = begin()
    process.kill()
    process.communicate(timeout=BOUND)
    wait_until(lambda: is_gone(server), "the server to end")


@pytest.mark.acceptance
def test_a_broken_promise_is_exit_status_1() -> None:
    """Here a server that dies under the load."""
    process, server = begin()
    os.kill(server, signal.SIGKILL)
    shown, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 1
    assert "FAILED: the server ended; " in shown


# -- a demo that cannot run --------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("db.sqlite3", "has no '://'"),
        ("mysql://u:secret@host/name", "cannot use 'mysql'"),
        ("postgresql://u:secret@host", "one database name must follow"),
        ("postgresql://u:secret@host/a/b", "one database name must follow"),
        ("postgresql://u:secret@host:99999/name", "port must be a number"),
        ("postgresql://u:secret/@host/name", "%2F"),
        ("postgresql://u:secret@[::1/name", "Invalid IPv6"),
        ("postgresql://u:pass@host/name#secret", "%23"),
        ("sqlite://db.sqlite3", "sqlite:///db.sqlite3"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "a file must follow"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////", "is a folder"),
        ("sqlite:////no/such/folder/db", "in a folder that does not exist"),
    ],
)
def test_a_wrong_url_is_explained(url: str, reason: str) -> None:
    """The message names the part that is wrong, and no password."""
    with pytest.raises(DemoError, match=re.escape(reason)) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


def test_a_url_becomes_settings() -> None:
    """Percent signs are resolved, what follows "?" goes to the driver."""
    found = parse("postgres://m%40x:p%2Fw@db:6432/a%20b?sslmode=require")
    assert found.label == "postgresql://m@x@db:6432/a b"
    assert found.pooled("who", 7) == {
        "ENGINE": "djpool.backends.postgresql",
        "NAME": "a b",
        "USER": "m@x",
        "PASSWORD": "p/w",
        "HOST": "db",
        "PORT": "6432",
        "OPTIONS": {
            "sslmode": "require",
            "application_name": "who",
            "pool": {"max_size": 7},
        },
    }


def test_a_wrong_url_is_exit_status_2() -> None:
    """It is a message, not a traceback."""
    done = finish([*DEMO, "--database", "mysql://u:secret@host/name"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "djpool demo: --database: the demo cannot use 'mysql'"
    )


@pytest.mark.acceptance
def test_a_server_that_is_not_there_is_exit_status_2() -> None:
    """The driver's own words are in the message."""
    done = finish([*DEMO, "--database", "postgresql://u:secret@127.0.0.1:1/name"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "port 1 failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("option", ["--requests", "--clients", "--max-size"])
@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many", "1000001"])
def test_a_wrong_number_is_explained(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names option, bounds and value."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", f"{option}={value}"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {option}: must be a whole number from 1 to " in said
    assert f"not '{value}'" in said


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        (["uvicorn"], [], "djpool[demo]"),
        (["uvicorn", "httpx"], [], "djpool[demo]"),
        (["psycopg"], ["--database", "postgresql://host/name"], "djpool[postgres]"),
    ],
)
def test_a_missing_package_is_named(
    missing: list[str], arguments: list[str], extra: str
) -> None:
    """And so is what to install."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
        f"from djpool.__main__ import main; sys.exit(main(['demo', *{arguments}]))"
    )
    done = finish([sys.executable, "-c", program])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("djpool demo: ")
    assert " and ".join(missing) in done.stderr
    assert f"pip install '{extra}'" in done.stderr


# -- what it looks like ------------------------------------------------------------

ROW = Row(
    name="djpool",
    answered=1000,
    requests=1000,
    errors=0,
    p50=0.0123,
    p99=None,
    open=4,
    most=4,
    leased=4,
    waiting=60,
)


def test_the_table_fits_a_terminal() -> None:
    """Eighty columns are enough."""
    head, *lines = table([ROW, ROW])
    assert head.split()[:4] == ["requests", "errors", "p50", "p99"]
    assert [len(line) for line in lines] == [len(head)] * 2
    assert len(head) < 80
    assert "12 ms" in lines[0]


def test_a_terminal_is_redrawn() -> None:
    """A table takes the place of the one before."""
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    screen = Screen(shown)
    screen.show([ROW])
    screen.show([ROW])
    assert shown.getvalue().count("\x1b[2F\x1b[J") == 1


# -- `python -m djpool` itself -----------------------------------------------------


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "demo" in shown
    assert "poolstats" in shown


def test_poolstats_has_its_own_options() -> None:
    """They are those of the management command."""
    settings = "tests.acceptance.shop.settings"
    done = finish(
        [*DJPOOL, "poolstats", "--settings", settings, "--help"],
        {"SHOP_DATABASE": "{}"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python -m djpool poolstats" in done.stdout
    assert "--fail-above" in done.stdout


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("", "set DJANGO_SETTINGS_MODULE to "),
        ("no.such.module", "cannot set up no.such.module: No module named 'no'"),
    ],
)
def test_poolstats_without_settings_is_explained(settings: str, reason: str) -> None:
    done = finish([*DJPOOL, "poolstats"], {"DJANGO_SETTINGS_MODULE": settings})
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
