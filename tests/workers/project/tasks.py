"""The same task for each kind of worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from celery import shared_task
from huey.contrib.djhuey import db_task

from tests.workers.project.models import Run
from tests.workers.project.work import write_down

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

# In the thread that imports, before anything is forked; nothing closes the connection.
COUNT_AT_IMPORT = Run.objects.count()

for_celery = shared_task(write_down)
for_huey = db_task()(write_down)


@task
def for_django(number: int) -> None:
    write_down(number)
