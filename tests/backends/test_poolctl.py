"""`manage.py poolctl` beside real workers with real pools on a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from djpool.monitor import process
from tests.backends.projects import make_project, manage, start
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until

# Does what it is told on standard input, a line at a time, and says when it is done:
# "borrow" and "give back" connections, "ask" in a thread of its own and "answers" how
# many such threads were served.
WORKER = """
    import sys
    import threading
    import django
    django.setup()
    from django.db import connections
    held, answers = [], []
    def ask():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
            answers.append(cursor.fetchone())
        connections["default"].close()
    threads = []
    def obey(word):
        if word == "borrow":
            held.append(connections.create_connection("default"))
            held[-1].ensure_connection()
        elif word == "give back":
            held.pop().close()
        elif word == "ask":
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
        elif word == "answers":
            for thread in threads:
                thread.join()
            return len(answers)
        return word
    ask()
    print("ready", flush=True)
    for line in sys.stdin:
        print(obey(line.strip()), flush=True)
    while held:
        held.pop().close()
"""

Worker = subprocess.Popen


def tell(worker: Worker[str], words: str) -> str:
    """Have a worker do something; return what it said."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{words}\n")
    worker.stdin.flush()
    return worker.stdout.readline().strip()


@pytest.fixture
def project(tmp_path: Path, postgres: PostgresServer) -> dict[str, str]:
    """The environment of a project's processes."""
    return make_project(tmp_path, postgres)


@pytest.fixture
def workers(project: dict[str, str]) -> Iterator[list[Worker[str]]]:
    """Two workers, each of which has asked once."""
    started = [start(project, WORKER) for _ in range(2)]
    yield started
    for worker in started:
        if worker.poll() is None:
            worker.send_signal(signal.SIGCONT)
            worker.communicate(timeout=60)


Poolctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def poolctl(project: dict[str, str]) -> Poolctl:
    """Give a function that runs the command and checks its exit status."""

    def run(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = manage(project, "poolctl", *map(str, words))
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def figures(project: dict[str, str]) -> dict[int, dict[str, Any]]:
    """What `poolstats` says of each process's default pool."""
    told = json.loads(manage(project, "poolstats", "--format", "json").stdout)
    return {
        each["pid"]: {**each["pools"]["default"], "suspended": each["suspended"]}
        for each in told["processes"]
    }


def test_every_running_pool_is_resized(
    project: dict[str, str], workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    """And those connections that are too many then are closed."""
    for _ in range(3):
        tell(workers[0], "borrow")
    done = poolctl("resize", "--database", "default", "--min-size", 1, "--max-size", 2)
    first, second = (worker.pid for worker in workers)
    now = "of at most 2 open (min_size 1)"
    assert set(done.stdout.splitlines()) == {
        f"Process {first}: default resized; 3 {now}, 3 in use",
        f"Process {second}: default resized; 1 {now}, 0 in use",
    }
    assert done.stderr == ""
    tell(workers[0], "give back")
    seen = figures(project)
    assert [seen[pid]["max_size"] for pid in (first, second)] == [2, 2]
    assert [seen[pid]["min_size"] for pid in (first, second)] == [1, 1]
    assert seen[first]["size"] == seen[first]["in_use"] == 2


def test_one_process_is_resized(
    project: dict[str, str], workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    first, second = (worker.pid for worker in workers)
    poolctl("resize", "--database", "default", "--max-size", 9, "--pid", second)
    seen = figures(project)
    assert (seen[first]["max_size"], seen[second]["max_size"]) == (4, 9)


def test_drained_connections_are_replaced(
    project: dict[str, str], workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    """Those in use when they come back."""
    tell(workers[0], "borrow")
    poolctl("drain", "--database", "default")
    first, second = (worker.pid for worker in workers)
    seen = figures(project)
    assert (seen[first]["size"], seen[second]["size"]) == (1, 0)
    tell(workers[0], "give back")
    seen = figures(project)
    assert [seen[pid]["size"] for pid in (first, second)] == [0, 0]
    assert [seen[pid]["closed_total"]["evicted"] for pid in (first, second)] == [1, 1]
    for worker in workers:
        tell(worker, "ask")
        assert tell(worker, "answers") == "2"


def test_callers_wait_while_suspended_and_none_fails(
    project: dict[str, str],
    workers: list[Worker[str]],
    poolctl: Poolctl,
    postgres: PostgresServer,
) -> None:
    """As around a restart or a failover of the server."""
    done = poolctl("suspend", "--database", "default")
    assert all("default suspended; " in line for line in done.stdout.splitlines())
    first, second = (worker.pid for worker in workers)
    for worker in workers:
        tell(worker, "ask")
    wait_until(
        lambda: all(pool["waiting"] == 1 for pool in figures(project).values()),
        "the callers to wait",
    )
    assert {pid: pool["suspended"] for pid, pool in figures(project).items()} == {
        first: ["default"],
        second: ["default"],
    }
    table = manage(project, "poolstats").stdout
    assert f"note: default of process {first} is suspended: it lends noth" in table
    assert "suspended" not in manage(project, "poolstats", "--database", "cache").stdout
    still = poolctl("resize", "--database", "default", "--max-size", 5).stdout
    assert still.count("default resized, still suspended; ") == 2
    postgres.restart("immediate")
    poolctl("drain", "--database", "default")
    done = poolctl("resume", "--database", "default")
    assert all("default resumed; " in line for line in done.stdout.splitlines())
    assert [tell(worker, "answers") for worker in workers] == ["2", "2"]
    assert "suspended" not in manage(project, "poolstats").stdout


def test_a_pool_that_a_process_has_not_used_yet_is_told_all_the_same(
    project: dict[str, str], workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    """It would lend in spite of a suspension, or open too many."""
    poolctl("suspend", "--database", "cache")
    told = json.loads(manage(project, "poolstats", "--format", "json").stdout)
    assert [each["suspended"] for each in told["processes"]] == [["cache"]] * 2
    assert [each["pools"]["cache"]["size"] for each in told["processes"]] == [0, 0]


def test_a_size_that_a_process_cannot_have_is_refused_by_it(
    workers: list[Worker[str]], poolctl: Poolctl, project: dict[str, str]
) -> None:
    """The others do it; the exit status says that not all did."""
    first, second = (worker.pid for worker in workers)
    words = ("resize", "--database", "default")
    poolctl(*words, "--min-size", 3, "--pid", first)
    done = poolctl(*words, "--max-size", 2, status=1)
    assert f"Process {second}: default resized; 1 of at most 2" in done.stdout
    assert (
        "resize: 1 of 2 processes did not:\n"
        f"Process {first} refused: database 'default': pool 'default': min_size must "
        "be from 0 to max_size (2), not 3."
    ) in done.stderr
    assert figures(project)[first]["max_size"] == 4


def test_a_process_that_does_not_answer_fails_the_command(
    workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    first, second = workers
    first.send_signal(signal.SIGSTOP)
    wait_until(lambda: process.is_stopped(first.pid), "a process to stop")
    done = poolctl("drain", "--database", "default", status=1)
    assert f"Process {second.pid}: default drained" in done.stdout
    assert "drain: 1 of 2 processes did not:" in done.stderr
    assert f"Process {first.pid} is stopped" in done.stderr


def test_a_process_that_died_is_no_process(
    workers: list[Worker[str]], poolctl: Poolctl
) -> None:
    workers[0].kill()
    workers[0].communicate()
    done = poolctl("drain", "--database", "default")
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        f"{workers[1].pid}:"
    ]


def test_a_process_that_is_told_nothing_more_has_what_the_settings_say(
    project: dict[str, str], poolctl: Poolctl
) -> None:
    """Orders are for those that run."""
    with ExitStack() as ends:
        for expected in (7, 4):
            worker = start(project, WORKER)
            ends.callback(worker.communicate, timeout=60)
            if expected == 7:
                poolctl("resize", "--database", "default", "--max-size", 7)
            assert figures(project)[worker.pid]["max_size"] == expected


def test_where_nobody_runs_nobody_is_told(poolctl: Poolctl) -> None:
    done = poolctl("suspend", "--database", "default", status=1)
    assert "suspend: no running process has pools that can be told" in done.stderr
    done = poolctl("suspend", "--database", "default", "--pid", 1, status=1)
    assert "--pid 1: no such process with pools; there are: none." in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("drain",), "the following arguments are required: --database"),
        (("stop", "--database", "default"), "invalid choice: 'stop'"),
        (("drain", "--database", "shop"), "--database 'shop' is unknown; known: def"),
        (("drain", "--database", "default", "--pid", "0"), "--pid must be 1 or more"),
        (("resize", "--database", "default"), "resize needs --min-size, --max-size or"),
        (
            ("drain", "--database", "default", "--max-size", "3"),
            "--max-size: only with resize, not drain",
        ),
        (
            ("resize", "--database", "default", "--max-size", "0"),
            "--max-size for 'default' must be 1 or more, not 0",
        ),
        (
            ("resize", "--database", "default", "--min-size", "-1"),
            "--min-size for 'default' must be 0 or more, not -1",
        ),
        (
            ("resize", "--database", "default", "--min-size", "3", "--max-size", "2"),
            "--min-size for 'default' must be from 0 to --max-size (2), not 3",
        ),
        (
            ("resize", "--database", "default", "--max-size", "many"),
            "argument --max-size: invalid int value: 'many'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    project: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    done = manage(project, "poolctl", *words)
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert done.stdout == ""


def test_the_help_says_what_each_order_does(project: dict[str, str]) -> None:
    told = manage(project | {"COLUMNS": "88"}, "poolctl", "--help").stdout
    for order in ("resize", "drain", "suspend", "resume"):
        assert f"\n  {order}" in told
    assert "--max-size N" in told


# Gives an order as the protocol has it, and prints the answer.
STRANGER = """
    import contextlib, json, socket, sys
    with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as link:
        link.connect(sys.argv[1])
        order = {"version": 1, "verb": "drain", "alias": "default"}
        link.sendall(json.dumps(order).encode() + b"\\n")
        print("said:", link.recv(1000))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gives_no_orders_even_where_the_folder_is_open(
    workers: list[Worker[str]], project: dict[str, str]
) -> None:
    """Whoever opened it: the process itself looks at who is connected."""
    folder = Path(os.environ["DJPOOL_STATS_DIR"])
    sockets = list(folder.glob(f"*-{workers[0].pid}.sock"))
    try:
        folder.chmod(0o755)
        sockets[0].chmod(0o666)
        done = subprocess.run(
            ["python3", "-c", textwrap.dedent(STRANGER), sockets[0]],
            user="nobody",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        folder.chmod(0o700)
    # It hangs up, before or after the order was sent.
    assert done.stdout in {"said: b''\n", ""}
    assert done.stderr == ""
    assert figures(project)[workers[0].pid]["closed_total"]["evicted"] == 0
