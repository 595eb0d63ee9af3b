"""What greenlets must find, in a process that is patched for them. A program.

`python -m tests.acceptance.greenlets gevent|eventlet DATABASE`, with DATABASE as JSON.
It fails, or prints "fine". gevent and eventlet give the few things used here under the
same names.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djpool.core.pool import Pool

GREENLETS = 24
MAX_SIZE = 3
# Seconds within which what is to come must have come.
BOUND = 30.0

library: Any = importlib.import_module(sys.argv[1])


def patch() -> None:
    """Have Python's own modules wait for one greenlet only."""
    if sys.argv[1] == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        library.monkey_patch()


def until(condition: Callable[[], bool]) -> None:
    """Let the others run until it is so."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        library.sleep(0.01)


def run_all(works: Iterator[Callable[[], None]]) -> None:
    """Run each in a greenlet of its own; raise what the first raised, if one did."""
    wrong: list[BaseException] = []
    running = 0

    def run(work: Callable[[], None]) -> None:
        nonlocal running
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised below)
            wrong.append(error)
        finally:
            running -= 1

    for work in works:
        running += 1
        library.spawn(run, work)
    until(lambda: not running)
    if wrong:
        raise wrong[0]


def ask(number: int, seconds: float = 0.0) -> None:
    """Have the database say a number, after so many seconds at least."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {number}")
        library.sleep(seconds)
        assert cursor.fetchone() == (number,)


def ask_and_close(number: int) -> None:
    """The same, and give the connection back."""
    from django.db import connection

    ask(number)
    connection.close()


def capacity(pool: Pool) -> int:
    """Count how many connections can be had, now or as soon as they are back."""
    leases = [pool.acquire(timeout=BOUND) for _ in range(MAX_SIZE)]
    for lease in leases:
        lease.release()
    assert pool.stats().waiting == 0
    return len(leases)


def greenlets_are_owners(pool: Pool) -> None:
    """Each has connections of its own, never too many, and waits for its turn."""
    from django.db import connection

    order: list[int] = []

    def work(number: int) -> None:
        connection.ensure_connection()
        order.append(number)
        ask(number, 0.01)
        assert pool.stats().size <= MAX_SIZE
        connection.close()

    run_all(partial(work, n) for n in range(GREENLETS))
    # Those whose turn it is are so many, and the last looks at theirs take place in
    # any order: a look at a socket is a chance for the others.
    assert all(abs(n - place) <= 2 * MAX_SIZE for place, n in enumerate(order)), order
    assert capacity(pool) == MAX_SIZE
    assert pool.stats().reclaimed_total == 0


def interrupted_anywhere(pool: Pool) -> None:
    """A timeout strikes while it waits, connects, asks, or gives back."""
    from django.db import DatabaseError, connection, transaction

    chance = random.Random(1)
    struck = 0

    def work(number: int) -> None:
        nonlocal struck
        for _ in range(20):
            try:
                with library.Timeout(chance.uniform(0.0, 0.02)):
                    with transaction.atomic():
                        ask(number, 0.001)
                    ask(number)
            except (library.Timeout, DatabaseError):
                # The latter where Django says ROLLBACK on a connection that is still
                # busy with what was interrupted.
                struck += 1
            connection.close()

    run_all(partial(work, n) for n in range(GREENLETS))
    assert struck > GREENLETS
    assert capacity(pool) == MAX_SIZE


def what_they_forget_comes_back(pool: Pool) -> None:
    """A greenlet that ends has given back, like a thread."""
    before = pool.stats().reclaimed_total
    for _ in range(4):
        run_all(partial(ask, n) for n in range(GREENLETS))
    assert capacity(pool) == MAX_SIZE
    assert pool.stats().reclaimed_total == before + 4 * GREENLETS


def sockets_beyond_select(pool: Pool) -> None:
    """Also those with a number that select() cannot take."""
    import os
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    pool.drain()
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    opened = pool.stats().opened_total
    run_all(partial(ask_and_close, n) for n in range(MAX_SIZE))
    for number in range(GREENLETS):
        ask_and_close(number)
    assert pool.stats().opened_total <= opened + MAX_SIZE
    assert pool.stats().check_failures_total == 0
    for each in held:
        os.close(each)


def a_fork_forgets(pool: Pool) -> None:
    """The upkeep of the parent's pools ends in the child, though greenlets go on."""
    import os

    from djpool import config
    from djpool.core.slot import EVICTED

    ask_and_close(1)
    before, keeper = pool.stats(), config.registry.keeper
    child = os.fork()
    if not child:
        for entry in pool._connections.books:
            entry.expires_at = EVICTED
        keeper.nudge(pool.reference)
        ask_and_close(2)
        library.sleep(0.05)
        os._exit(pool.stats().closed_total != before.closed_total)
    _pid, status = os.waitpid(child, 0)
    assert status == 0
    ask_and_close(3)
    assert pool.stats().opened_total == before.opened_total


def main() -> None:
    """Run everything."""
    import logging

    import django
    from django.conf import settings

    settings.configure(USE_TZ=True, DATABASES={"default": json.loads(sys.argv[2])})
    django.setup()
    logging.getLogger("djpool").setLevel(logging.ERROR)

    import djpool

    pool = djpool.pool()
    greenlets_are_owners(pool)
    interrupted_anywhere(pool)
    what_they_forget_comes_back(pool)
    sockets_beyond_select(pool)
    if sys.argv[1] == "gevent":  # eventlet's hub does not survive a fork
        a_fork_forgets(pool)
    print("fine")  # noqa: T201 (what the test looks for)


if __name__ == "__main__":
    patch()
    main()
