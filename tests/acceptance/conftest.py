"""What the servers and the demo of these tests run with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _no_development_mode() -> Iterator[None]:
    """Let them run as they would in earnest.

    Python's development mode turns on asyncio's debugging, to which every callback of
    a busy machine that takes a tenth of a second is news.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDEVMODE", raising=False)
        yield
