"""Asking a project's processes, and saying what stayed unseen.

What is asked for are their figures, or that they carry out an order.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from djpool.core.stats import PoolStats
from djpool.monitor import process
from djpool.monitor.place import (
    NotOursError,
    Place,
    PlaceError,
    address,
    open_folder,
    split_socket_name,
)
from djpool.monitor.protocol import (
    Peer,
    ProtocolError,
    RefusalError,
    StoppedError,
    ask,
)

# Seconds for all processes together: they are asked at the same time. One looks at
# pools when a machine is busy; what was stopped is not waited for.
ANSWER_SECONDS = 5.0
# Seconds for all of them to carry out an order: they may have connections to close.
ORDER_SECONDS = 30.0

_AT_ONCE = 256
# More of a kind are counted, not listed: anyone may fill a shared directory.
_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """What one process said of itself. Its pools are by alias."""

    pid: int
    user: str
    command: str
    uptime_seconds: float | None  # None where the system does not say
    pools: dict[str, PoolStats]
    # Aliases whose pools lend nothing just now.
    suspended: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and strings, fit for JSON."""
        return {
            "pid": self.pid,
            "user": self.user,
            "command": self.command,
            "uptime_seconds": self.uptime_seconds,
            "pools": {alias: stats.as_dict() for alias, stats in self.pools.items()},
            "suspended": list(self.suspended),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What all processes said, by pid, and in sentences what could not be seen."""

    processes: list[ProcessReading]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What became of an order.

    `done` are the processes that carried it out, with the figures they had then;
    `failed` says in a sentence for each other one why it did not, or may not have;
    `notes` say what could not be seen, and so was not told.
    """

    done: list[ProcessReading]
    failed: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Door:
    """A socket that a process of the project should answer on."""

    folder: Path
    descriptor: int
    owner: int
    name: str
    pid: int


def read_all(
    place: Place,
    project: str,
    pid: int | None = None,
    *,
    timeout: float | None = None,
) -> Readings:
    """Ask the running processes of a project for the figures of their pools.

    Sockets that dead processes left are removed. Root also asks the processes of
    other users; everyone else is told of them.

    Args:
        place: Where to look.
        project: Whose sockets to ask.
        pid: Only this process; all if None.
        timeout: Seconds that all processes together have to answer; ANSWER_SECONDS
            if None.

    Whatever goes wrong becomes a note; nothing is raised. Any thread may call it.
    """
    seconds = ANSWER_SECONDS if timeout is None else timeout
    told = _tell_all(place, project, pid, {"verb": "stats"}, seconds)
    return Readings(processes=told.done, notes=told.failed + told.notes)


def order_all(
    place: Place,
    project: str,
    order: Mapping[str, Any],
    pid: int | None = None,
    *,
    timeout: float | None = None,
) -> Outcomes:
    """Have the running processes of a project carry out an order.

    Args:
        place: Where to look.
        project: Whose sockets to ask.
        order: The verb and what belongs to it.
        pid: Only this process; all if None.
        timeout: Seconds that all processes together have for it; ORDER_SECONDS if
            None. One that takes longer may still carry it out.

    Whatever goes wrong is a sentence in what is returned; nothing is raised. Any
    thread may call it.
    """
    seconds = ORDER_SECONDS if timeout is None else timeout
    return _tell_all(place, project, pid, order, seconds)


def _tell_all(
    place: Place,
    project: str,
    pid: int | None,
    request: Mapping[str, Any],
    timeout: float,
) -> Outcomes:
    if not hasattr(socket, "AF_UNIX"):
        return Outcomes(
            done=[],
            failed=[],
            notes=["This platform has no Unix sockets, over which processes tell."],
        )
    with ExitStack() as descriptors:
        search = _Search(project, descriptors)
        search.look(place)
        doors = [door for door in search.doors if pid in {None, door.pid}]
        done, failed = _ask_all(doors, request, timeout)
    notes = search.notes
    if not done and search.strangers:
        told = _count(search.strangers, "process", "processes")
        unseen = "of other projects or other settings modules can be seen in"
        notes = [f"{told} {unseen} {place.folder}.", *notes]
    return Outcomes(done=done, failed=failed, notes=notes)


class _Search:
    """Finds the sockets of a project, and what it would say about the rest."""

    def __init__(self, project: str, descriptors: ExitStack) -> None:
        self.doors: list[_Door] = []
        self.notes: list[str] = []
        self.strangers = 0
        self._project = project
        self._descriptors = descriptors
        self._seen: set[tuple[int, int]] = set()

    def look(self, place: Place) -> None:
        for folder in (place.folder, *place.also):
            try:
                self._enter(folder)
            except PlaceError as error:
                self.notes.append(f"{error}; it was not read.")
        me = process.user_name(process.uid())
        unseen: dict[str, None] = {}
        for folder, owner in place.others():
            try:
                self._enter(folder, owner)
            except NotOursError as error:
                name = process.user_name(owner)
                # A folder that is not whose name it has is nobody's: not worth a word.
                if error.owner == owner:
                    run = f"run this as {name}{' or as root' if owner else ''}"
                    told = f"Processes of user {name} are not visible to user {me}"
                    unseen[f"{told}; {run}."] = None
            except PlaceError as error:
                unseen[f"{error}; it was not read."] = None
        self.notes += list(unseen)[:_LISTED]
        if len(unseen) > _LISTED:
            more = _count(len(unseen) - _LISTED, "folder", "folders")
            self.notes.append(f"So it is with {more} more of other users.")

    def _enter(self, folder: Path, expected: int | None = None) -> None:
        try:
            descriptor, owner = open_folder(folder, expected)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise PlaceError(f"{folder}: {error.strerror}") from error
            return
        self._descriptors.callback(os.close, descriptor)
        opened = os.fstat(descriptor)
        if (opened.st_dev, opened.st_ino) in self._seen:
            return  # by another name
        self._seen.add((opened.st_dev, opened.st_ino))
        foreign = []
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208 (what is open)
            if name.startswith("."):
                continue  # about to become one
            found = split_socket_name(name)
            try:
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            except OSError:
                continue  # its process has ended
            if found is None or not stat.S_ISSOCK(mode):
                foreign.append(process.printable(name))
            elif found[0] != self._project:
                self.strangers += 1
            else:
                self.doors.append(_Door(folder, descriptor, owner, name, found[1]))
        if foreign:
            listed = ", ".join(foreign[:_LISTED])
            more = f" and {len(foreign) - _LISTED} more" if foreign[_LISTED:] else ""
            self.notes.append(
                f"Not a process's socket, left alone in {folder}: {listed}{more}."
            )


def _ask_all(
    doors: list[_Door], request: Mapping[str, Any], timeout: float
) -> tuple[list[ProcessReading], list[str]]:
    if not doors:
        return [], []
    deadline = time.monotonic() + timeout
    with ThreadPoolExecutor(min(len(doors), _AT_ONCE), "djpool-read") as threads:
        results = list(
            threads.map(
                partial(_knock, request, deadline=deadline, timeout=timeout), doors
            )
        )
    readings = [each for each in results if isinstance(each, ProcessReading)]
    notes = [each for each in results if isinstance(each, str)]
    return sorted(readings, key=lambda reading: reading.pid), notes


def _knock(
    request: Mapping[str, Any], door: _Door, *, deadline: float, timeout: float
) -> ProcessReading | str | None:
    """Ask one process. What comes back is a reading, a note or nothing to say."""
    try:
        where = address(door.folder, door.descriptor, door.name)
        answer, peer = ask(where, request, deadline=deadline, owner=door.owner)
        return _read_answer(answer, door, peer, request.get("alias"))
    except ConnectionRefusedError:
        return _bury(door)
    except RefusalError as error:
        reason = process.printable(str(error))
        if request["verb"] != "stats":
            return f"Process {door.pid} refused: {reason}."
        return _explain(ProtocolError(f"it says: {reason}"), door, timeout)
    except (PlaceError, ProtocolError, StoppedError, EOFError, OSError) as error:
        return _explain(error, door, timeout)


def _explain(error: Exception, door: _Door, timeout: float) -> str | None:
    pid = door.pid
    match error:
        case StoppedError():
            return f"Process {pid} is stopped (SIGSTOP, a debugger): no answer."
        case TimeoutError():
            return f"Process {pid} did not answer within {timeout:g} s."
        case ProtocolError():
            reason = process.printable(str(error))
            return f"The answer of process {pid} cannot be used: {reason}."
        case FileNotFoundError():
            return None  # it ended a moment ago
        case ConnectionError() | EOFError() if not process.is_alive(pid):
            return None
        case _:
            return f"Process {pid} could not be asked: {error}."


def _bury(door: _Door) -> str | None:
    """Remove a socket on which nobody listens.

    A process listens before its socket has this name, so on Linux it is certain that
    nobody will. Elsewhere one that is asked too much refuses as well.
    """
    if sys.platform != "linux" and process.is_alive(door.pid):
        return f"Process {door.pid} refused to be asked; it may be too busy."
    if door.owner == process.uid():
        with suppress(OSError):
            os.unlink(door.name, dir_fd=door.descriptor)
    return None


def _read_answer(
    answer: Mapping[str, Any], door: _Door, peer: Peer | None, alias: str | None
) -> ProcessReading:
    """Check an answer, which must be of the pool of an alias if there is one.

    Raises:
        RefusalError: The process did not do what it was asked.
        ProtocolError: It is not one, or not that of the process it should be from.
    """
    if answer.get("ok") is not True:
        raise RefusalError(answer.get("error", "nothing"))
    pid, born, command = (answer.get(key) for key in ("pid", "born", "command"))
    if pid != door.pid:
        raise ProtocolError(f"it comes from process {pid!r}")
    # The number that the process has for us: another one, or 0, if it runs in another
    # container.
    number = door.pid if peer is None else peer.pid
    known = process.born(number) if number else None
    if born is not None and not isinstance(born, int | float):
        raise ProtocolError(f"born: {born!r} is no number")
    if born is not None and known is not None and born != known:
        raise ProtocolError(
            "it comes from another process than the one that has this number now"
        )
    if not isinstance(command, str) or not isinstance(answer.get("pools"), dict):
        raise ProtocolError("its command or its pools are missing")
    if alias is not None and alias not in answer["pools"]:
        raise ProtocolError(f"it says nothing of {alias!r}")
    return ProcessReading(
        pid=door.pid,
        user=process.user_name(door.owner),
        command=process.printable(command),
        uptime_seconds=process.age(born),
        pools=dict(_read_pools(answer["pools"])),
        suspended=tuple(_read_names(answer.get("suspended", []))),
    )


def _read_pools(pools: Mapping[str, Any]) -> Iterator[tuple[str, PoolStats]]:
    for alias, values in pools.items():
        if not isinstance(values, dict):
            raise ProtocolError(f"pool {alias}: not a JSON object")
        try:
            stats = PoolStats.from_dict(values)
        except ValueError as error:
            raise ProtocolError(f"pool {alias}: {error}") from error
        _read_names(
            [alias, stats.name, stats.alias, stats.vendor, stats.implementation]
        )
        yield alias, stats


def _read_names(names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("no list of names")
    if not all(name.isprintable() for name in names):
        raise ProtocolError("a name has signs that cannot be printed")
    return names


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
