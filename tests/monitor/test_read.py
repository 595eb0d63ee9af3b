"""A reader sees every process that answers, and says what it could not see."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from djpool.monitor import process, protocol
from djpool.monitor import read as read_module
from djpool.monitor.place import Place
from djpool.monitor.protocol import Peer
from djpool.monitor.publish import Publisher
from djpool.monitor.read import Outcomes, Readings, order_all, read_all
from tests.monitor.helpers import (
    PROJECT,
    Worker,
    honest_answer,
    impostor,
    make_stats,
    open_files,
)
from tests.servers.process import wait_until

PATIENCE = 60.0


def read(folder: Path, pid: int | None = None, timeout: float = PATIENCE) -> Readings:
    """Read one folder."""
    return read_all(Place(folder), PROJECT, pid, timeout=timeout)


def test_where_nobody_is_there_is_nothing(folder: Path) -> None:
    """Neither a folder that is missing nor an empty one is worth a word."""
    assert read(folder) == Readings(processes=[], notes=[])
    folder.mkdir(0o700)
    assert read(folder) == Readings(processes=[], notes=[])


def test_every_process_is_read(folder: Path) -> None:
    """With who it is, since when, and the figures it has."""
    pools: dict[str, dict[str, Any]] = {
        "default": {"in_use": 7},
        "other": {"vendor": "mysql"},
    }
    with Worker(folder, pools) as first, Worker(folder) as second:
        files = open_files()
        readings = read(folder)
        assert open_files() == files
        only = read(folder, second.pid)
        none = read(folder, 1)
    assert readings.notes == only.notes == none.notes == []
    by_pid = {process.pid: process for process in readings.processes}
    assert list(by_pid) == sorted([first.pid, second.pid])
    reading = by_pid[first.pid]
    assert reading.pools == {
        "default": make_stats(pid=first.pid, in_use=7),
        "other": make_stats(pid=first.pid, name="other", alias="other", vendor="mysql"),
    }
    assert reading.user == process.user_name(os.geteuid())
    assert "worker.py" in reading.command
    assert reading.uptime_seconds is not None
    assert reading.uptime_seconds >= 0
    assert [process.pid for process in only.processes] == [second.pid]
    assert none.processes == []


def test_a_killed_process_is_gone_at_once(folder: Path) -> None:
    """What it left is removed without a word."""
    with Worker(folder) as victim, Worker(folder) as other:
        victim.kill()
        assert victim.path.exists()
        readings = read(folder)
        assert [process.pid for process in readings.processes] == [other.pid]
        assert readings.notes == []
        assert not victim.path.exists()
        assert other.path.exists()


def test_a_dead_socket_of_a_living_number_is_removed(folder: Path) -> None:
    """The number has another process now: here, the one of the tests."""
    with impostor(folder, lambda line: b"") as path:
        with socket.socket(socket.AF_UNIX) as listener:
            path.unlink()
            listener.bind(str(path))
        assert read(folder) == Readings(processes=[], notes=[])
        assert not path.exists()


def test_elsewhere_a_refusal_can_be_a_busy_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On BSD and its kin, a full queue refuses too."""
    folder.mkdir(0o700)
    path = folder / f"{PROJECT}-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    monkeypatch.setattr(sys, "platform", "darwin")
    (note,) = read(folder).notes
    assert note == f"Process {os.getpid()} refused to be asked; it may be too busy."
    assert path.exists()


def test_a_stopped_process_is_named(folder: Path) -> None:
    """The others are shown all the same."""
    with Worker(folder) as stopped, Worker(folder) as other:
        stopped.signal(signal.SIGSTOP)
        wait_until(lambda: process.is_stopped(stopped.pid), "a process to stop")
        readings = read(folder)
        assert [process.pid for process in readings.processes] == [other.pid]
        (note,) = readings.notes
        assert f"Process {stopped.pid} is stopped" in note
        assert stopped.path.exists()


def test_a_process_that_does_not_answer_is_named(folder: Path) -> None:
    with impostor(folder, lambda line: None):
        readings = read(folder, timeout=0.2)
    note = f"Process {os.getpid()} did not answer within 0.2 s."
    assert readings == Readings(processes=[], notes=[note])


