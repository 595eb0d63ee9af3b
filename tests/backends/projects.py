"""A project of its own with real pools: its settings, its processes, its commands."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.backends.engines import server_database

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

SETTINGS = """
    SECRET_KEY = "tests"
    USE_TZ = True
    INSTALLED_APPS = ["djpool"]
    DATABASES = {{
        "default": {database!r},
        "cache": {{
            "ENGINE": "djpool.backends.sqlite3",
            "NAME": {sqlite!r},
            "OPTIONS": {{"pool": {{"max_size": 3}}}},
        }},
    }}
    # A busy machine fails no test.
    from djpool.monitor import read
    read.ANSWER_SECONDS = read.ORDER_SECONDS = 60.0
"""


def make_project(folder: Path, postgres: PostgresServer) -> dict[str, str]:
    """Write settings down; return the environment of the project's processes.

    "default" is a pool of up to 4 on PostgreSQL, "cache" one of up to 3 on SQLite.
    """
    database: dict[str, Any] = {
        "ENGINE": "djpool.backends.postgresql",
        **server_database(postgres),
        "OPTIONS": {"pool": {"max_size": 4}},
    }
    text = textwrap.dedent(SETTINGS).format(
        database=database, sqlite=str(folder / "cache.sqlite3")
    )
    (folder / "shop_settings.py").write_text(text)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "DJANGO_SETTINGS_MODULE": "shop_settings",
    }


def start(
    project: dict[str, str], program: str, *arguments: str
) -> subprocess.Popen[str]:
    """Start a process of the project; it has said "ready" when this returns."""
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env=project,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def manage(
    project: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as an administrator does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env=project,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
