"""All processes of a project meet, and only they; whatever the settings say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from djpool import channel
from djpool.monitor.place import Place, PlaceError
from tests.monitor.helpers import make_stats

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Give the settings of a project; what it published is taken back."""
    monkeypatch.delenv("DJPOOL_STATS_DIR", raising=False)
    monkeypatch.setattr(channel, "publisher", None)
    monkeypatch.setattr(channel, "_refused", False)
    settings = SimpleNamespace(SETTINGS_MODULE="tests.monitor.settings")
    monkeypatch.setattr(channel, "settings", settings)
    yield settings
    if channel.publisher is not None:
        channel.publisher.stop()


def test_the_setting_comes_before_the_environment(
    settings: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = channel.place()
    assert usual.folder.name in {"djpool", f"djpool-{os.geteuid()}"}
    monkeypatch.setenv("DJPOOL_STATS_DIR", "/run/shop")
    assert channel.place() == Place(Path("/run/shop"))
    settings.DJPOOL_STATS_DIR = Path("/run/other")
    assert channel.place() == Place(Path("/run/other"))
    settings.DJPOOL_STATS_DIR = None
    assert channel.place() == Place(Path("/run/shop"))
    settings.DJPOOL_STATS_DIR = "run"
    with pytest.raises(PlaceError, match="not 'run'"):
        channel.place()


def test_a_project_is_its_settings_module_and_where_that_is(
    settings: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Loaded or not, through links or not: it is the same file."""
    here = channel.project()
    assert here == channel.project()
    module = ModuleType("shop.settings")
    monkeypatch.setitem(sys.modules, "shop.settings", module)
    settings.SETTINGS_MODULE = "shop.settings"
    words = set()
    for name in ("first.py", "second.py"):
        module.__file__ = str(tmp_path / name)
        words.add(channel.project())
    (tmp_path / "link.py").symlink_to(tmp_path / "second.py")
    module.__file__ = str(tmp_path / "link.py")
    words.add(channel.project())
    assert len(words) == 2
    assert here not in words


@pytest.mark.parametrize("name", [None, "no.such.settings"])
def test_a_project_without_a_settings_file_has_a_word_too(
    settings: SimpleNamespace, name: str | None
) -> None:
    """Django can be configured in code, by the file that was started."""
    settings.SETTINGS_MODULE = name
    assert channel.project().isalnum()


def test_publishing_again_changes_nothing(
    settings: SimpleNamespace, folder: Path
) -> None:
    settings.DJPOOL_STATS_DIR = folder
    channel.publish(lambda: {"default": make_stats()})
    first = channel.publisher
    channel.publish(dict)
    assert channel.publisher is first
    (reading,) = channel.readings().processes
    assert reading.pid == os.getpid()
    assert list(reading.pools) == ["default"]
    assert channel.readings(pid=1).processes == []


def test_a_wrong_setting_is_one_warning(
    settings: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """The application goes on."""
    settings.DJPOOL_STATS_DIR = "run"
    for _ in range(3):
        channel.publish(dict)
    (record,) = caplog.records
    assert record.name == "djpool.monitor"
    assert "DJPOOL_STATS_DIR must be an absolute path" in record.getMessage()
    assert channel.publisher is None
