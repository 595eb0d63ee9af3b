"""Sentry, which asks each cursor for its connection, to see where it leads."""

from __future__ import annotations

import pytest

from tests.packages.conftest import pages_work, seen, writes_work
from tests.packages.sites import Site, alias_of


@pytest.fixture(scope="module")
def package() -> str:
    """The only one."""
    return "sentry"


def test_twenty_requests_cost_one_connection_and_no_reset(
    site: Site, alias: str
) -> None:
    for number in range(20):
        site.page(f"read/{alias}/{number}/")
        # A client has its answer before Django ends the request. A request that comes
        # in between needs another connection, with Sentry or without.
        stats = site.wait_until_at_rest(alias)
    assert (stats.opened_total, stats.resets_total) == (1, 0)
    assert not any(stats.closed_total.values())


def test_pages(site: Site, alias: str) -> None:
    pages_work(site, alias)
    writes_work(site, alias)


def test_its_spans_are_those_of_the_stock_backend(
    site: Site, engine: str, alias: str
) -> None:
    assert seen(site, alias) == seen(site, alias_of(engine, "stock"))
