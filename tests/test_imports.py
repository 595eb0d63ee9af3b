"""Imports run one way: from backends to wrapper and adapters, from all to core.

Read from the source of the installed package. It does not matter where an import
stands: inside a function or under TYPE_CHECKING it is an arrow like any other.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A driver and what comes with it. An adapter knows one of these.
DRIVERS = [
    {"psycopg", "psycopg_pool"},
    {"psycopg2"},
    {"MySQLdb", "pymysql"},
    {"mysql"},
    {"oracledb"},
]


@dataclass(frozen=True)
class Layer:
    """What a part of djpool may import, besides the standard library."""

    djpool: set[str]
    others: set[str]


LAYERS = {
    "core": Layer({"core"}, set()),
    "adapters": Layer({"core", "adapters"}, set().union(*DRIVERS)),
    "backends": Layer(
        {"backends", "wrapper", "cursors", "creation", "adapters", "core"},
        {"django"}.union(*DRIVERS),
    ),
    "monitor": Layer({"monitor", "core"}, set()),
    "exporters": Layer({"exporters", "core"}, {"prometheus_client", "opentelemetry"}),
    "testing": Layer(
        {"testing", "core", "api", "checks", "errors", "hooks", "signals"},
        {"django", "pytest"},
    ),
}


@dataclass(frozen=True)
class Import:
    """One import, and where it stands."""

    place: str
    name: str

    @property
    def root(self) -> str:
        """The distribution's name, more or less."""
        return self.name.partition(".")[0]

    @property
    def part(self) -> str:
        """The part of djpool that is imported: "core" of "djpool.core.pool"."""
        return [*self.name.split("."), ""][1]


@cache
def package() -> Path:
    """Return the directory of the installed djpool, without importing it."""
    spec = importlib.util.find_spec("djpool")
    assert spec is not None, "djpool is not installed"
    assert spec.origin is not None, "djpool has no __init__.py"
    return Path(spec.origin).parent


def modules(part: str) -> list[Path]:
    """Return the source files of a part: those of a package, or the one of a module."""
    found = [*(package() / part).rglob("*.py"), *package().glob(f"{part}.py")]
    assert found, f"djpool.{part} is gone: does its rule have another name now?"
    return found


def imports(path: Path) -> Iterator[Import]:
    """Give the imports of a source file, by the names of what they bring."""
    inside = ["djpool", *path.relative_to(package()).parts]
    for node in ast.walk(ast.parse(path.read_text(), path)):
        place = f"{Path(*inside)}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.Import(names=names):
                yield from (Import(place, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join([*inside[:-level], *filter(None, [module])])
                base = base if level else str(module)
                # `from djpool import core` brings a module, not a name in one.
                yield from (Import(place, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(name)), *_],
            ) if function in {"import_module", "__import__"}:
                yield Import(place, name)


def is_allowed(found: Import, layer: Layer) -> bool:
    """Whether a layer's module may have this import."""
    if found.root == "djpool":
        return found.part in layer.djpool
    return found.root in sys.stdlib_module_names | layer.others


@pytest.mark.parametrize("part", LAYERS)
def test_imports_run_one_way(part: str) -> None:
    """No module imports what stands above or beside its layer."""
    wrong = [
        f"{found.place} imports {found.name}"
        for path in modules(part)
        for found in imports(path)
        if not is_allowed(found, LAYERS[part])
    ]
    assert wrong == []


def test_an_adapter_knows_one_driver() -> None:
    """What two drivers have in common is no adapter's business."""
    for path in modules("adapters"):
        roots = {found.root for found in imports(path)}
        known = [family for family in DRIVERS if family & roots]
        assert len(known) <= 1, f"{path.name} imports {known}"


def test_only_the_suites_need_pytest() -> None:
    """They are for others' tests; a project runs without it."""
    suites = package() / "testing"
    for path in package().rglob("*.py"):
        if suites not in path.parents:
            roots = {found.root for found in imports(path)}
            assert not roots & {"pytest", "_pytest"}, path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import django.db", "django.db"),
        ("from django import db", "django.db"),
        ("def late():\n    from django.db import utils", "django.db.utils"),
        ("from .. import wrapper", "djpool.wrapper"),
        ("from ..wrapper import Mixin", "djpool.wrapper.Mixin"),
        ("from . import pool", "djpool.core.pool"),
        ("importlib.import_module('django.db')", "django.db"),
    ],
)
def test_no_form_of_import_goes_unseen(
    source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules above are worth what `imports()` sees."""
    monkeypatch.setattr(sys.modules[__name__], "package", lambda: tmp_path)
    path = tmp_path / "core" / "module.py"
    path.parent.mkdir()
    path.write_text(source)
    assert [found.name for found in imports(path)] == [name]


def test_the_core_runs_without_django_or_a_driver() -> None:
    """Importing it, with all that it imports in turn, loads neither."""
    unwanted = {"django", "sqlite3"}.union(*DRIVERS)
    program = "import sys, djpool.core; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "djpool.core" in done.stdout.split()
    assert unwanted.isdisjoint(done.stdout.split())
