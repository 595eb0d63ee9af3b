"""Sites for the tests: each package on one server process, or two."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance.shop import ITEMS
from tests.backends.engines import server_of
from tests.packages.sites import ENGINES, Site, alias_of, databases


@pytest.fixture(scope="module")
def package() -> str:
    """The package under test. A test module says which."""
    raise NotImplementedError


@pytest.fixture(scope="module")
def default() -> str:
    """The engine that "default" has, where some packages keep tables of their own."""
    return "postgresql-native"


@pytest.fixture(scope="module")
def site(
    package: str,
    default: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The site with the package, running."""
    way = "request" if default.startswith("mysql") else "transaction"
    servers = {engine: server_of(engine, request) for engine in ENGINES}
    described = databases(
        servers, tmp_path_factory.mktemp("site"), alias_of(default, way)
    )
    with Site(package, described) as site:
        yield site


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine."""
    name: str = request.param
    return name


@pytest.fixture(params=["request", "transaction"])
def release(request: pytest.FixtureRequest) -> str:
    """Both modes."""
    mode: str = request.param
    return mode


@pytest.fixture
def alias(engine: str, release: str) -> str:
    """An alias of the site with a pool."""
    return alias_of(engine, release)


def pages_work(site: Site, alias: str, *, rows: int = ITEMS) -> None:
    """Many clients at once have the answers to their own questions.

    `rows` are those that an iteration on a cursor of the server's gives.
    """
    numbers = range(1000, 1010)
    found = site.pages([f"read/{alias}/{number}/" for number in numbers])
    assert found == [[number, ITEMS, rows, number] for number in numbers]
    found = site.pages([f"aread/{alias}/{number}/" for number in numbers])
    assert found == [[number, ITEMS, ITEMS, number] for number in numbers]


def writes_work(site: Site, alias: str) -> None:
    """What is written is there, and what is rolled back is not."""
    assert site.page(f"write/{alias}/") == [1, 2, 0, 1, 0]


def seen(site: Site, alias: str) -> list[str]:
    """What the package saw of a page's own statements.

    A stock connection is opened in the page, and the package sees that, too.
    """
    statements: list[str] = site.page(f"seen/{alias}/")
    first = next(
        (
            number
            for number, statement in enumerate(statements)
            if re.match(r"SELECT (7|'7'|%s)$|SELECT .shop_item", statement)
        ),
        None,
    )
    assert first is not None, statements
    return statements[first:]
