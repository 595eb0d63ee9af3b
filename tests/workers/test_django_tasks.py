"""Django's own tasks, and a worker for them that has its queue in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.workers.worker import sessions

if TYPE_CHECKING:
    from tests.workers.conftest import StartWorker

COMMAND = ["-m", "tests.workers.project", "db_worker"]


def test_database_worker(start_worker: StartWorker) -> None:
    """It makes one connection for its tasks and for its queue."""
    worker = start_worker(
        [*COMMAND, "--interval=0.05", "--no-startup-delay"],
        "postgresql",
        task="for_django",
        count=100,
        max_size=2,
    )
    ((process, (session,)),) = sessions(worker.wait_until_done()).items()
    assert process == worker.pid
    assert session
    assert worker.connects() == 1
    (pool,) = worker.wait_until_at_rest().values()
    assert pool.opened_total == 1
    assert not worker.alarms()
