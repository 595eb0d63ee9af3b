"""Makes the project's database and fills a queue. Started as a program.

Its arguments are the name of a task in `tasks.py`, and how many of it to enqueue.
"""

from __future__ import annotations

import sys

import django
from django.db import connection


def main(task: str, count: int) -> None:
    """Begin with an empty database, end with a full queue."""
    django.setup()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    # The tasks look into the database when they are imported. Celery's know their
    # queue by then.
    from tests.workers.project import celery_app, tasks

    celery_app.app.set_default()
    enqueue = {
        "for_celery": tasks.for_celery.delay,
        "for_huey": tasks.for_huey,
        "for_django": tasks.for_django.enqueue,
    }[task]
    for number in range(count):
        enqueue(number)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
