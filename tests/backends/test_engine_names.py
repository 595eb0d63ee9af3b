"""Packages compare ENGINE, and import a backend's modules by it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.utils import ConnectionHandler

import djpool
from djpool.backends import STOCK
from djpool.wrapper import PooledWrapper
from tests.backends.conftest import MakeAlias
from tests.backends.engines import ENGINES, engine_of
from tests.backends.kinds import run

PARTS = (
    *("schema", "features", "operations", "introspection", "client", "creation"),
    *("compiler", "validation"),
)


@pytest.mark.parametrize("backend", STOCK)
@pytest.mark.parametrize("part", PARTS)
def test_a_backend_has_the_modules_of_the_one_it_pools(backend: str, part: str) -> None:
    stock, ours = f"{STOCK[backend]}.{part}", f"djpool.backends.{backend}.{part}"
    importlib.import_module(f"{STOCK[backend]}.base")  # they import each other
    try:
        wanted = importlib.import_module(stock)
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(ours)
        return
    assert importlib.import_module(ours) is wanted
    assert getattr(importlib.import_module(ours.rpartition(".")[0]), part) is wanted
    assert wanted.__spec__ is not None
    assert wanted.__spec__.name == stock


@pytest.mark.parametrize("backend", STOCK)
def test_its_base_is_djpools_own(backend: str) -> None:
    base = importlib.import_module(f"djpool.backends.{backend}.base")
    assert issubclass(base.DatabaseWrapper, PooledWrapper)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"djpool.backends.{backend}.nothing_like_it")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    create = ConnectionHandler.create_connection
    monkeypatch.setattr(ConnectionHandler, "create_connection", create)
    djpool.install()
    djpool.install()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_installed_djpool_pools_and_engine_stays(
    engine: str, release: str, make_alias: MakeAlias
) -> None:
    stock = STOCK[engine_of(engine).backend]
    options = engine_of(engine).pool | {"max_size": 1, "timeout": 20}
    alias = make_alias(engine, pool=options | {"release": release}, ENGINE=stock)
    wrapper: Any = connections[alias]
    assert wrapper.settings_dict["ENGINE"] == stock
    assert isinstance(wrapper, PooledWrapper)
    only = " FROM DUAL" if wrapper.vendor == "oracle" else ""
    for _ in range(3):
        assert run(wrapper, f"SELECT 1{only}")[0][0] == 1
        wrapper.close()
    assert djpool.stats(alias).opened_total == 1


@pytest.mark.usefixtures("installed")
def test_an_alias_without_a_pool_is_what_it_was(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", pool=None, ENGINE="django.db.backends.sqlite3")
    assert type(connections[alias]).__module__ == "django.db.backends.sqlite3.base"
    with pytest.raises(djpool.OptionsError, match="not pooled"):
        djpool.pool(alias)


@pytest.mark.usefixtures("installed")
def test_another_backend_is_pooled_likewise(make_alias: MakeAlias) -> None:
    engine = "django_prometheus.db.backends.sqlite3"
    alias = make_alias("sqlite3", pool={"max_size": 2}, ENGINE=engine)
    assert run(connections[alias], "SELECT 1") == [(1,)]
    connections[alias].close()
    assert djpool.stats(alias).idle == 1


def test_in_a_settings_module(tmp_path: Path) -> None:
    """As the documents have it: Django reads its settings, and nothing is set up."""
    (tmp_path / "its_settings.py").write_text(
        textwrap.dedent(f"""
            import djpool
            djpool.install()
            INSTALLED_APPS = ["djpool"]
            DATABASES = {{"default": {{
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": {str(tmp_path / "db")!r},
                "OPTIONS": {{"pool": {{"max_size": 2}}}},
            }}}}
        """)
    )
    script = """
        import django
        django.setup()
        from django.core.management import call_command
        from django.db import connection
        import djpool
        call_command("check", databases=["default"])
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        print(djpool.stats("default").in_use, connection.settings_dict["ENGINE"])
    """
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "its_settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 django.db.backends.sqlite3"