def test_a_process_whose_queue_is_full_is_waited_for_in_vain(folder: Path) -> None:
    folder.mkdir(0o700)
    path = folder / f"{PROJECT}-{os.getpid()}.sock"
    with ExitStack() as sockets:
        listener, *waiting = (
            sockets.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)
        )
        listener.bind(str(path))
        listener.listen(0)
        with suppress(BlockingIOError):
            for client in waiting:
                client.setblocking(False)
                client.connect(str(path))
        (note,) = read(folder, timeout=0.2).notes
    assert "did not answer within 0.2 s" in note
    assert path.exists()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"what?\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "it says: nothing"),
        ({"ok": False, "error": "\x1b[2Jno"}, "it says: ?[2Jno"),
        ({"pid": 1}, "it comes from process 1"),
        ({"born": 1.0}, "another process than the one that has this number"),
        ({"born": "today"}, "born: 'today' is no number"),
        ({"command": None}, "its command or its pools are missing"),
        ({"pools": []}, "its command or its pools are missing"),
        ({"pools": {"a": 1}}, "pool a: not a JSON object"),
        ({"pools": {"a": {}}}, "pool a: fields missing or unknown"),
        (
            {"pools": {"\x1b[2J": make_stats().as_dict()}},
            "a name has signs that cannot be printed",
        ),
    ],
)
def test_an_answer_that_cannot_be_right_is_named(
    folder: Path, answer: bytes | dict[str, Any], reason: str
) -> None:
    """It is not believed in part, either. In a dict is what is odd about the answer."""
    words = answer if isinstance(answer, bytes) else honest_answer(**answer)
    with impostor(folder, lambda line: words) as path:
        readings = read(folder)
        assert path.exists()
    (note,) = readings.notes
    assert readings.processes == []
    assert note.startswith(f"The answer of process {os.getpid()} cannot be used: ")
    assert reason in note


def order(folder: Path) -> Outcomes:
    """Order the project of the tests to drain."""
    words = {"verb": "drain", "alias": "default"}
    return order_all(Place(folder), PROJECT, words, timeout=PATIENCE)


def test_an_order_that_was_carried_out_is_told_with_the_figures(folder: Path) -> None:
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        asked.append(line)
        return honest_answer(suspended=["default"])

    with impostor(folder, answer):
        outcomes = order(folder)
    (done,) = outcomes.done
    assert done.pid == os.getpid()
    assert done.suspended == ("default",)
    assert (outcomes.failed, outcomes.notes) == ([], [])
    (line,) = asked
    words = {"version": 1, "verb": "drain", "alias": "default"}
    assert protocol.decode(line) == words


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"ok": False, "error": "\x1b[2Jno"}, "Process {} refused: ?[2Jno."),
        ({"pools": {}}, "The answer of process {} cannot be used: it says nothing of"),
        ({"suspended": "no"}, "The answer of process {} cannot be used: no list of"),
        ({"pid": 1}, "The answer of process {} cannot be used: it comes from process"),
    ],
)
def test_an_order_that_was_not_carried_out_is_told_by_process(
    folder: Path, answer: dict[str, Any], sentence: str
) -> None:
    with impostor(folder, lambda line: honest_answer(**answer)):
        outcomes = order(folder)
    (failed,) = outcomes.failed
    assert failed.startswith(sentence.format(os.getpid()))
    assert (outcomes.done, outcomes.notes) == ([], [])


def test_what_cannot_be_seen_is_no_failure_of_an_order(folder: Path) -> None:
    """Nor is what a dead process left; both are as for figures."""
    folder.mkdir(0o700)
    (folder / "stray.txt").touch()
    with Worker(folder) as dead:
        dead.kill()
    outcomes = order(folder)
    assert (outcomes.done, outcomes.failed) == ([], [])
    (note,) = outcomes.notes
    assert "stray.txt" in note


def test_an_answer_that_has_no_end_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LONGEST_ANSWER", 1000)
    with impostor(folder, lambda line: b"x" * 2000):
        (note,) = read(folder).notes
    assert "longer than 1000 bytes" in note


def test_a_closed_connection_is_named(folder: Path) -> None:
    """Unless the process is dead: then it is none of those that run."""
    with impostor(folder, lambda line: b'{"ok": true'):
        (note,) = read(folder).notes
    assert f"Process {os.getpid()} could not be asked: the connection was" in note
    with impostor(folder, lambda line: b"", pid=2**30):
        assert read(folder) == Readings(processes=[], notes=[])


