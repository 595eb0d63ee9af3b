"""The examples in README and docs/ run, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages.sites import OLDER
from tests.packages.suites import SUITES

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


COMPATIBILITY = ROOT / "docs" / "compatibility.md"
CONSTRAINTS = ROOT / "tests" / "packages" / "constraints.txt"


def constrained() -> dict[str, str]:
    """Return the version of each package that the tests have beside djpool."""
    lines = CONSTRAINTS.read_text().splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pins}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table that follows a heading of the page of packages."""
    section = COMPATIBILITY.read_text().partition(f"# {heading}\n")[2]
    table = re.search(r"^\|.*\n\|---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert table is not None
    return [row.strip("| ").split(" | ") for row in table[1].splitlines()]


def tabled() -> dict[str, list[str]]:
    """Return the versions of each package that the page says djpool was tested with."""
    found = {}
    for names, versions, *_ in rows("Other packages"):
        first, *more = names.split(", ")
        # "x-y, -z" is two packages; "x, with z" is one.
        stem = first.rpartition("-")[0]
        for name in [first, *(stem + each for each in more if each.startswith("-"))]:
            found[name] = versions.split(", ")
    return found


def says(documented: str, version: str) -> bool:
    """Tell whether a version is the documented one, which may be shorter."""
    return f"{version}.".startswith(f"{documented}.")


def test_the_page_of_packages_has_the_versions_that_are_tested() -> None:
    pins = constrained()
    lagging = {
        name: pins.get(name)
        for name, (newest, *_) in tabled().items()
        if not says(newest, pins.get(name, ""))
    }
    assert lagging == {}


def test_the_page_of_packages_has_the_older_versions_that_are_tested() -> None:
    pins = (pin.split("==") for pin in OLDER.values())
    tested = dict(pins)
    documented = {name: older for name, (_, *older) in tabled().items() if older}
    assert documented.keys() == tested.keys()
    for name, (version,) in documented.items():
        assert says(version, tested[name])


def test_the_page_of_packages_says_which_packages_own_tests_run() -> None:
    run = set()
    for named, what in rows("Which packages' own tests pass"):
        for package in named.split(", "):
            name, _, version = package.partition(" ")
            if version:
                assert version == constrained()[name]
            if not what.startswith("none: "):
                run.add(name)
    assert run == SUITES.keys()


def test_the_page_of_packages_names_each_that_is_tested() -> None:
    group = (ROOT / "pyproject.toml").read_text().partition("\npackages = [")[2]
    # Below the comment are what others' tests need.
    tested = set(
        re.findall(r'^  "([\w-]+)",$', group.partition("  #")[0], re.MULTILINE)
    )
    assert tested - {"opentelemetry-sdk"} == tabled().keys()


def test_the_page_of_packages_has_the_python_and_the_django_that_are_tested() -> None:
    named = re.search(r"on Python (\S+) and Django (\S+)\.", COMPATIBILITY.read_text())
    assert named is not None
    python = re.search(
        r"with Python ([\d.]+)\.$", CONSTRAINTS.read_text(), re.MULTILINE
    )
    assert python is not None
    assert says(named[1], python[1])
    assert says(named[2], constrained()["django"])
