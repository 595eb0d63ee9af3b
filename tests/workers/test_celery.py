"""Celery's worker, in three of its kinds. Together they run 1,000 tasks.

Celery closes connections and pools around each task. Its main process has used a
connection while it imported the tasks, and has one in use from before it forks to its
end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers.project import FIRST, LAST
from tests.workers.worker import Worker, sessions

if TYPE_CHECKING:
    from tests.workers.conftest import StartWorker

COMMAND = ["-m", "celery", "-A", "tests.workers.project.celery_app", "worker"]
COMMAND += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-lWARNING"]


def end(worker: Worker) -> None:
    """End it, and see that what it had in use was its own all the time."""
    main = worker.pid
    worker.end()
    first, last = worker.own_runs()
    assert (first.number, last.number) == (FIRST, LAST)
    assert first.process == last.process == main
    assert first.session == last.session
    assert not worker.alarms()


def test_prefork(start_worker: StartWorker) -> None:
    """Each child makes one connection, and keeps it until it ends."""
    count, each = 300, 100
    worker = start_worker(
        [*COMMAND, "-P", "prefork", "-c2", f"--max-tasks-per-child={each}"],
        "postgresql",
        task="for_celery",
        count=count,
        max_size=2,
    )
    found = sessions(worker.wait_until_done())
    assert len(found) >= count / each
    assert all(len(those) == 1 for those in found.values())
    assert worker.connects() == 1 + len(found)
    pools = worker.wait_until_at_rest(held=1)
    assert {pool.opened_total for pool in pools.values()} == {1}
    end(worker)


@pytest.mark.parametrize(
    ("kind", "concurrency", "count"), [("threads", 8, 400), ("gevent", 20, 300)]
)
def test_in_one_process(
    kind: str, concurrency: int, count: int, start_worker: StartWorker
) -> None:
    """More tasks at once than there are connections share these."""
    max_size = 5
    worker = start_worker(
        [*COMMAND, "-P", kind, f"-c{concurrency}"],
        "postgresql",
        task="for_celery",
        count=count,
        max_size=max_size,
    )
    runs = worker.wait_until_done()
    assert len({run.thread for run in runs}) > max_size
    assert len(sessions(runs)[worker.pid]) < max_size  # one is in use elsewhere
    opened = worker.connects()
    assert opened <= max_size
    (pool,) = worker.wait_until_at_rest(held=1).values()
    assert pool.opened_total == opened
    assert pool.waited_total
    assert not pool.reclaimed_total
    end(worker)
