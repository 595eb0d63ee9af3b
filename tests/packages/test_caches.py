"""django-cachalot: an answer from its cache takes no connection, and is never stale."""

from __future__ import annotations

import pytest

from tests.acceptance.shop import ITEMS
from tests.packages.conftest import pages_work, writes_work
from tests.packages.sites import Site, alias_of


@pytest.fixture(scope="module")
def package() -> str:
    """The only one."""
    return "cachalot"


def test_pages(site: Site, alias: str) -> None:
    pages_work(site, alias)
    writes_work(site, alias)
    assert site.wait_until_at_rest(alias).resets_total == 0


def test_a_query_that_was_made_before_is_not_made_again(
    site: Site, engine: str, alias: str
) -> None:
    assert site.page(f"seen/{alias}/") == []
    assert site.page(f"seen/{alias_of(engine, 'stock')}/") == []


def test_a_page_after_a_write_is_not_stale(site: Site, alias: str) -> None:
    for number in range(3):
        assert site.page(f"read/{alias}/{number}/") == [number, ITEMS, ITEMS, number]
        writes_work(site, alias)
