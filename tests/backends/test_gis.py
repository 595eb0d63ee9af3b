"""The geographic backends, each on the real thing."""

from __future__ import annotations

import gc
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test.utils import override_settings

import djpool
from tests.backends.conftest import MakeAlias
from tests.servers.postgres import PostgresServer


def run(alias: str, sql: str) -> Any:
    """A statement on a lease of its own; its first value."""
    wrapper = connections.create_connection(alias)
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]
    finally:
        wrapper.close()


@pytest.mark.parametrize("implementation", ["native", "fallback"])
def test_postgis(
    implementation: str, make_alias: MakeAlias, postgres: PostgresServer
) -> None:
    with postgres.admin(postgres.database) as admin:
        admin.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    alias = make_alias("postgis", pool={"implementation": implementation})
    for _ in range(3):
        assert run(alias, "SELECT ST_AsText(ST_MakePoint(1, 2))") == "POINT(1 2)"
    version = connections[alias].ops.spatial_version  # type: ignore[attr-defined]
    assert version >= (3, 0)
    connections[alias].close()
    stats = djpool.stats(alias)
    assert stats.opened_total == 1
    assert stats.in_use == 0


@pytest.mark.parametrize("engine", ["gis_mysql@mariadb", "gis_mysql@mysql"])
def test_gis_mysql(engine: str, make_alias: MakeAlias) -> None:
    alias = make_alias(engine)
    for _ in range(3):
        assert run(alias, "SELECT ST_AsText(ST_PointFromText('POINT(1 2)'))") == (
            "POINT(1 2)"
        )
    assert connections[alias].ops.select == "ST_AsBinary(%s)"  # type: ignore[attr-defined]
    stats = djpool.stats(alias)
    assert (stats.opened_total, stats.in_use) == (1, 0)


@override_settings(SPATIALITE_LIBRARY_PATH="mod_spatialite")
def test_spatialite(make_alias: MakeAlias, tmp_path: Path) -> None:
    """Where Python's sqlite3 can load extensions; where not, Django says so."""
    alias = make_alias("spatialite", NAME=str(tmp_path / "places.db"))
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        with warnings.catch_warnings():
            # Django drops the connection that it could not use without closing it.
            warnings.simplefilter("ignore", ResourceWarning)
            with pytest.raises(ImproperlyConfigured, match="allow extension loading"):
                run(alias, "SELECT 1")
            gc.collect()
        assert djpool.stats(alias).size == 0
        return
    for _ in range(3):
        assert run(alias, "SELECT AsText(MakePoint(1, 2))") == "POINT(1 2)"
    assert djpool.stats(alias).opened_total == 1
