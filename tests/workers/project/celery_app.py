"""Celery, with a folder of files for its queue."""

from __future__ import annotations

from pathlib import Path

from celery import Celery, signals
from django.conf import settings
from django.db import connection

# The number under which the process that Celery was started in runs a task itself.
LAST = -1

_queue = Path(settings.FOLDER) / "queue"
_queue.mkdir(exist_ok=True)

app = Celery(
    "project",
    broker="filesystem://",
    include=["tests.workers.project.tasks"],
)
app.conf.update(
    broker_transport_options={
        "data_folder_in": _queue,
        "data_folder_out": _queue,
        "control_folder": _queue,
    },
    broker_connection_retry_on_startup=False,
    task_ignore_result=True,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)


@signals.worker_before_create_process.connect
def _have_a_connection_in_use(**_kwargs: object) -> None:
    """Fork with one in use, which is worse than what Celery does."""
    connection.ensure_connection()


@signals.worker_shutdown.connect
def _use_it_again(**_kwargs: object) -> None:
    from tests.workers.project.work import write_down

    write_down(LAST)
