"""Where the sockets are: a folder that belongs to one user, and that only they enter.

The usual folder is in a temporary directory, where everyone may make entries. So
nothing about it is taken for granted, each time it is used.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from djpool.monitor.process import uid, user_name

# What a socket's address holds, less the zero byte at its end.
ADDRESS_BYTES = 107 if sys.platform == "linux" else 103

SETTING = "DJPOOL_STATS_DIR"

# Links to the open files of the process that looks, where the system has them.
DESCRIPTORS = Path("/proc/self/fd")

_RUNTIME = Path("/run/user")
_SHARED = re.compile(r"djpool-([0-9]+)")
_SOCKET = re.compile(r"([0-9a-z]+)-([0-9]{1,10})(?:-[0-9a-f]+)?\.sock")


class PlaceError(Exception):
    """A folder cannot be used for sockets. The message names it and what is wrong."""


class NotOursError(PlaceError):
    """The folder is as it should be, but another user's. `owner` is their number."""

    def __init__(self, folder: Path, owner: int) -> None:
        super().__init__(f"{folder} belongs to user {user_name(owner)}")
        self.folder = folder
        self.owner = owner


@dataclass(frozen=True, slots=True)
class Place:
    """Where processes of one user publish, and where a reader looks for them."""

    # Where a process that asks now publishes.
    folder: Path
    # Where others of this user may publish, whose environment is another: a service
    # and a login of the same user often differ in XDG_RUNTIME_DIR and TMPDIR.
    also: tuple[Path, ...] = ()
    # Directories in which other users have folders like ours.
    around: tuple[Path, ...] = ()

    def others(self) -> Iterator[tuple[Path, int]]:
        """Give the folders of other users next to ours, and whose they should be.

        In directories that this user may not list there are none to be seen.
        """
        for directory in self.around:
            with suppress(OSError):
                for entry in sorted(directory.iterdir()):
                    name = _SHARED.fullmatch(entry.name)
                    if name and int(name[1]) != uid():
                        yield entry, int(name[1])
        if self.around and uid() == 0:
            with suppress(OSError):
                for home in sorted(_RUNTIME.iterdir()):
                    if home.name.isdecimal() and home.name != "0":
                        yield home / "djpool", int(home.name)


def find_place(
    configured: object = None,
    environ: Mapping[str, str] = os.environ,
) -> Place:
    """Return the place of this process's user. Nothing is made or opened yet.

    Args:
        configured: The path of the folder to use; the usual one if this is empty.
        environ: Has XDG_RUNTIME_DIR, or not.

    Raises:
        PlaceError: `configured` is no absolute path, or there is no temporary
            directory.
    """
    if configured:
        folder = Path(configured) if isinstance(configured, str | os.PathLike) else None
        if folder is None or not folder.is_absolute():
            raise PlaceError(f"{SETTING} must be an absolute path, not {configured!r}")
        return Place(folder)
    runtime, temporary = environ.get("XDG_RUNTIME_DIR"), _temporary_directories()
    folders = [directory / f"djpool-{uid()}" for directory in temporary]
    usual = _RUNTIME / str(uid())
    if usual != Path(runtime or "/") and _is_ours(usual):
        folders.append(usual / "djpool")
    if runtime and _is_ours(Path(runtime)):
        folders.insert(0, Path(runtime) / "djpool")
    return Place(folders[0], tuple(folders[1:]), temporary)


def make_folder(folder: Path) -> int:
    """Open a folder to publish in, and make it if it is missing.

    Returns its descriptor, which the caller closes.

    Raises:
        PlaceError: It cannot be made or opened, or others could tamper with it.
    """
    try:
        folder.mkdir(0o700)
        folder.chmod(0o700)  # the umask may have taken more than wanted
    except FileExistsError:
        pass
    except OSError as error:
        raise PlaceError(f"{folder} cannot be made: {error.strerror}") from error
    descriptor, owner = _open(folder)
    if owner != uid():
        os.close(descriptor)
        raise NotOursError(folder, owner)
    return descriptor


def open_folder(folder: Path, expected: int | None = None) -> tuple[int, int]:
    """Open a folder to read in; return its descriptor and its owner's number.

    The caller closes the descriptor. `expected` is whose the folder should be by its
    name; without it, it should be our own. Root may read everyone's.

    Raises:
        FileNotFoundError: There is none.
        NotOursError: It is another user's.
        PlaceError: Others could tamper with it.
    """
    descriptor, owner = _open(folder)
    if owner == uid() or (uid() == 0 and expected in {None, owner}):
        return descriptor, owner
    os.close(descriptor)
    raise NotOursError(folder, owner)


def _open(folder: Path) -> tuple[int, int]:
    """Open a folder that nobody but its owner can change what is in.

    What another user closed to us is theirs, whatever else is wrong with it.
    """
    seen = folder.lstat()
    if stat.S_ISLNK(seen.st_mode):
        raise PlaceError(f"{folder} is a symbolic link; it must be the folder itself")
    if not stat.S_ISDIR(seen.st_mode):
        raise PlaceError(f"{folder} is not a folder")
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError as error:
        if seen.st_uid != uid():
            raise NotOursError(folder, seen.st_uid) from error
        raise PlaceError(f"{folder} cannot be opened: {error.strerror}") from error
    except OSError as error:
        raise PlaceError(f"{folder} cannot be opened: {error.strerror}") from error
    # What was looked at above may have been replaced since; what is open stays.
    opened = os.fstat(descriptor)
    mode = stat.S_IMODE(opened.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        os.close(descriptor)
        raise PlaceError(
            f"{folder} is writable by other users (its mode is {mode:04o}); "
            f"take that away: chmod go-w {folder}"
        )
    return descriptor, opened.st_uid


def socket_name(project: str, pid: int, mark: str = "") -> str:
    """Return the name of a process's socket; `mark` tells apart those of one pid."""
    return f"{project}-{pid}{mark and '-'}{mark}.sock"


def split_socket_name(name: str) -> tuple[str, int] | None:
    """Return the project and the pid in a socket's name; None if it is no such name."""
    match = _SOCKET.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def address(folder: Path, descriptor: int, name: str) -> str:
    """Return how to name a socket in an open folder, also one with a long path.

    Raises:
        PlaceError: The path is too long, and this system knows no other name for it.
    """
    path = str(folder / name)
    length = len(os.fsencode(path))
    if length <= ADDRESS_BYTES:
        return path
    if (DESCRIPTORS / str(descriptor)).exists():
        return str(DESCRIPTORS / str(descriptor) / name)
    raise PlaceError(
        f"{path} has {length} bytes; a socket's path may have {ADDRESS_BYTES}. "
        f"Set {SETTING} to a shorter one"
    )


def _temporary_directories() -> tuple[Path, ...]:
    try:
        chosen = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise PlaceError(f"no temporary directory: {error.strerror}") from error
    # TMPDIR chooses another one for some processes.
    return tuple(dict.fromkeys([Path(chosen), Path("/tmp")]))  # noqa: S108


def _is_ours(directory: Path) -> bool:
    try:
        seen = directory.stat()
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == uid()
