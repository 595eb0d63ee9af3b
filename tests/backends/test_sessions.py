"""What one lease did to its session, the next does not see."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.engines import ENGINES, engine_of
from tests.backends.kinds import Kind, run

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

MODULES = {
    "sqlite3": "sqlite",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mysql_connector": "mysql",
    "oracle": "oracle",
}


def kinds_of(engine: str) -> list[Kind]:
    """The kinds of session state that an engine has."""
    module = MODULES[engine_of(engine).backend]
    kinds: list[Kind] = importlib.import_module(f"tests.backends.kinds.{module}").KINDS
    return [kind for kind in kinds if engine.startswith(kind.only)]


EACH = [
    pytest.param(engine, kind, id=f"{engine}: {kind.name}")
    for engine in ENGINES
    for kind in kinds_of(engine)
]


def end(wrapper: BaseDatabaseWrapper) -> None:
    """Close it, and wait until its connection has come back, or is closed."""
    wrapper.close()
    alias = wrapper.alias
    wait_until(lambda: djpool.stats(alias).in_use == 0, "the connection to be back")


@pytest.fixture
def lease(make_alias: MakeAlias) -> Iterator[Callable[..., BaseDatabaseWrapper]]:
    """Makes Django connections of one alias; the first call says of which engine."""
    made: list[BaseDatabaseWrapper] = []

    def make(engine: str, **options: Any) -> BaseDatabaseWrapper:
        if made:
            alias = made[0].alias
        else:
            alias = pooled(engine, make_alias, max_size=1, timeout=10, **options)
        made.append(connections.create_connection(alias))
        return made[-1]

    yield make
    for wrapper in made:
        wrapper.close()


@pytest.mark.parametrize(("engine", "kind"), EACH)
def test_state_ends_with_its_lease(
    engine: str, kind: Kind, lease: Callable[..., BaseDatabaseWrapper]
) -> None:
    first = lease(engine)
    before = kind.seen(first)
    end(first)
    second = lease(engine)
    kind.do(second)
    assert kind.seen(second) != before, "it was not changed: the test is no test"
    end(second)
    stats = djpool.stats(second.alias)
    third = lease(engine)
    assert kind.seen(third) == before
    closed = 0 if kind.survives else 1
    assert stats.closed_total["reset"] + stats.closed_total["broken"] == closed
    assert stats.resets_total == 1 - closed
    assert djpool.stats(second.alias).opened_total == 1 + closed


@pytest.mark.parametrize("engine", ENGINES)
def test_always_restores_after_each_lease(
    engine: str, lease: Callable[..., BaseDatabaseWrapper]
) -> None:
    for _ in range(3):
        wrapper = lease(engine, reset="always")
        wrapper.ensure_connection()
        end(wrapper)
    stats = djpool.stats(wrapper.alias)
    assert stats.resets_total == 3
    assert stats.opened_total == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_never_restores_nothing(
    engine: str, lease: Callable[..., BaseDatabaseWrapper]
) -> None:
    kind = next(kind for kind in kinds_of(engine) if kind.survives)
    first = lease(engine, reset="never")
    kind.do(first)
    changed = kind.seen(first)
    end(first)
    assert kind.seen(lease(engine)) == changed
    assert djpool.stats(first.alias).resets_total == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_that_cannot_be_restored_is_closed(
    engine: str,
    lease: Callable[..., BaseDatabaseWrapper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapper = lease(engine)
    kind = next(kind for kind in kinds_of(engine) if kind.survives)
    kind.do(wrapper)

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    driver: Any = djpool.pool(wrapper.alias)._connections.driver
    monkeypatch.setattr(driver, "restore", fail)
    end(wrapper)
    stats = djpool.stats(wrapper.alias)
    assert (stats.size, stats.closed_total["reset"]) == (0, 1)
    assert run(lease(engine), SELECT.get(engine_of(engine).backend, "SELECT 1"))


SELECT = {"oracle": "SELECT 1 FROM DUAL"}
