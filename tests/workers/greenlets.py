"""Greenlets that leave their connections behind. Started as a program.

Its argument is the entry of DATABASES, as JSON.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before everything else

import json  # noqa: E402
import sys  # noqa: E402

import django  # noqa: E402
import gevent  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(USE_TZ=True, DATABASES={"default": json.loads(sys.argv[1])})
django.setup()

from django.db import connection, connections  # noqa: E402

import djpool  # noqa: E402
from tests.servers.process import wait_until  # noqa: E402

AT_ONCE = 20


def sleep(seconds: float) -> None:
    """Have the server sleep, and keep the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def sleep_and_close() -> None:
    """Do it as it should be done."""
    try:
        sleep(0.001)
    finally:
        connections.close_all()


def all_back() -> None:
    """Wait until no greenlet has a connection."""
    wait_until(lambda: not djpool.stats("default").in_use, "all to come back")


def main() -> None:
    """Lose connections in each way, and count what can be had after each."""
    for _ in range(AT_ONCE):
        gevent.spawn(sleep, 0).get()
    all_back()
    assert djpool.stats("default").reclaimed_total == AT_ONCE

    # Some are killed while they wait for a connection, some while they use one.
    killed = [gevent.spawn(sleep, 600) for _ in range(AT_ONCE)]
    size = djpool.stats("default").max_size

    def crowded() -> bool:
        stats = djpool.stats("default")
        return (stats.in_use, stats.waiting) == (size, AT_ONCE - size)

    wait_until(crowded, "the pool to be crowded")
    gevent.killall(killed)
    killed.clear()
    all_back()
    assert djpool.stats("default").reclaimed_total >= AT_ONCE + size

    for each in [gevent.spawn(sleep_and_close) for _ in range(AT_ONCE)]:
        each.get()
    stats = djpool.stats("default")
    assert (stats.in_use, stats.waiting) == (0, 0), stats
    assert stats.size <= size, stats


main()
