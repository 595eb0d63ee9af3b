"""What every task does."""

from __future__ import annotations

import os
import threading

from django.db import connection, transaction

# Each takes a while on the server, so that tasks want connections at the same time.
SESSION = {
    "postgresql": "SELECT pg_backend_pid() FROM pg_sleep(0.002)",
    "mysql": "SELECT connection_id() FROM (SELECT sleep(0.002)) AS pause",
}


def write_down(number: int) -> None:
    """Say who runs task `number`."""
    from tests.workers.project.models import Run

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(SESSION[connection.vendor])
            (session,) = cursor.fetchone()
        Run.objects.create(
            number=number,
            process=os.getpid(),
            thread=threading.get_ident(),
            session=session,
        )
