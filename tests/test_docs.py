"""The examples in README and docs/ run, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# An example that begins with its file's name is that file for those after it.
NAMED = re.compile(r"# (\S+\.py)\n")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")

# Examples of settings are settings: their pools must be right. Others run in a
# project with SQLite.
RUNNER = """
import sys
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    INSTALLED_APPS=["djpool"],
    DATABASES={
        "default": {
            "ENGINE": "djpool.backends.sqlite3",
            "NAME": sys.argv[2],
            "OPTIONS": {"pool": True},
        }
    },
)
django.setup()

from django.db import connections

import djpool

namespace = {}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), namespace)
for alias, described in namespace.get("DATABASES", {}).items():
    connections.settings[alias] = connections.configure_settings(
        {"default": {}, alias: described}
    )[alias]
    djpool.pool(alias)
connections.close_all()
"""


def save(code: str, folder: Path, name: str) -> Path:
    """Write an example down, in packages if its name says so."""
    named = NAMED.match(code)
    example = folder / (named[1] if named else name)
    example.parent.mkdir(parents=True, exist_ok=True)
    for package in example.relative_to(folder).parents:
        (folder / package / "__init__.py").touch()
    example.write_text(code)
    return example


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), *sys.path])
    for number, code in enumerate(BLOCK.findall(page.read_text())):
        example = save(code, tmp_path, f"{page.stem}_{number}.py")
        how: list[str | Path] = ["-c", RUNNER, example, tmp_path / "database.sqlite3"]
        if example.name.startswith("test_"):
            how = ["-m", "pytest", "-q", "-p", "no:django", example]
        run = subprocess.run(
            [sys.executable, *how],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{code}\n{run.stdout}{run.stderr}"


def test_the_simulation_prints_what_its_page_says() -> None:
    """It draws the same numbers each time."""
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fleet.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert f"$ python benchmarks/fleet.py\n{run.stdout}```" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link
        for link in LINK.findall(page.read_text())
        if not (page.parent / link).exists()
    ]
    assert dead == []
