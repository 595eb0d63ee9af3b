"""The same task for each kind of worker."""

from __future__ import annotations

from celery import shared_task
from huey.contrib.djhuey import db_task

from tests.workers.project.models import Run
from tests.workers.project.work import write_down

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task

# As projects do it: before a worker forks, in its main thread, and never closed.
COUNT_AT_IMPORT = Run.objects.count()


@shared_task
def for_celery(number: int) -> None:
    write_down(number)


@db_task()
def for_huey(number: int) -> None:
    write_down(number)


@task
def for_django(number: int) -> None:
    write_down(number)
