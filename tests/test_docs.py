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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    for number, code in enumerate(BLOCK.findall(page.read_text())):
        example = tmp_path / f"{page.stem}_{number}.py"
        example.write_text(code)
        run = subprocess.run(
            [sys.executable, "-c", RUNNER, example, tmp_path / "database.sqlite3"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{code}\n{run.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link
        for link in LINK.findall(page.read_text())
        if not (page.parent / link).exists()
    ]
    assert dead == []