def test_a_process_of_another_container_is_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is not ours to look up: the system says 0 for it."""
    monkeypatch.setattr(protocol, "peer", lambda link: Peer(0, os.geteuid()))
    with impostor(folder, lambda line: honest_answer(born=1.0)):
        readings = read(folder)
    assert [process.pid for process in readings.processes] == [os.getpid()]


def test_a_system_that_names_no_peer_will_do(
    folder: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    publisher.start()
    assert len(read(folder).processes) == 1


def test_another_user_on_our_socket_is_not_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = os.geteuid() + 4321
    monkeypatch.setattr(protocol, "peer", lambda link: Peer(1, stranger))
    with impostor(folder, lambda line: honest_answer()):
        readings = read(folder)
    assert readings.processes == []
    assert f"user {stranger} listens" in readings.notes[0]


def test_what_is_no_socket_is_named_and_left_alone(folder: Path) -> None:
    folder.mkdir(0o700)
    names = ["a.txt", f"{PROJECT}-1.sock", "bad\x1b.sock"]
    for name in names:
        (folder / name).touch()
    (folder / ".hidden").touch()
    (folder / f"{PROJECT}-2.sock").symlink_to("/dev/null")
    (note,) = read(folder).notes
    shown = f"a.txt, {PROJECT}-1.sock, {PROJECT}-2.sock, bad?.sock"
    assert note == f"Not a process's socket, left alone in {folder}: {shown}."
    assert len(list(folder.iterdir())) == 5


def test_many_odd_files_are_one_note(folder: Path) -> None:
    folder.mkdir(0o700)
    for number in range(100):
        (folder / f"{number:03}.txt").touch()
    (note,) = read(folder).notes
    assert note.endswith(": 000.txt, 001.txt, 002.txt, 003.txt, 004.txt and 95 more.")


def test_other_projects_are_counted_where_there_is_nothing_else(folder: Path) -> None:
    """Most likely the command runs with other settings than the workers."""
    with Worker(folder, project="other"):
        (note,) = read(folder).notes
        assert note.startswith("1 process of other projects or other settings modules")
        with Worker(folder):
            assert read(folder).notes == []


@pytest.mark.usefixtures("another_user")
def test_other_users_are_said_not_to_be_visible(tmp_path: Path) -> None:
    """Their folders are next to ours, and closed to us."""
    real = tmp_path.stat().st_uid
    (tmp_path / f"djpool-{real}").mkdir(0o700)
    (tmp_path / "djpool-999888").mkdir(0o700)  # not whose name it has
    me = os.geteuid()
    place = Place(tmp_path / f"djpool-{me}", around=(tmp_path,))
    (note,) = read_all(place, PROJECT).notes
    name = process.user_name(real)
    assert note == (
        f"Processes of user {name} are not visible to user {me}; "
        f"run this as {name}{' or as root' if real else ''}."
    )


def test_many_other_users_are_few_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / f"djpool-{777000 + number}").symlink_to(tmp_path)
    monkeypatch.setattr("djpool.monitor.place._RUNTIME", tmp_path / "none")
    readings = read_all(Place(tmp_path / "mine", around=(tmp_path,)), PROJECT)
    assert len(readings.notes) == 6
    assert readings.notes[-1] == "So it is with 15 folders more of other users."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_reads_the_processes_of_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their folders next to ours, and in their runtime directories."""
    near, runtime = tmp_path / "djpool-4242", tmp_path / "user" / "4243" / "djpool"
    runtime.parent.mkdir(parents=True)
    monkeypatch.setattr("djpool.monitor.place._RUNTIME", tmp_path / "user")
    with Worker(near) as first, Worker(runtime) as second:
        os.chown(near, 4242, -1)
        os.chown(runtime, 4243, -1)
        place = Place(tmp_path / "djpool-0", around=(tmp_path,))
        readings = read_all(place, PROJECT, timeout=PATIENCE)
        users = {process.pid: process.user for process in readings.processes}
        assert users == {first.pid: "4242", second.pid: "4243"}
        assert readings.notes == []
        # What others left is theirs to remove.
        first.kill()
        assert len(read_all(place, PROJECT, timeout=PATIENCE).processes) == 1
        assert first.path.exists()


def test_a_folder_that_will_not_do_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    folder.symlink_to(tmp_path / "real")
    (note,) = read(folder).notes
    assert f"{folder} is a symbolic link" in note
    assert note.endswith("it was not read.")


def test_a_folder_that_cannot_be_looked_at_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> tuple[int, int]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(read_module, "open_folder", fail)
    assert read(folder).notes == [f"{folder}: Input/output error; it was not read."]


def test_every_folder_of_ours_is_read_once(
    folder: Path, tmp_path: Path, publisher: Publisher
) -> None:
    """A service and a login of one user publish in different ones."""
    publisher.start()
    (tmp_path / "link").symlink_to(tmp_path)
    also = (folder, tmp_path / "link" / folder.name, tmp_path / "missing")
    readings = read_all(Place(tmp_path / "other", also), PROJECT, timeout=PATIENCE)
    assert [process.pid for process in readings.processes] == [os.getpid()]
    assert readings.notes == []
