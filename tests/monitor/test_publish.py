"""A process answers for itself, whoever asks and however, and never suffers from it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djpool.monitor import place as place_module
from djpool.monitor import serve as serve_module
from djpool.monitor.place import Place
from djpool.monitor.protocol import (
    LONGEST_REQUEST,
    Peer,
    RefusalError,
    ask,
    encode,
)
from djpool.monitor.publish import Publisher
from djpool.monitor.read import read_all
from djpool.monitor.serve import Server
from tests.monitor.helpers import PROJECT, Worker, make_stats, open_files
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


def say(path: Path | None, words: bytes, *, end: bool = False) -> bytes:
    """Send something to a socket; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(words)
        if end:
            client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(100_000):
            received += chunk
        return received


def request(path: Path | None, verb: str = "stats") -> dict[str, Any]:
    """Ask as a reader does."""
    deadline = time.monotonic() + PATIENCE
    answer, _ = ask(str(path), {"verb": verb}, deadline=deadline, owner=os.geteuid())
    return answer


def no_thread(thread: threading.Thread) -> None:
    """Refuse to start, as where the process has too many threads."""
    raise RuntimeError("can't start new thread")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what djpool warned of."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "djpool.monitor" and record.levelno >= logging.WARNING
    ]


def test_the_answer_is_the_snapshot_of_the_moment(folder: Path) -> None:
    """Nothing is kept: what changes between two questions changes the answer."""
    in_use = iter(range(10))
    publisher = Publisher(
        Place(folder), PROJECT, lambda: {"default": make_stats(in_use=next(in_use))}
    )
    publisher.start()
    answers = [request(publisher.path)["pools"]["default"] for _ in range(3)]
    publisher.stop()
    assert [answer["in_use"] for answer in answers] == [0, 1, 2]


