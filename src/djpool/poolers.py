"""Whether another pooler stands between djpool and a PostgreSQL server.

PgBouncer passes itself off as the server: nothing that can be asked through it says
that it is there. But the number that it gives a client on connecting, for cancelling
statements, is not that of the server's process; and where it pools by transaction, two
clients meet in one such process.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from djpool.management.server import unpooled

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("djpool.poolers")

# Seconds for everything. A pooler that has no session to spare lets clients wait.
PATIENCE = 5.0
# How often two clients try to meet: others may be faster where there is much to do.
ATTEMPTS = 5


def pools_by_transaction(alias: str) -> bool:
    """Whether what a PostgreSQL alias connects to lends its sessions by transaction.

    True is certain. False is also what cannot be said: the server is away, does not
    answer within some seconds, or is so busy that two connections never met. Opens one
    connection or two of its own; raises nothing.
    """
    found: list[bool] = []

    def look() -> None:
        try:
            found.append(_meet(alias))
        except Exception as error:  # noqa: BLE001 (drivers differ in what they raise)
            logger.debug("%r: whether it is pooled cannot be said: %s", alias, error)

    # A daemon: neither driver can give up a statement that nobody answers.
    thread = threading.Thread(target=look, name="djpool-poolers", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join(PATIENCE)
    return found == [True]


def _meet(alias: str) -> bool:
    first, second = _client(alias), _client(alias)
    try:
        seen = {_process(first)}
        told: int = first.connection.info.backend_pid
        if told in seen:
            return False  # nobody stands between
        for _ in range(ATTEMPTS):
            # `first` stays connected: nobody else is in its session, if it has one.
            if _process(second) in seen:
                return True
            seen.add(_process(first))
    finally:
        first.close()
        second.close()
    return False


def _client(alias: str) -> BaseDatabaseWrapper:
    wrapper = unpooled(alias)
    wrapper.settings_dict["AUTOCOMMIT"] = True
    return wrapper


def _process(wrapper: BaseDatabaseWrapper) -> int:
    """Return the number of the server's process that answers."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        number: int = cursor.fetchone()[0]
    return number
