"""Toolbars and profilers, which put cursors or compilers of their own in between."""

from __future__ import annotations

import html
import re

import pytest

from tests.acceptance.shop import ITEMS
from tests.packages.conftest import pages_work, seen, writes_work
from tests.packages.sites import MAX_SIZE, Site, alias_of

# Of packages, and of the engines that "default" has.
TOOLBARS = [
    ("debug-toolbar", "postgresql-native"),
    ("debug-toolbar-7", "postgresql-native"),
]
SILK = [("silk", "postgresql-native"), ("silk", "mysql@mariadb")]


@pytest.fixture(scope="module", params=[*TOOLBARS, *SILK], ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A package, and where it keeps what it records."""
    name, engine = request.param
    return name, engine


@pytest.fixture(scope="module")
def package(case: tuple[str, str]) -> str:
    """The package."""
    return case[0]


@pytest.fixture(scope="module")
def default(case: tuple[str, str]) -> str:
    """The engine that "default" has."""
    return case[1]


@pytest.fixture
def rows(package: str, engine: str) -> int:
    """How many rows an iteration gives.

    After each query of the ORM silk explains it on the same connection. There
    Connector/Python gives up the rows that were not read, also without djpool.
    """
    loses = package == "silk" and engine.startswith("mysql_connector")
    return 0 if loses else ITEMS


def test_the_stock_backend(site: Site, engine: str, rows: int) -> None:
    pages_work(site, alias_of(engine, "stock"), rows=rows)


def test_pages(site: Site, alias: str, rows: int) -> None:
    pages_work(site, alias, rows=rows)
    writes_work(site, alias)


def test_it_sees_what_it_sees_of_the_stock_backend(
    site: Site, engine: str, alias: str
) -> None:
    assert seen(site, alias) == seen(site, alias_of(engine, "stock"))


def test_no_session_is_restored_and_no_connection_replaced(
    site: Site, alias: str
) -> None:
    for number in range(20):
        site.page(f"read/{alias}/{number}/")
    stats = site.wait_until_at_rest(alias)
    assert stats.resets_total == 0
    assert stats.opened_total <= MAX_SIZE
    assert not any(stats.closed_total.values())


@pytest.mark.parametrize("case", TOOLBARS, scope="module", ids="-".join, indirect=True)
def test_the_sql_panel_has_the_page_s_statements(site: Site, alias: str) -> None:
    found = re.search(r'data-request-id="(\w+)"', site.get(f"read/{alias}/77/"))
    assert found is not None
    panel = site.get(f"__debug__/render_panel/?request_id={found[1]}&panel_id=SQLPanel")
    text = re.sub(r"<[^>]*>", " ", html.unescape(panel))
    assert "77" in text
    assert "shop_item" in text
    assert alias in text