def test_starting_twice_is_starting_once(publisher: Publisher, folder: Path) -> None:
    """Also from many threads at the same time."""
    before = threading.active_count()
    barrier = threading.Barrier(16)

    def start() -> None:
        barrier.wait()
        publisher.start()

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(start) for _ in range(16)]:
            done.result()
    assert threading.active_count() == before + 1
    assert [path.name for path in folder.iterdir()] == [f"{PROJECT}-{os.getpid()}.sock"]
    assert publisher.path == next(folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_socket_is_for_its_owner_only(publisher: Publisher, umask: int) -> None:
    before = os.umask(umask)
    try:
        publisher.start()
    finally:
        os.umask(before)
    assert publisher.path is not None
    assert stat.S_IMODE(publisher.path.stat().st_mode) == 0o600


def test_stopping_leaves_nothing_behind(publisher: Publisher, folder: Path) -> None:
    """No socket, no thread, no open file. Then it can be started again."""
    files, threads = open_files(), threading.active_count()
    for _ in range(3):
        publisher.start()
        assert request(publisher.path)["ok"]
        publisher.stop()
        publisher.stop()
        assert publisher.path is None
        assert list(folder.iterdir()) == []
        assert (open_files(), threading.active_count()) == (files, threads)


def test_a_folder_that_will_not_do_is_one_warning(
    publisher: Publisher, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    files = open_files()
    for _ in range(3):
        publisher.start()
    (warning,) = warnings_of(caplog)
    assert str(folder) in warning
    assert "writable by other users" in warning
    assert publisher.path is None
    assert open_files() == files


def test_a_folder_that_cannot_be_written_to_is_one_warning(
    publisher: Publisher,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a disk that is full or read-only; what was begun there is gone again."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", fail)
    files = open_files()
    publisher.start()
    (warning,) = warnings_of(caplog)
    assert f"{folder} cannot be written to: Read-only file system" in warning
    assert list(folder.iterdir()) == []
    assert open_files() == files


def test_a_path_that_is_too_long_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "DESCRIPTORS", tmp_path / "none")
    folder = tmp_path / ("long" * 30)
    publisher = Publisher(Place(folder), PROJECT, dict)
    publisher.start()
    (warning,) = warnings_of(caplog)
    assert "a socket's path may have" in warning
    assert list(folder.iterdir()) == []


def test_a_long_path_is_no_obstacle_on_linux(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    publisher = Publisher(Place(folder), PROJECT, dict)
    publisher.start()
    readings = read_all(Place(folder), PROJECT, timeout=PATIENCE)
    publisher.stop()
    assert [process.pid for process in readings.processes] == [os.getpid()]
    assert list(folder.iterdir()) == []


def test_no_thread_is_one_warning(
    publisher: Publisher,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in an interpreter that allows no daemon threads."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    files = open_files()
    publisher.start()
    assert "can't start new thread" in warnings_of(caplog)[0]
    assert list(folder.iterdir()) == []
    assert open_files() == files
    publisher.start()
    assert len(warnings_of(caplog)) == 1


def test_it_begins_as_soon_as_there_can_be_a_thread(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        publisher.start()
        assert publisher.path is None
    publisher.start()
    assert publisher.path is not None


def test_without_unix_sockets_nothing_happens(
    publisher: Publisher,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is no fault of anyone's, so it is said quietly."""
    caplog.set_level(logging.INFO)
    monkeypatch.delattr(socket, "AF_UNIX")
    publisher.start()
    assert warnings_of(caplog) == []
    assert "no Unix sockets" in caplog.text
    assert publisher.path is None
    readings = read_all(Place(folder), PROJECT)
    assert readings.processes == []
    assert "no Unix sockets" in readings.notes[0]


@pytest.mark.parametrize("project", ["", "A", "a-b", "a/b", "x" * 33])
def test_a_projects_word_is_fit_for_a_file_name(project: str, folder: Path) -> None:
    with pytest.raises(ValueError, match="project must be"):
        Publisher(Place(folder), project, dict)


def test_two_in_one_process_have_two_sockets(
    publisher: Publisher, folder: Path
) -> None:
    """Two interpreters, or processes of one number in two containers."""
    second = Publisher(Place(folder), PROJECT, dict)
    publisher.start()
    second.start()
    try:
        assert publisher.path != second.path
        readings = read_all(Place(folder), PROJECT, timeout=PATIENCE)
        pools = [list(process.pools) for process in readings.processes]
        assert sorted(pools) == [[], ["default"]]
        assert readings.notes == []
    finally:
        second.stop()
    assert publisher.path is not None
    assert publisher.path.exists()


def test_what_a_dead_process_left_is_replaced(
    publisher: Publisher, folder: Path
) -> None:
    folder.mkdir(0o700)
    path = folder / f"{PROJECT}-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    publisher.start()
    assert publisher.path == path
    assert request(path)["ok"]


def test_a_file_in_the_way_is_left_alone(publisher: Publisher, folder: Path) -> None:
    folder.mkdir(0o700)
    path = folder / f"{PROJECT}-{os.getpid()}.sock"
    path.write_text("mine")
    publisher.start()
    assert publisher.path != path
    assert path.read_text() == "mine"
    assert request(publisher.path)["ok"]


def test_a_forked_child_answers_for_itself(folder: Path) -> None:
    """And its end, or its parent's, takes away its own socket only."""
    with Worker(folder, fork=True) as worker:
        readings = read_all(Place(folder), PROJECT, timeout=PATIENCE)
        pids = sorted(worker.paths)
        assert [process.pid for process in readings.processes] == pids
        for process in readings.processes:
            assert process.pools["default"].pid == process.pid
        assert len(set(worker.paths.values())) == 2
        assert worker.end() == ""
    assert list(folder.iterdir()) == []


def test_a_fork_interrupts_the_thread_only(publisher: Publisher) -> None:
    """Python warns of a fork beside other threads; who asks meanwhile waits."""
    publisher.before_fork()  # there is nothing to interrupt yet
    publisher.after_fork_in_parent()
    before = threading.active_count()
    publisher.start()
    with ThreadPoolExecutor(1) as threads:
        for _ in range(3):
            publisher.before_fork()
            assert threading.active_count() == before
            reader = threads.submit(request, publisher.path)
            wait_until(lambda: threads._threads, "the reader to begin")
            publisher.after_fork_in_parent()
            assert reader.result()["ok"]
            before = threading.active_count() - 1
    publisher.before_fork()
    publisher.stop()
    assert threading.active_count() == before - 1


def test_a_fork_near_the_end_ends_the_answers(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python starts no threads when it is about to exit."""

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    files = open_files()
    publisher.start()
    publisher.before_fork()
    monkeypatch.setattr(threading.Thread, "start", fail)
    publisher.after_fork_in_parent()
    assert publisher.path is None
    assert list(folder.iterdir()) == []
    assert open_files() == files


def test_an_unannounced_fork_is_noticed(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child starts anew, and does not remove what is its parent's."""
    publisher.start()
    path = publisher.path
    published = publisher._published
    child = os.getpid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child)
        publisher._at_exit()
        publisher.stop()
        assert path is not None
        assert path.exists()
        # Closing the parent's sockets would end its thread here: it is the same one.
        patch.setattr(published, "close", lambda: None)
        publisher.start()
        assert publisher.path == folder / f"{PROJECT}-{child}.sock"
        publisher.stop()
    assert request(path)["ok"]
    assert published is not None
    published.remove()
    published.stop(PATIENCE)


def test_an_exit_removes_the_socket_and_says_nothing(folder: Path) -> None:
    """Python runs in its development mode there: it would tell of open sockets."""
    with Worker(folder) as worker:
        assert worker.path.exists()
        assert worker.end() == ""
    assert list(folder.iterdir()) == []


def test_an_exit_does_not_wait_for_a_snapshot(folder: Path) -> None:
    """A pool that does not answer is no reason to stay."""
    asked, answer = threading.Event(), threading.Event()
    others = set(threading.enumerate())

    def snapshot() -> dict[str, Any]:
        asked.set()
        answer.wait(PATIENCE)
        return {}

    publisher = Publisher(Place(folder), PROJECT, snapshot)
    publisher.start()
    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(request, publisher.path)
        assert asked.wait(PATIENCE)
        publisher._at_exit()
        assert not reader.done()
        assert list(folder.iterdir()) == []
        answer.set()
        assert reader.exception() is not None or reader.result()
    wait_until(
        lambda: not set(threading.enumerate()) - others,
        "the thread to end",
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"\n", "not JSON"),
        (b"stats\n", "not JSON"),
        (b"\xff\xfe\x00\n", "not JSON"),
        (b"[" * 50_000 + b"\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (encode({"verb": "stats"}), "version None; spoken here: 1"),
        (encode({"version": 2, "verb": "stats"}), "version 2; spoken here: 1"),
        (encode({"version": 1}), "unknown verb None; known here: stats"),
        (encode({"version": 1, "verb": "resize"}), "unknown verb 'resize'; known"),
        (encode({"version": 1, "verb": ["stats"]}), "unknown verb ['stats']; known"),
        (encode({"version": 1, "verb": "x" * 1000}), "x…; known here: stats"),
    ],
)
def test_an_odd_request_is_refused_by_name(
    publisher: Publisher, words: bytes, error: str
) -> None:
    publisher.start()
    answer = json.loads(say(publisher.path, words))
    assert answer["ok"] is False
    assert answer["version"] == 1
    assert error in answer["error"]
    assert request(publisher.path)["ok"]


def test_what_has_no_end_gets_no_answer(publisher: Publisher) -> None:
    """Neither half a line nor one that is too long."""
    publisher.start()
    assert say(publisher.path, b"", end=True) == b""
    assert say(publisher.path, b'{"verb":', end=True) == b""
    with pytest.raises(ConnectionError):
        say(publisher.path, b"x" * (LONGEST_REQUEST * 64))
    assert request(publisher.path)["ok"]


ORDER = encode({"version": 1, "verb": "resize", "to": 3})


@pytest.fixture
def obedient(folder: Path) -> Iterator[Publisher]:
    """Give one that takes an order, stopped after the test."""
    publisher = Publisher(
        Place(folder),
        PROJECT,
        dict,
        {"resize": lambda request: {"resized": request["to"]}},
    )
    publisher.start()
    yield publisher
    publisher.stop()


def test_an_order_is_answered_as_its_function_says(obedient: Publisher) -> None:
    """With who it was that answers, as for figures."""
    answer = json.loads(say(obedient.path, ORDER))
    who = {key: answer.pop(key) for key in ("pid", "born", "command")}
    assert answer == {"version": 1, "ok": True, "resized": 3}
    figures = request(obedient.path)
    assert who == {key: figures[key] for key in who}
    refusal = request(obedient.path, "drain")
    assert refusal["error"] == "unknown verb 'drain'; known here: resize, stats"


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (None, "this system does not tell who gives an order"),
        (Peer(1, 4321), "orders of user 4321 are not taken, only those of user "),
    ],
)
def test_an_order_is_for_its_user_and_root_only(
    obedient: Publisher, who: Peer | None, error: str
) -> None:
    """The door lets nobody else in either; where it cannot tell, orders stay out."""
    answer = obedient._answer(ORDER, who)
    assert isinstance(answer, bytes)
    told = json.loads(answer)
    assert told["ok"] is False
    assert error in told["error"]
    for mine in (Peer(1, os.geteuid()), Peer(1, 0)):
        carried_out = obedient._answer(ORDER, mine)
        assert isinstance(carried_out, Future)
        assert json.loads(carried_out.result(PATIENCE))["resized"] == 3


def test_who_cannot_be_told_gives_no_orders_and_has_figures(
    obedient: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a system without SO_PEERCRED."""
    monkeypatch.delattr(socket, "SO_PEERCRED")
    assert "does not tell who" in json.loads(say(obedient.path, ORDER))["error"]
    assert request(obedient.path)["ok"]


def test_an_order_that_takes_its_time_holds_up_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered meanwhile; it gets its answer however late, in its time."""
    monkeypatch.setattr(serve_module, "CLIENT_SECONDS", PATIENCE)
    begun, end = threading.Event(), threading.Event()

    def slowly(request: Any) -> dict[str, Any]:
        begun.set()
        assert end.wait(PATIENCE)
        return {"drained": True}

    publisher = Publisher(Place(folder), PROJECT, dict, {"drain": slowly})
    publisher.start()
    with ThreadPoolExecutor(1) as threads:
        order = threads.submit(request, publisher.path, "drain")
        assert begun.wait(PATIENCE)
        assert request(publisher.path)["ok"]
        publisher.before_fork()  # also while the thread that answers does not run
        end.set()
        publisher.after_fork_in_parent()
        assert order.result(PATIENCE)["drained"]
    publisher.stop()


def test_an_order_that_takes_too_long_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is who gave it and has gone."""
    monkeypatch.setattr(serve_module, "CLIENT_SECONDS", 0.1)
    monkeypatch.setattr(serve_module, "WORK_SECONDS", 0.1)
    end = threading.Event()
    others = set(threading.enumerate())
    publisher = Publisher(
        Place(folder), PROJECT, dict, {"drain": lambda _: {"late": end.wait(PATIENCE)}}
    )
    publisher.start()
    files = open_files()
    words = encode({"version": 1, "verb": "drain"})
    assert say(publisher.path, words) == b""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(publisher.path))
        client.sendall(words)
    wait_until(lambda: open_files() == files, "both to be let go")
    publisher.stop()
    end.set()
    wait_until(lambda: not set(threading.enumerate()) - others, "the threads to end")


def test_an_order_that_fails_is_an_answer_and_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: Any) -> dict[str, Any]:
        raise ZeroDivisionError("oh")

    def refuse(request: Any) -> dict[str, Any]:
        raise RefusalError("I would rather not")

    verbs = {"drain": fail, "resume": refuse}
    publisher = Publisher(Place(folder), PROJECT, dict, verbs)
    publisher.start()
    for _ in range(3):
        assert request(publisher.path, "drain")["error"] == "ZeroDivisionError: oh"
        assert request(publisher.path, "resume")["error"] == "I would rather not"
    publisher.stop()
    assert warnings_of(caplog) == ["Who asked got no answer to 'drain' (said once)"]


def test_an_order_without_a_thread_is_refused(
    obedient: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        told = json.loads(say(obedient.path, ORDER))
    assert told["error"] == "there can be no thread to do it: can't start new thread"


def test_the_suspended_are_named(folder: Path) -> None:
    publisher = Publisher(
        Place(folder),
        PROJECT,
        lambda: {"default": make_stats(), "other": make_stats(alias="other")},
        suspended=lambda: ["other"],
    )
    publisher.start()
    (reading,) = read_all(Place(folder), PROJECT, timeout=PATIENCE).processes
    publisher.stop()
    assert reading.suspended == ("other",)
    assert reading.as_dict()["suspended"] == ["other"]


def test_a_snapshot_that_fails_is_an_answer_and_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def snapshot() -> dict[str, Any]:
        raise LookupError("no pool of that name")

    publisher = Publisher(Place(folder), PROJECT, snapshot)
    publisher.start()
    for _ in range(3):
        answer = request(publisher.path)
        assert answer["error"] == "LookupError: no pool of that name"
    publisher.stop()
    assert len(warnings_of(caplog)) == 1


def test_64_clients_at_once_all_get_a_long_answer(folder: Path) -> None:
    """Longer than a socket takes at once, so that each has to be continued."""
    pools = {f"pool{number}": make_stats() for number in range(60)}
    publisher = Publisher(Place(folder), PROJECT, lambda: pools)
    publisher.start()
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(request, [publisher.path] * 64))
    publisher.stop()
    assert all(answer["pools"].keys() == pools.keys() for answer in answers)


def test_silent_clients_hold_up_nobody(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are let go after a time, those that ask and do not listen as well."""
    monkeypatch.setattr(serve_module, "CLIENT_SECONDS", 0.5)
    monkeypatch.setattr(serve_module, "REST_SECONDS", 0.05)
    publisher.start()
    with ExitStack() as clients:
        silent = []
        for number in range(serve_module.MOST_CLIENTS + 10):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(publisher.path))
            client.settimeout(PATIENCE)
            if number % 2:
                client.sendall(b'{"version": 1')
            silent.append(client)
        assert request(publisher.path)["ok"]
        for client in silent:
            with suppress(ConnectionResetError):  # what it had sent was not read
                assert client.recv(100) == b""


def test_who_does_not_read_is_let_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "CLIENT_SECONDS", 0.5)
    pools = {f"pool{number}": make_stats() for number in range(500)}
    publisher = Publisher(Place(folder), PROJECT, lambda: pools)
    publisher.start()
    files = open_files()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(publisher.path))
        client.sendall(encode({"version": 1, "verb": "stats"}))
        wait_until(lambda: open_files() == files + 2, "the client to be let in")
        assert request(publisher.path)["ok"]
        wait_until(lambda: open_files() == files + 1, "the client to be let go")
    publisher.stop()


