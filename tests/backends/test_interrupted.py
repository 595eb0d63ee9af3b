"""An exception of a signal's handler, raised anywhere in djpool, loses no connection.

As in tests/core/test_interruption.py, with a Django connection around the core: Django
closes it at the end of the request, and then its lease has to be back.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.kinds import run
from tests.interruption.places import interrupted

DJPOOL = str(Path(djpool.__file__).parent)
MAX_SIZE = 2


def query(wrapper: Any) -> None:
    """Ask something in a request."""
    run(wrapper, "SELECT 1")
    wrapper.close()


def change(wrapper: Any) -> None:
    """Touch the session."""
    run(wrapper, "PRAGMA foreign_keys = OFF")
    wrapper.close()


def write(wrapper: Any) -> None:
    """Have a transaction."""
    with transaction.atomic(using=wrapper.alias):
        run(wrapper, "SELECT 1")
    wrapper.close()


@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("request_", [query, change, write])
def test_all_can_be_had_again(
    request_: Callable[[Any], None], release: str, make_alias: MakeAlias
) -> None:
    kept: list[BaseException] = []
    for at in itertools.count(1):
        alias = pooled("sqlite3", make_alias, max_size=MAX_SIZE, release=release)
        wrapper: Any = connections[alias]
        query(wrapper)
        error = interrupted(functools.partial(request_, wrapper), at, DJPOOL)
        if error is None:
            break
        kept.append(error)
        wrapper.close()
        if connections[alias] is not wrapper:
            connections[alias].close()
        assert_all_can_be_had(alias, f"after {error}")
    assert len(kept) > 20


def assert_all_can_be_had(alias: str, told: str) -> None:
    """Fail unless the pool has as much room as in the beginning. Closes it."""
    pool = djpool.pool(alias)
    wait_until(lambda: pool.stats().in_use == 0, f"all to come back {told}")
    leases = [pool.acquire(timeout=5) for _ in range(MAX_SIZE)]
    for lease in leases:
        lease.release()
    assert run(connections[alias], "SELECT 2") == [(2,)], told
    connections[alias].close()
    pool.close()
