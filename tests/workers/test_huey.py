"""Huey's worker, in each of its kinds.

Its main thread has used a connection while it imported the tasks, and still has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers.worker import sessions

if TYPE_CHECKING:
    from tests.workers.conftest import StartWorker

COMMAND = ["-m", "tests.workers.project", "run_huey"]
COUNT = 100


def test_process(start_worker: StartWorker) -> None:
    """Each child makes one connection, and keeps it from task to task."""
    worker = start_worker(
        [*COMMAND, "-kprocess", "-w2"],
        "mysql@mariadb",
        task="for_huey",
        count=COUNT,
        max_size=2,
    )
    found = sessions(worker.wait_until_done())
    assert worker.pid not in found
    assert all(len(those) == 1 for those in found.values())
    assert worker.connects() == 1 + len(found)
    pools = worker.wait_until_at_rest(held=1)
    assert {pool.opened_total for pool in pools.values()} == {1}
    assert not worker.alarms()


@pytest.mark.parametrize(("kind", "workers"), [("thread", 6), ("greenlet", 10)])
def test_in_one_process(kind: str, workers: int, start_worker: StartWorker) -> None:
    """More tasks at once than there are connections share these."""
    max_size = 4
    worker = start_worker(
        [*COMMAND, "-k", kind, f"-w{workers}"],
        "postgresql",
        task="for_huey",
        count=COUNT,
        max_size=max_size,
    )
    runs = worker.wait_until_done()
    assert len({run.thread for run in runs}) > max_size
    assert len(sessions(runs)[worker.pid]) < max_size  # one is in use elsewhere
    opened = worker.connects()
    assert opened <= max_size
    (pool,) = worker.wait_until_at_rest(held=1).values()
    assert pool.opened_total == opened
    assert not pool.reclaimed_total
    assert not worker.alarms()
