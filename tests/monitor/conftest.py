"""Fixtures for the tests of the monitor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djpool.monitor.place import Place
from djpool.monitor.publish import Publisher
from tests.monitor.helpers import PROJECT, make_stats

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder for sockets, not made yet."""
    return tmp_path / "sockets"


@pytest.fixture
def publisher(folder: Path) -> Iterator[Publisher]:
    """Give a publisher of one pool, stopped after the test."""
    publisher = Publisher(Place(folder), PROJECT, lambda: {"default": make_stats()})
    yield publisher
    publisher.stop()


@pytest.fixture
def another_user(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let this process take itself for one of a user that is neither root nor us."""
    number = os.geteuid() + 4321
    monkeypatch.setattr(os, "geteuid", lambda: number)
    return number
