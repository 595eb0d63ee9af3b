"""Backends of others, pooled by two lines, keep what djpool's own promise."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

import pytest

from djpool.testing import BackendConformance

if TYPE_CHECKING:
    from djpool.testing.backend import MakeAlias as MakePooledAlias
    from tests.backends.conftest import MakeAlias


class Pooled(BackendConformance):
    #: What it connects to, and its module in `engines`.
    over: ClassVar[str]
    engine: ClassVar[str]

    @pytest.fixture
    def make_alias(self, make_alias: MakeAlias) -> MakePooledAlias:
        engine = f"tests.third_party.engines.{self.engine}"
        return functools.partial(make_alias, self.over, ENGINE=engine)


class TestPrometheusOverPostgreSQL(Pooled):
    over, engine = "postgresql", "prometheus_postgresql"


class TestPrometheusOverMySQL(Pooled):
    over, engine = "mysql", "prometheus_mysql"


class TestPrometheusOverSQLite(Pooled):
    over, engine = "sqlite3", "prometheus_sqlite3"


class TestTenants(Pooled):
    over, engine = "postgresql", "tenants"


class TestOneOverAnother(Pooled):
    over, engine = "postgresql", "pooled_audited"


class TestUnknown(Pooled):
    over, engine = "sqlite3", "unknown"
    # It may be of use to nobody but the session on which it was made.
    dispensable = BackendConformance.dispensable | {"last_cursor"}