def test_who_leaves_early_does_no_harm(publisher: Publisher) -> None:
    publisher.start()
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(publisher.path))
            client.sendall(encode({"version": 1, "verb": "stats"}))
    assert request(publisher.path)["ok"]


def test_other_users_are_not_answered(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should they ever get at the socket, the system still tells who they are."""
    stranger = Peer(1, os.geteuid() + 4321)
    monkeypatch.setattr(serve_module, "peer", lambda connected: stranger)
    publisher.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(publisher.path))
        assert client.recv(100) == b""


class Reluctant(socket.socket):
    """A listener that cannot let in the first ones."""

    failures = 3

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail as when there are too many open files."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_a_lack_of_files_is_waited_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop does not turn in vain meanwhile, and one warning is enough."""
    monkeypatch.setattr(serve_module, "REST_SECONDS", 0.05)
    listener = Reluctant(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a.sock"))
    listener.listen()
    server = Server(listener, lambda line, _who: line + b"\n")
    server.start()
    assert say(tmp_path / "a.sock", b"hello\n") == b"hello\n"
    server.stop(PATIENCE)
    server.stop(PATIENCE)
    assert listener.failures == 0
    assert len(warnings_of(caplog)) == 1
    assert "Too many open files" in warnings_of(caplog)[0]


def test_the_thread_outlives_its_own_faults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "REST_SECONDS", 0.01)
    monkeypatch.setattr(serve_module, "CLIENT_SECONDS", 0.5)
    faults = iter([True, True, False])

    def answer(line: bytes, _who: Peer | None) -> bytes:
        if next(faults):
            raise ZeroDivisionError
        return b"at last\n"

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a.sock"))
    listener.listen()
    server = Server(listener, answer)
    server.start()
    assert say(tmp_path / "a.sock", b"hello\n") == b""
    assert say(tmp_path / "a.sock", b"hello\n") == b""
    assert say(tmp_path / "a.sock", b"hello\n") == b"at last\n"
    server.stop(PATIENCE)
    assert len(warnings_of(caplog)) == 1


def test_the_folder_is_locked_against_tidying(
    publisher: Publisher, folder: Path
) -> None:
    """What tidies temporary directories tries this, and leaves such folders alone."""
    publisher.start()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        publisher.stop()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_after_a_fork_that_nobody_told_of_one_thread_lets_go(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would close what the first has just opened."""
    publisher.start()
    let_go, inside, go_on = [0], threading.Event(), threading.Event()
    after_fork = publisher.after_fork_in_child

    def slow() -> None:
        let_go[0] += 1
        inside.set()
        assert go_on.wait(30)
        after_fork()

    monkeypatch.setattr(publisher, "after_fork_in_child", slow)
    publisher._pid -= 1  # as a child finds it
    thread = threading.Thread(target=publisher.start)
    thread.start()
    assert inside.wait(10)
    publisher.start()
    go_on.set()
    thread.join(10)
    assert let_go == [1]
    assert publisher.path is not None
