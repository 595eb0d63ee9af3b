"""Celery, with a folder of files for its queue."""

from __future__ import annotations

from pathlib import Path

from celery import Celery, signals
from django.conf import settings

from tests.workers.project import FIRST, LAST
from tests.workers.project.work import write_down

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
        "polling_interval": 0.01,
    },
    task_ignore_result=True,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)


def have_one_in_use(**_kwargs: object) -> None:
    """Fork with a connection in use: Celery itself has just closed what there was."""
    write_down(FIRST)


def use_it_again(**_kwargs: object) -> None:
    """See whether it is still ours."""
    write_down(LAST)


signals.worker_init.connect(have_one_in_use)
signals.worker_shutdown.connect(use_it_again)
