"""Showing this process's figures to whoever asks for them on its socket."""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from djpool.core.stats import PoolStats
from djpool.core.workers import is_the_end
from djpool.monitor import process, protocol
from djpool.monitor.place import Place, PlaceError, address, make_folder, socket_name
from djpool.monitor.protocol import VERSION, Peer, ProtocolError, RefusalError
from djpool.monitor.serve import Answer, Server

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("djpool.monitor")

Snapshot = Callable[[], Mapping[str, PoolStats]]
# Takes a request and returns what belongs into its answer. Raises RefusalError where
# it will not do what was asked.
Verb = Callable[[Mapping[str, Any]], Mapping[str, Any]]

# Seconds that the thread is given to end at a stop, at a fork and at an exit. It takes
# as long only if a snapshot does; then it goes on, and ends after that.
_STOP_SECONDS = 1.0
_FORK_SECONDS = 0.1
_EXIT_SECONDS = 0.05

_QUEUE = 128
_PROJECT = re.compile("[0-9a-z]{1,32}")
_SHOWN = 80


class Publisher:
    """Answers for this process on a socket of its own. Thread-safe.

    Args:
        place: Where the socket goes.
        project: Which project the pools are of: 1 to 32 small letters and digits.
        snapshot: Gives the figures of every pool, by alias. Called in another thread
            when somebody asks, so it must not wait for a database.
        verbs: Orders: what can be asked for besides "stats", by this process's user
            and by root. Each is carried out in a thread of its own, so it may wait.
        suspended: Gives the aliases whose pools lend nothing just now.

    Raises:
        ValueError: `project` will not do.
    """

    def __init__(
        self,
        place: Place,
        project: str,
        snapshot: Snapshot,
        verbs: Mapping[str, Verb] | None = None,
        suspended: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        if not _PROJECT.fullmatch(project):
            raise ValueError(f"project must be 1 to 32 of a-z and 0-9, not {project!r}")
        self._place = place
        self._project = project
        self._snapshot = snapshot
        self._suspended = suspended
        self._verbs: dict[str, Verb] = {**(verbs or {}), "stats": self._stats}
        self._complaints: set[type[Exception]] = set()
        # For each forked process, of the thread that lets go of what is the parent's.
        self._claims: dict[int, object] = {}
        self._reset()

    def _reset(self) -> None:
        # Serialises start() and stop(); nobody else waits for it.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._tried = False
        self._told = False  # that there was no thread
        self._published: _Published | None = None

    @property
    def path(self) -> Path | None:
        """Where this process's socket is; None while it has none."""
        published = self._published
        return published.path if published else None

    def start(self) -> None:
        """Begin to answer, unless that was begun before. Raises nothing.

        Where it is not possible, one warning says why, and it is not tried again
        before `stop()` or a fork; where only a thread was missing, with the next call.
        """
        if not self._is_ours() or self._tried:
            return
        problem: Exception | None = None
        with self._lock:
            if self._tried:
                return
            self._tried = True
            try:
                if hasattr(socket, "AF_UNIX"):
                    self._published = _Published(
                        self._place.folder, self._project, self._answer
                    )
                    atexit.register(self._at_exit)
            except (PlaceError, OSError) as error:
                problem = error
            except RuntimeError as error:  # no thread, or none that may be a daemon
                self._tried = False
                if is_the_end(error) or self._told:
                    return
                self._told = True
                problem = error
        if problem:
            logger.warning(
                "Other processes cannot see this one's pools (poolstats): %s", problem
            )
        elif not self._published:
            logger.info("This platform has no Unix sockets; poolstats cannot be used")

    def _is_ours(self) -> bool:
        """Make it this process's, after a fork that Python was not told of.

        One thread does: another one's socket may have the number of one that is closed
        here, as soon as it is. False for the others meanwhile.
        """
        pid = os.getpid()
        if self._pid != pid:
            claim = object()
            if self._claims.setdefault(pid, claim) is not claim:
                return False
            self.after_fork_in_child()
        return True

    def stop(self) -> None:
        """End answering and remove the socket. `start()` may be called again."""
        self._end(_STOP_SECONDS)
        atexit.unregister(self._at_exit)

    def before_fork(self) -> None:
        """End the thread for a moment: forking is safer without it.

        Python warns of forks beside other threads, and where threads are greenlets
        the child would have this one, too. Who asks meanwhile is answered later.
        """
        published = self._published
        if published and self._pid == os.getpid():
            published.server.pause(_FORK_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Go on where `before_fork()` interrupted."""
        published = self._published
        if published and self._pid == os.getpid():
            try:
                published.server.start()
            except RuntimeError:  # no threads any more: the process is about to end
                self._end(0)

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's, without touching it.

        To be called in a forked child. `start()` then makes the child's own socket.
        """
        inherited = self._published
        self._reset()
        if inherited:
            inherited.close()

    def _end(self, patience: float) -> None:
        with self._lock:
            if self._pid != os.getpid():
                return
            published, self._published = self._published, None
            self._tried = False
        if published:
            published.remove()
            published.stop(patience)

    def _at_exit(self) -> None:
        # A child that forgot to say that it is one must not remove our socket.
        if self._pid == os.getpid():
            self._end(_EXIT_SECONDS)

    def _answer(self, line: bytes, who: Peer | None) -> bytes | Future[bytes]:
        try:
            request = protocol.decode(line)
            verb = self._verb(request)
            if request["verb"] == "stats":
                return self._carry_out(verb, request)
            _admit(who)
            return _in_a_thread(partial(self._carry_out, verb, request))
        except (ProtocolError, RefusalError) as error:
            return _refusal(str(error))

    def _carry_out(self, verb: Verb, request: Mapping[str, Any]) -> bytes:
        try:
            answer = {"version": VERSION, "ok": True, **_identity(), **verb(request)}
            return protocol.encode(answer)
        except RefusalError as error:
            return _refusal(str(error))
        except Exception as error:  # whatever a pool or a verb raises
            if type(error) not in self._complaints:
                self._complaints.add(type(error))
                logger.warning(
                    "Who asked got no answer to %s (said once)",
                    _show(request["verb"]),
                    exc_info=error,
                )
            return _refusal(f"{type(error).__name__}: {error}")

    def _verb(self, request: Mapping[str, Any]) -> Verb:
        version, verb = request.get("version"), request.get("verb")
        if version != VERSION:
            raise ProtocolError(f"version {_show(version)}; spoken here: {VERSION}")
        if not isinstance(verb, str) or verb not in self._verbs:
            known = ", ".join(sorted(self._verbs))
            raise ProtocolError(f"unknown verb {_show(verb)}; known here: {known}")
        return self._verbs[verb]

    def _stats(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "pools": {
                alias: stats.as_dict() for alias, stats in self._snapshot().items()
            },
            "suspended": list(self._suspended()),
        }


class _Published:
    """A socket in the folder, and the thread that answers on it."""

    def __init__(self, folder: Path, project: str, answer: Answer) -> None:
        self._folder = make_folder(folder)
        try:
            if fcntl is not None:
                # systemd-tmpfiles leaves alone what is locked like this; else it
                # removes sockets of ten days.
                with suppress(OSError):
                    fcntl.flock(self._folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
            listener, self._name = _listen(folder, self._folder, project)
        except BaseException:
            os.close(self._folder)
            raise
        self.path = folder / self._name
        self.server = Server(listener, answer)
        try:
            self.server.start()
        except BaseException:
            self.remove()
            self.close()
            raise

    def remove(self) -> None:
        """Take the socket out of the folder, so that nobody else asks."""
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)

    def stop(self, patience: float) -> None:
        """End the thread, which closes its sockets; wait for it some seconds."""
        self.server.stop(patience)
        os.close(self._folder)

    def close(self) -> None:
        """Close everything where the thread does not run, as in a forked child."""
        self.server.close()
        os.close(self._folder)


def _listen(folder: Path, descriptor: int, project: str) -> tuple[socket.socket, str]:
    """Return a listening socket and its name in the folder.

    It listens before it has that name, so who finds nobody listening on a socket
    may take it for a dead process's, and remove it.

    Raises:
        PlaceError: It could not be made in this folder.
    """
    mark = secrets.token_hex(4)
    hidden = f".{project}-{os.getpid()}-{mark}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address(folder, descriptor, hidden))
        # Whatever the umask says. Nobody else can enter the folder meanwhile.
        os.chmod(hidden, stat.S_IRUSR | stat.S_IWUSR, dir_fd=descriptor)
        listener.listen(_QUEUE)
        for name in (
            socket_name(project, os.getpid()),
            # Ours is taken: by another interpreter in this process, or a process that
            # has our number in another container.
            socket_name(project, os.getpid(), mark),
        ):
            if _is_free(address(folder, descriptor, name)):
                os.rename(hidden, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
                break
    except BaseException as error:
        listener.close()
        with suppress(OSError):
            os.unlink(hidden, dir_fd=descriptor)
        if isinstance(error, OSError):
            raise PlaceError(
                f"{folder} cannot be written to: {error.strerror or error}"
            ) from error
        raise
    return listener, name


def _is_free(path: str) -> bool:
    """Whether nobody listens there: nothing is there, or what a dead process left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return True
        except ConnectionRefusedError:
            return Path(path).is_socket()  # another file refuses, too
        except OSError:
            return False
    return False


def _identity() -> Mapping[str, Any]:
    pid = os.getpid()
    return {
        "pid": pid,
        "born": process.born(pid),
        "command": process.command_line(),
    }


def _admit(who: Peer | None) -> None:
    """Refuse orders from anyone but this process's user and root.

    Only they can enter the folder with the socket. An order is worth a second look,
    at what the system itself says of who is connected.

    Raises:
        RefusalError: It is someone else, or the system does not say who.
    """
    if who is None:
        raise RefusalError("this system does not tell who gives an order")
    if who.uid not in {process.uid(), 0}:
        raise RefusalError(
            f"orders of user {process.user_name(who.uid)} are not taken, only those "
            f"of user {process.user_name(process.uid())} and of root"
        )


def _in_a_thread(work: Callable[[], bytes]) -> Future[bytes]:
    """Begin to work, beside the thread that answers everyone.

    Raises:
        RefusalError: There can be no further thread.
    """
    answer: Future[bytes] = Future()
    # A daemon, as an exit must not wait for a server that does not answer.
    thread = threading.Thread(
        target=lambda: answer.set_result(work()), name="djpool-order", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:
        raise RefusalError(f"there can be no thread to do it: {error}") from error
    return answer


def _refusal(reason: str) -> bytes:
    return protocol.encode({"version": VERSION, "ok": False, "error": reason})


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
