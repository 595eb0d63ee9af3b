"""Makes the project's database and fills a queue. Started as a program.

Its arguments are a name in `tasks.py` and how often to enqueue it.
"""

from __future__ import annotations

import sys

import django
from django.db import connection


def main(name: str, count: int) -> None:
    """Begin with an empty database, end with a full queue."""
    django.setup()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    from tests.workers.project import celery_app, tasks

    assert celery_app.app.tasks
    send = {
        "for_celery": lambda number: tasks.for_celery.delay(number),
        "for_huey": tasks.for_huey,
        "for_django": lambda number: tasks.for_django.enqueue(number),
    }[name]
    for number in range(count):
        send(number)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
