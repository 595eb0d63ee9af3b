"""Loggers of queries, and detectors of queries in loops."""

from __future__ import annotations

import pytest

from tests.packages.conftest import pages_work, seen, writes_work
from tests.packages.sites import MAX_SIZE, Site, alias_of


@pytest.fixture(scope="module", params=["querycount", "zeal"])
def package(request: pytest.FixtureRequest) -> str:
    """Both."""
    name: str = request.param
    return name


def test_pages(site: Site, alias: str) -> None:
    pages_work(site, alias)
    writes_work(site, alias)
    stats = site.wait_until_at_rest(alias)
    assert stats.resets_total == 0
    assert stats.opened_total <= MAX_SIZE
    assert not any(stats.closed_total.values())


@pytest.mark.parametrize("package", ["querycount"], scope="module", indirect=True)
def test_querycount_counts_what_it_counts_of_the_stock_backend(
    site: Site, engine: str, alias: str
) -> None:
    stock = alias_of(engine, "stock")
    assert seen(site, alias) == seen(site, stock)
    marks = []
    for name in (stock, alias, alias):
        mark = site.mark()
        site.page(f"write/{name}/")
        marks.append(counted(site.log_since(mark), name))
    assert marks[1] == marks[2]
    # The stock backend connects in the page, and some backends query for that.
    for kind in (0, 1):
        assert marks[0][kind] >= marks[1][kind] > 0


def counted(log: str, alias: str) -> tuple[int, int]:
    """How many reads and writes the table in the log has of an alias."""
    # A row for the request, and one for the response.
    rows = [[cell.strip() for cell in line.split("|")] for line in log.splitlines()]
    (row,) = (row for row in rows if row[1:3] == ["RESP", alias])
    return int(row[3]), int(row[4])


@pytest.mark.parametrize("package", ["zeal"], scope="module", indirect=True)
def test_zeal_finds_the_loop_that_it_finds_with_the_stock_backend(
    site: Site, engine: str, alias: str
) -> None:
    found = site.page(f"seen/{alias}/")
    assert len(found) == 1
    assert "Item.name" in found[0]
    assert found == site.page(f"seen/{alias_of(engine, 'stock')}/")
