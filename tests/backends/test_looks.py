"""A look at the driver's connection is no change; more than a look is one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import InterfaceError, connections

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import CONNECTOR, ENGINES
from tests.backends.kinds import run

# Connector/Python's cursors do not show their connection.
by_cursors = pytest.mark.parametrize(
    "engine", [name for name in ENGINES if name not in CONNECTOR]
)

LOOKS = {
    "sqlite": ("in_transaction", "isolation_level"),
    "postgresql": ("info", "closed"),
    "mysql": ("get_server_info", "get_host_info"),
    "oracle": ("version", "dsn"),
}


@pytest.fixture(params=["request", "transaction"])
def alias(engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest) -> str:
    """An alias with a pool of one, in both modes."""
    return pooled(engine, make_alias, max_size=1, timeout=20, release=request.param)


def select(wrapper: Any) -> str:
    return "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"


def resets(alias: str) -> int:
    stats = djpool.stats(alias)
    return stats.resets_total + sum(stats.closed_total.values())


def by_the_cursor(wrapper: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(select(wrapper))
        assert hasattr(cursor, "connection")
        return cursor.connection


@by_cursors
def test_a_look_by_way_of_a_cursor_is_free(alias: str) -> None:
    """As Sentry does for each statement, to see where it leads."""
    wrapper: Any = connections[alias]
    for _ in range(5):
        with wrapper.cursor() as cursor:
            cursor.execute(select(wrapper))
            seen = cursor.connection
            for name in LOOKS[wrapper.vendor]:
                assert hasattr(seen, name)
            assert not hasattr(seen, "nonsense")
            assert isinstance(seen, type(raw_of(wrapper)))
            assert seen == raw_of(wrapper)
        early = wrapper.djpool_early
        assert djpool.stats(alias).in_use == int(not early)
        wrapper.close()
    assert djpool.stats(alias).opened_total == 1
    assert resets(alias) == 0


@by_cursors
def test_what_is_more_than_a_look_counts(alias: str) -> None:
    wrapper: Any = connections[alias]
    with wrapper.cursor() as cursor:
        cursor.execute(select(wrapper))
        cursor.connection.commit()
    assert djpool.stats(alias).in_use == 1
    wrapper.close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "it to come back")
    assert resets(alias) == 1


def test_so_does_what_is_set(alias: str) -> None:
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        wrapper.ensure_connection()
        name = "row_factory" if wrapper.vendor in {"sqlite", "postgresql"} else "mine"
        with contextlib.suppress(AttributeError, TypeError):  # it takes none
            setattr(wrapper.connection, name, None)
    wrapper.close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "it to come back")
    assert resets(alias) == 1


@by_cursors
def test_what_is_kept_does_not_lead_to_another_s_connection(alias: str) -> None:
    wrapper: Any = connections[alias]
    seen = by_the_cursor(wrapper)
    wrapper.close()
    with djpool.hold(alias):
        run(wrapper, select(wrapper))
        with pytest.raises(InterfaceError, match="gone back"):
            seen.rollback()
    assert resets(alias) == 0


def test_it_is_the_same_each_time(alias: str) -> None:
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        wrapper.ensure_connection()
        assert wrapper.connection is wrapper.connection
        assert {wrapper.connection} == {raw_of(wrapper)} or wrapper.vendor == "oracle"
