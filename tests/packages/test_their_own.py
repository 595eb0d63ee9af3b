"""Packages' own tests: none fails that does not fail on the stock backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.backends.engines import engine_of, server_database, server_of
from tests.packages.suites import SUITES, Suite


@pytest.fixture(params=list(SUITES.values()), ids=list(SUITES), scope="module")
def suite(request: pytest.FixtureRequest) -> Suite:
    """Each package whose archive has tests of its queries."""
    found: Suite = request.param
    return found


@pytest.fixture(params=["sqlite3", "postgresql-native"], scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """Two engines: the tests are of the package, and those above are of engines."""
    name: str = request.param
    return name


Described = dict[str, Any]


@pytest.fixture(scope="module")
def described(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: Any
) -> Described:
    """The database, but for its engine."""
    server = server_of(engine, request)
    if server is None:
        # The test database is a file, too: one in memory has no pool.
        folder = tmp_path_factory.mktemp("suite")
        tests = {"NAME": str(folder / "test_database.sqlite3")}
        return {"NAME": str(folder / "database.sqlite3"), "TEST": tests}
    return server_database(server)


@pytest.fixture(scope="module")
def stock(
    suite: Suite, engine: str, described: Described, tmp_path_factory: Any
) -> set[str]:
    """What fails on the stock backend."""
    backend = f"django.db.backends.{engine_of(engine).backend}"
    databases = {"default": described | {"ENGINE": backend}}
    return suite.failures(databases, tmp_path_factory.mktemp("stock"))


@pytest.fixture(params=["request", "transaction"])
def pooled(
    engine: str, described: Described, request: pytest.FixtureRequest
) -> Described:
    """The database on djpool's engine, in both modes."""
    pool = {"max_size": 2, "release": request.param, "timeout": 20}
    return described | {
        "ENGINE": f"djpool.backends.{engine_of(engine).backend}",
        "OPTIONS": {"pool": engine_of(engine).pool | pool},
    }


def test_no_other_test_fails_than_on_the_stock_backend(
    suite: Suite, pooled: Described, stock: set[str], tmp_path: Path
) -> None:
    failures = suite.failures({"default": pooled}, tmp_path)
    assert failures - stock == suite.known
