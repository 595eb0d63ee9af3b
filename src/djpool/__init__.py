"""Connection pooling for every Django database."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djpool.api import close_all, hold, pool, stats
    from djpool.core import Histogram, Lease, Pool, PoolStats
    from djpool.errors import (
        OptionsError,
        PoolBusy,
        PoolClosed,
        PoolError,
        PoolTimeout,
    )
    from djpool.other_backends import pooled
    from djpool.swap import install

__all__ = [
    "Histogram",
    "Lease",
    "OptionsError",
    "Pool",
    "PoolBusy",
    "PoolClosed",
    "PoolError",
    "PoolStats",
    "PoolTimeout",
    "close_all",
    "hold",
    "install",
    "pool",
    "pooled",
    "stats",
]

# Loaded when first asked for, so that `djpool.core` can be had without Django.
_HOMES = {
    "djpool.api": ("close_all", "hold", "pool", "stats"),
    "djpool.core": ("Histogram", "Lease", "Pool", "PoolStats"),
    "djpool.errors": (
        "OptionsError",
        "PoolBusy",
        "PoolClosed",
        "PoolError",
        "PoolTimeout",
    ),
    "djpool.other_backends": ("pooled",),
    "djpool.swap": ("install",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
