"""Workers for one test, ended with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backends.engines import server_of
from tests.workers.worker import Worker

StartWorker = Callable[..., Worker]


@pytest.fixture
def start_worker(request: pytest.FixtureRequest) -> Iterator[StartWorker]:
    """Starts a worker on an engine: see `Worker`."""
    with ExitStack() as workers:

        def start(command: list[str], engine: str, **options: Any) -> Worker:
            server = server_of(engine, request)
            return workers.enter_context(Worker(command, engine, server, **options))

        yield start
