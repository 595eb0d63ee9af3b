"""A folder for sockets is ours alone, or it is refused by name."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from djpool.monitor import place as place_module
from djpool.monitor.place import (
    ADDRESS_BYTES,
    NotOursError,
    Place,
    PlaceError,
    address,
    find_place,
    make_folder,
    open_folder,
    socket_name,
    split_socket_name,
)


def make(folder: Path) -> None:
    """Make a folder and let go of it."""
    os.close(make_folder(folder))


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("configured", ["run/djpool", "~/djpool", 5, True])
def test_a_configured_folder_is_an_absolute_path(configured: object) -> None:
    with pytest.raises(PlaceError, match=r"DJPOOL_STATS_DIR .*absolute") as caught:
        find_place(configured)
    assert repr(configured) in str(caught.value)


def test_a_configured_folder_is_the_only_one(tmp_path: Path) -> None:
    """Who has chosen a folder gets no word about others."""
    assert find_place(str(tmp_path)) == Place(tmp_path)
    assert list(Place(tmp_path).others()) == []


def test_the_runtime_directory_is_used_if_it_is_ours(tmp_path: Path) -> None:
    """A process without the variable is still found: it is in one of `also`."""
    place = find_place(environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert place.folder == tmp_path / "djpool"
    assert find_place(environ={}).folder in place.also


@pytest.mark.usefixtures("another_user")
def test_the_runtime_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    """Such as the one that `su` leaves in the environment."""
    place = find_place(environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert place.folder.name == f"djpool-{os.geteuid()}"
    assert tmp_path / "djpool" not in place.also


def test_a_missing_runtime_directory_is_not_used(tmp_path: Path) -> None:
    place = find_place(environ={"XDG_RUNTIME_DIR": str(tmp_path / "missing")})
    assert place.folder.name == f"djpool-{os.geteuid()}"


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_folder_is_for_its_owner_only(folder: Path, umask: int) -> None:
    """Whatever the umask says, and however often it is asked for."""
    before = os.umask(umask)
    try:
        make(folder)
        make(folder)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700


def test_a_folder_that_others_may_read_is_kept_as_it_is(folder: Path) -> None:
    """Reading tells them no more than names; the sockets are closed to them."""
    folder.mkdir(0o755)
    make(folder)
    assert mode(folder) == 0o755


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, bits: int) -> None:
    folder.mkdir()
    folder.chmod(bits)
    for use in (make, open_folder):
        with pytest.raises(PlaceError, match="writable by other users") as caught:
            use(folder)
        assert str(folder) in str(caught.value)
        assert f"{bits:04o}" in str(caught.value)


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """Also one to a good folder: who made it could make it lead elsewhere later."""
    (tmp_path / "elsewhere").mkdir(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    for use in (make, open_folder):
        with pytest.raises(PlaceError, match=f"{folder} is a symbolic link"):
            use(folder)


def test_a_file_is_refused(folder: Path) -> None:
    folder.touch()
    for use in (make, open_folder):
        with pytest.raises(PlaceError, match=f"{folder} is not a folder"):
            use(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "missing" / "sockets"
    with pytest.raises(PlaceError, match=f"{folder} cannot be made: No such file"):
        make(folder)


@pytest.mark.usefixtures("another_user")
def test_another_users_folder_is_refused(folder: Path) -> None:
    folder.mkdir(0o700)
    for use in (make, open_folder):
        with pytest.raises(NotOursError, match=f"{folder} belongs to user"):
            use(folder)


def test_root_reads_the_folder_of_anybody_who_should_have_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not one that somebody put where another user's should be."""
    folder.mkdir(0o700)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    descriptor, found = open_folder(folder, owner)
    os.close(descriptor)
    assert found == owner
    monkeypatch.setattr(place_module, "_open", lambda path: (os.dup(1), 777))
    with pytest.raises(NotOursError):
        open_folder(folder, 778)


def test_the_folders_of_other_users_are_known_by_their_names(tmp_path: Path) -> None:
    mine = f"djpool-{os.geteuid()}"
    for name in (mine, "djpool-4242", "djpool-a", "djpool-4242x", "other"):
        (tmp_path / name).mkdir()
    others = Place(tmp_path / mine, around=(tmp_path, tmp_path / "missing")).others()
    assert (tmp_path / "djpool-4242", 4242) in list(others)
    assert [path for path, _ in others if path.parent == tmp_path] == []


def test_a_long_path_can_be_used_where_the_system_can(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    descriptor = make_folder(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address(folder, descriptor, "a.sock"))
        assert (folder / "a.sock").is_socket()
    finally:
        os.close(descriptor)


def test_a_path_that_is_too_long_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "DESCRIPTORS", tmp_path / "none")
    folder = tmp_path / ("long" * 30)
    with pytest.raises(PlaceError, match="DJPOOL_STATS_DIR") as caught:
        address(folder, 3, "a.sock")
    assert str(folder / "a.sock") in str(caught.value)
    assert str(ADDRESS_BYTES) in str(caught.value)
    assert address(Path("/run"), 3, "a.sock") == "/run/a.sock"


@pytest.mark.parametrize("mark", ["", "00ff"])
def test_a_sockets_name_says_whose_it_is(mark: str) -> None:
    assert split_socket_name(socket_name("abc", 42, mark)) == ("abc", 42)


@pytest.mark.parametrize("name", ["abc-42", "abc.sock", "abc-x.sock", "abc-42.sock~"])
def test_other_names_are_no_sockets(name: str) -> None:
    assert split_socket_name(name) is None
