"""What djpool.pooled() makes of a backend, and what it says of one that is none."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.signals import connection_created
from django.test.utils import override_settings
from django_prometheus.db import connections_total

import djpool
from djpool.adapters import dbapi, psycopg
from djpool.backends.postgresql.base import PostgreSQLPooling
from djpool.creation import PooledCreation
from djpool.other_backends import FAMILIES
from djpool.wrapper import PooledWrapper

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.backends.conftest import MakeAlias

ENGINES = "tests.third_party.engines"


def one(wrapper: BaseDatabaseWrapper, sql: str) -> Any:
    """The first column of the first row."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


# -- which parts it takes ---------------------------------------------------------


def test_what_builds_on_djangos_backend_gets_djpools_part_for_it() -> None:
    wrapper: Any = djpool.pooled(f"{ENGINES}.audited")
    assert issubclass(wrapper, PostgreSQLPooling)
    assert wrapper.djpool_adapter is psycopg.adapter
    assert wrapper.vendor == "postgresql"
    assert issubclass(wrapper.creation_class, PooledCreation)


@pytest.mark.parametrize("module", FAMILIES)
def test_every_backend_that_others_build_on_can_be_pooled(module: str) -> None:
    wrapper = djpool.pooled(module.removesuffix(".base"))
    (family,) = (each for each in wrapper.__mro__ if name_of(each) == FAMILIES[module])
    assert issubclass(family, PooledWrapper)


def name_of(part: type) -> str:
    """Its dotted path."""
    return f"{part.__module__}.{part.__qualname__}"


def test_another_adapter_can_be_named() -> None:
    adapter = dbapi.adapter("postgresql")
    wrapper: Any = djpool.pooled(f"{ENGINES}.audited", adapter=adapter)
    assert issubclass(wrapper, PostgreSQLPooling)
    assert wrapper.djpool_adapter is adapter


def test_an_unknown_one_gets_the_adapter_for_any_driver(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", ENGINE=f"{ENGINES}.unknown")
    assert one(connections[alias], "SELECT 1") == 1
    connections[alias].close()
    assert djpool.stats(alias).vendor == "foreign"
    assert djpool.stats(alias).implementation == "fallback"


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ("no.such.backend", r"no\.such\.backend\.base cannot be imported: No module"),
        ("mssql.base.DatabaseWrapper", "takes a backend's dotted path, as ENGINE does"),
        ("django.db.backends", r"django\.db\.backends\.base has no DatabaseWrapper"),
        ("djpool.backends.sqlite3", "its DatabaseWrapper has a pool already"),
        (f"{ENGINES}.tenants", "its DatabaseWrapper has a pool already"),
    ],
)
def test_what_cannot_be_pooled_is_told(backend: str, told: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=told) as caught:
        djpool.pooled(backend)
    assert f"djpool.pooled({backend!r})" in str(caught.value)


# -- what the backend writes on itself ---------------------------------------------


def test_constants_are_carried_and_what_may_be_one_sessions_is_not(
    make_alias: MakeAlias,
) -> None:
    alias = make_alias("sqlite3", ENGINE=f"{ENGINES}.unknown")
    wrapper: Any = connections[alias]
    wrapper.ensure_connection()
    assert wrapper.driver is sqlite3
    assert wrapper.lazy_cursors is True
    assert not hasattr(wrapper, "last_cursor")


def test_what_a_wrapper_over_another_writes_is_carried(make_alias: MakeAlias) -> None:
    alias = make_alias("postgresql", ENGINE=f"{ENGINES}.pooled_audited")
    wrapper: Any = connections[alias]
    assert one(wrapper, "SHOW application_name") == "audited"
    assert str(wrapper.audited_port) == wrapper.settings_dict["PORT"]


def test_what_the_backend_counts_are_physical_connections(
    make_alias: MakeAlias,
) -> None:
    alias = make_alias("postgresql", ENGINE=f"{ENGINES}.prometheus_postgresql")
    for _ in range(5):
        wrapper = connections.create_connection(alias)
        assert one(wrapper, "SELECT 1") == 1
        wrapper.close()
    counted = connections_total.labels(alias, "postgresql")
    assert counted._value.get() == 1


# -- what the backend remembers of the session --------------------------------------


def end_lease(wrapper: Any) -> None:
    """As djpool does by itself, without the backend's own close()."""
    wrapper._close()


@override_settings(TENANT_LIMIT_SET_CALLS=True)
def test_a_tenants_session_is_another_tenants_next(make_alias: MakeAlias) -> None:
    """django-tenants remembers that it has set the search path already."""
    alias = make_alias("postgresql", {"max_size": 1}, ENGINE=f"{ENGINES}.tenants")
    acme, other = (connections.create_connection(alias) for _ in range(2))
    acme.set_schema("acme")  # type: ignore[attr-defined]
    other.set_schema("other")  # type: ignore[attr-defined]
    for _ in range(2):
        assert one(acme, "SHOW search_path") == "acme, public"
        assert one(acme, "SHOW search_path") == "acme, public"
        end_lease(acme)
        assert one(other, "SHOW search_path") == "other, public"
        end_lease(other)
    assert djpool.stats(alias).opened_total == 1


def test_a_tenant_chosen_for_one_request_is_not_the_pools(
    make_alias: MakeAlias,
) -> None:
    def choose(connection: Any, **kwargs: Any) -> None:
        connection.set_schema("first")

    alias = make_alias("postgresql", ENGINE=f"{ENGINES}.tenants")
    wrapper: Any = connections.create_connection(alias)
    wrapper.set_schema("acme")
    connection_created.connect(choose)
    try:
        assert one(wrapper, "SHOW search_path") == "acme, public"
    finally:
        connection_created.disconnect(choose)
    wrapper.close()


def test_what_is_named_is_forgotten_at_each_lease(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", ENGINE=f"{ENGINES}.unknown")
    wrapper: Any = connections[alias]
    for _ in range(2):
        wrapper.ensure_connection()
        assert wrapper.prepared == {"always": 1}
        assert not hasattr(wrapper, "last_cursor")
        wrapper.prepared["now"] = 2
        wrapper.last_cursor = wrapper.connection.cursor()
        end_lease(wrapper)


def test_with_the_pool_off_nothing_is_forgotten(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", pool=None, ENGINE=f"{ENGINES}.unknown")
    wrapper: Any = connections[alias]
    wrapper.ensure_connection()
    assert wrapper.last_cursor.connection is wrapper.connection
    wrapper.close()
