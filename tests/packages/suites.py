"""Packages' own tests, from their source archives, on an engine of djpool's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[2] / ".cache"

SETTINGS = """
import json
import os

from {settings} import *

DATABASES = json.loads(os.environ["SUITE_DATABASES"])
{more}
"""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Where a package has its tests, and how they are run."""

    package: str
    #: The module of its tests' settings.
    settings: str
    labels: tuple[str, ...]
    #: The folder of the archive in which its tests run.
    folder: str = "."
    #: Settings in place of its own.
    more: str = ""
    #: The names of tests that are about the stock backend.
    known: frozenset[str] = frozenset()

    def source(self) -> Path:
        """The archive of the release that is installed; fetched if need be."""
        release = version(self.package)
        place = CACHE / f"{self.package}-{release}"
        if not place.exists():
            CACHE.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
                subprocess.run(
                    [
                        *(*pip, f"--no-binary={self.package}", f"--dest={folder}"),
                        f"{self.package}=={release}",
                    ],
                    check=True,
                )
                (archive,) = Path(folder).glob("*.tar.gz")
                with tarfile.open(archive) as packed:
                    packed.extractall(folder, filter="data")
                # All at once, so that an interrupted run leaves nothing half done.
                (unpacked,) = (path for path in Path(folder).iterdir() if path.is_dir())
                unpacked.rename(place)
        return place

    def failures(self, databases: Mapping[str, Any], folder: Path) -> set[str]:
        """Run the tests, and return the names of those that failed.

        Raises:
            AssertionError: They did not run to their end; the message has the output.
        """
        text = SETTINGS.format(settings=self.settings, more=self.more)
        (folder / "their_settings.py").write_text(text)
        place = self.source() / self.folder
        done = subprocess.run(
            [
                *(sys.executable, "-m", "django", "test", "--noinput"),
                *("--settings=their_settings", *self.labels),
            ],
            cwd=place,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join([str(folder), str(place), *sys.path]),
                "SUITE_DATABASES": json.dumps(databases),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert re.search(r"^Ran \d{2,} tests", output, re.MULTILINE), output[-4000:]
        return set(re.findall(r"^(?:FAIL|ERROR): (\S+)", output, re.MULTILINE))


SUITES = {
    suite.package: suite
    for suite in (
        Suite(
            package="django-debug-toolbar",
            settings="tests.settings",
            labels=("tests.panels.test_sql", "tests.test_integration"),
            more="""
DATABASES["replica"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}
""",
            # They ask for cursors of Django's very class. djpool's have a class of
            # their own that is derived from it.
            known=frozenset(
                {
                    "test_chunked_cursor_wrapper_singleton",
                    "test_cursor_wrapper_async",
                    "test_cursor_wrapper_asyncio_ctx",
                    "test_cursor_wrapper_singleton",
                }
            ),
        ),
        Suite(
            package="django-cachalot",
            settings="settings",
            labels=("cachalot.tests",),
            more="""
CACHES = {"default": CACHES["default"]}
DATABASE_ROUTERS = []
CACHALOT_ADDITIONAL_SUPPORTED_DATABASES = {DATABASES["default"]["ENGINE"]}
""",
        ),
        Suite(
            package="django-silk",
            settings="project.settings",
            folder="project",
            # What asks the database, but for what takes seconds a test.
            labels=(
                "tests.test_collector",
                "tests.test_command_garbage_collect",
                "tests.test_db.TestDbQueries",
                "tests.test_end_points",
                "tests.test_execute_sql",
                "tests.test_models",
                "tests.test_silky_middleware",
                "tests.test_silky_profiler",
                "tests.test_view_clear_db",
                "tests.test_view_profiling",
                "tests.test_view_requests",
                "tests.test_view_sql_detail",
                "tests.test_view_summary_view",
            ),
            more="""
DATABASES["default"]["ATOMIC_REQUESTS"] = True
""",
        ),
    )
}
