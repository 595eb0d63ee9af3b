"""Packages that hook into each connection when Django says that it was made."""

from __future__ import annotations

import pytest

from tests.packages.conftest import pages_work, seen, writes_work
from tests.packages.sites import MAX_SIZE, Site, alias_of


@pytest.fixture(scope="module", params=["django-mysql", "read-only", "scout"])
def package(request: pytest.FixtureRequest) -> str:
    """All of them."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def default() -> str:
    """They keep nothing in a database of the project's."""
    return "mysql@mariadb"


def test_pages(site: Site, package: str, alias: str) -> None:
    pages_work(site, alias)
    if package != "read-only":
        writes_work(site, alias)
    stats = site.wait_until_at_rest(alias)
    assert stats.resets_total == 0
    assert stats.opened_total <= MAX_SIZE


def in_threads(site: Site, alias: str) -> list[object]:
    """What the package has seen, on threads that have queried and on others."""
    found = site.pages([f"seen/{alias}/"] * 8)
    assert all(each == found[0] for each in found)
    return list(found[0])


@pytest.mark.parametrize("package", ["read-only"], scope="module", indirect=True)
def test_read_only_refuses_each_write(site: Site, engine: str, alias: str) -> None:
    stock = alias_of(engine, "stock")
    assert site.page(f"seen/{stock}/")
    assert in_threads(site, alias) == site.page(f"seen/{stock}/")


@pytest.mark.parametrize("package", ["django-mysql"], scope="module", indirect=True)
def test_django_mysql_rewrites_each_query(site: Site, engine: str, alias: str) -> None:
    rewritten = in_threads(site, alias)
    assert rewritten == site.page(f"seen/{alias_of(engine, 'stock')}/")
    assert len(rewritten) == ("mysql" in engine)


@pytest.mark.parametrize("package", ["scout"], scope="module", indirect=True)
def test_scout_sees_each_statement(site: Site, engine: str, alias: str) -> None:
    assert seen(site, alias) == seen(site, alias_of(engine, "stock"))
