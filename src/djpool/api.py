"""What a project calls: pools and their figures, by alias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

from django.db import connections

from djpool import config
from djpool.core.pool import Pool
from djpool.core.stats import PoolStats
from djpool.errors import OptionsError
from djpool.wrapper import PooledWrapper


def pool(alias: str = "default") -> Pool:
    """The pool of a database alias in this process; made now if it is not yet.

    Thread-safe; connects to nothing.

    Raises:
        OptionsError: The alias is not pooled, or its options are wrong.
        django.utils.connection.ConnectionDoesNotExist: There is no such alias.
    """
    found = _pool(alias)
    if found is None:
        engine = connections[alias].settings_dict["ENGINE"]
        raise OptionsError(
            f"DATABASES[{alias!r}] is not pooled: its ENGINE is {engine!r}, and "
            "OPTIONS['pool'] is off, or cannot be on for this database"
        )
    return found


@overload
def stats(alias: str) -> PoolStats: ...
@overload
def stats(alias: None = None) -> dict[str, PoolStats]: ...
def stats(alias: str | None = None) -> PoolStats | dict[str, PoolStats]:
    """The figures of one alias's pool in this process, or of all by alias.

    Thread-safe; connects to nothing. Each `PoolStats` is of one moment.

    Raises:
        OptionsError: The alias is not pooled, or its options are wrong.
        django.utils.connection.ConnectionDoesNotExist: There is no such alias.
    """
    if alias is not None:
        return pool(alias).stats()
    pools = {alias: _pool(alias) for alias in connections}
    return {alias: each.stats() for alias, each in pools.items() if each is not None}


@contextmanager
def hold(alias: str = "default") -> Iterator[None]:
    """Keep this thread's connection to a database for as long as the block runs.

    The end of a request, and `close_old_connections()`, do not give it back; an
    explicit `connections[alias].close()` does. Holds can be nested. Without a pool
    it connects, and that is all.

    Raises:
        PoolError: No connection could be had.
        django.utils.connection.ConnectionDoesNotExist: There is no such alias.
    """
    wrapper = connections[alias]
    if not isinstance(wrapper, PooledWrapper):
        wrapper.ensure_connection()
        yield
        return
    wrapper.djpool_holds += 1
    try:
        wrapper.ensure_connection()
        yield
    finally:
        wrapper.djpool_holds -= 1
        if wrapper.djpool_early:
            wrapper.djpool_rest()


def close_all() -> None:
    """Close every pool of this process; the next use of an alias makes a new one.

    Connections in use are closed when they come back. Thread-safe.
    """
    config.registry.close_all()


def _pool(alias: str) -> Pool | None:
    wrapper = connections[alias]
    return config.pool_of(wrapper) if isinstance(wrapper, PooledWrapper) else None
