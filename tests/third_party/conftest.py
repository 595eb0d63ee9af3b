"""Aliases for these tests, as the tests of the backends make them."""

from tests.backends.conftest import make_alias

__all__ = ["make_alias"]
