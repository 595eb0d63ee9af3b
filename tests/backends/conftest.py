"""Database aliases made for one test: any engine, any options, closed at the end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest

from tests.backends.engines import ENGINES, engine_of, server_database, server_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

_numbers = itertools.count(1)

MakeAlias = Callable[..., str]


@pytest.fixture
def make_alias(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeAlias]:
    """Makes an alias: `make_alias("mysql@mariadb", pool={…}, NAME=…)` names it."""
    from django.db import connections

    import djpool

    made: list[str] = []

    def make(engine: str, pool: Any = True, **changes: Any) -> str:
        alias = f"a{next(_numbers)}"
        backend = engine_of(engine).backend
        described: dict[str, Any] = {"ENGINE": f"djpool.backends.{backend}"}
        server = server_of(engine, request)
        if server is None:
            described["NAME"] = str(tmp_path / "database.sqlite3")
        else:
            described |= server_database(server)
        described |= changes
        described["OPTIONS"] = {"pool": pool, **changes.get("OPTIONS", {})}
        every = {name: connections.settings[name] for name in connections}
        every[alias] = described
        connections.settings[alias] = connections.configure_settings(every)[alias]
        made.append(alias)
        return alias

    yield make
    for alias in made:
        if hasattr(connections._connections, alias):  # type: ignore[attr-defined]
            connections[alias].close()
            del connections[alias]
        del connections.settings[alias]
    djpool.close_all()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine in every implementation."""
    name: str = request.param
    return name


@pytest.fixture
def alias(engine: str, make_alias: MakeAlias) -> str:
    """An alias with a pool of two, on every engine."""
    return pooled(engine, make_alias, max_size=2, timeout=5)


def pooled(engine: str, make_alias: MakeAlias, **options: Any) -> str:
    """An alias with a pool: `engine` names the implementation, too."""
    return make_alias(engine, pool=engine_of(engine).pool | options)


def raw_of(wrapper: Any) -> Any:
    """The driver's connection of a Django connection that has a lease.

    Not by `wrapper.connection`, which counts as a change of the session.
    """
    return wrapper.djpool_lease.connection


@pytest.fixture
def new_wrapper(alias: str) -> Iterator[Callable[[], BaseDatabaseWrapper]]:
    """Makes Django connections to the alias, a new one each time, as ASGI does."""
    from django.db import connections

    made: list[BaseDatabaseWrapper] = []

    def make() -> BaseDatabaseWrapper:
        made.append(connections.create_connection(alias))
        return made[-1]

    yield make
    for wrapper in made:
        wrapper.close()
