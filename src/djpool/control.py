"""What a process does with its pools when it is told to, by `manage.py poolctl`.

The commands to Python are the same: see `djpool.core.pool.Pool`. This module only
reads an order, and says what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.connection import ConnectionDoesNotExist

from djpool.core.errors import OptionsError
from djpool.core.pool import Pool
from djpool.monitor.protocol import RefusalError
from djpool.monitor.publish import Verb

logger = logging.getLogger("djpool.monitor")

SIZES = ("min_size", "max_size")

# Gives the pool of an alias; None if that database has none.
Find = Callable[[str], "Pool | None"]


def orders(find: Find) -> Mapping[str, Verb]:
    """Return what a process can be told, by verb. `find` gives the pool it is for.

    An order has an `alias`; "resize" also `min_size`, `max_size` or both. The answer
    to each has the pool's figures afterwards.
    """
    return {
        "resize": partial(_carry_out, find, _resize),
        "drain": partial(_carry_out, find, lambda pool, _request: pool.drain()),
        "suspend": partial(_carry_out, find, lambda pool, _request: pool.suspend()),
        "resume": partial(_carry_out, find, lambda pool, _request: pool.resume()),
    }


def _carry_out(
    find: Find,
    act: Callable[[Pool, Mapping[str, Any]], None],
    request: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Do it, and say what the pool is like now.

    Raises:
        RefusalError: There is no such pool, or it will not be so.
    """
    alias = request.get("alias")
    if not isinstance(alias, str):
        raise RefusalError(f"alias must be a database's name, not {alias!r}")
    try:
        pool = find(alias)
        if pool is None:
            raise RefusalError(f"its database {alias!r} has no pool")
        act(pool, request)
    # What djpool and Django say of sizes and of settings.
    except (OptionsError, ImproperlyConfigured, ConnectionDoesNotExist) as error:
        raise RefusalError(f"database {alias!r}: {error}") from error
    stats = pool.stats()
    logger.info(
        "pool %r: %s from outside; min_size is %d, max_size %d",
        stats.name,
        request["verb"],
        stats.min_size,
        stats.max_size,
    )
    return {
        "pools": {alias: stats.as_dict()},
        "suspended": [alias] if pool.suspended else [],
    }


def _resize(pool: Pool, request: Mapping[str, Any]) -> None:
    sizes = {name: request[name] for name in SIZES if request.get(name) is not None}
    if not sizes:
        raise RefusalError(f"{' or '.join(SIZES)} must be given")
    pool.resize(**sizes)
