"""The pool itself: no Django and no driver in it."""

from djpool.core.driver import Driver, NativePool
from djpool.core.errors import (
    ErrorKinds,
    OptionsError,
    PoolBusy,
    PoolClosed,
    PoolError,
    PoolTimeout,
)
from djpool.core.lease import Lease
from djpool.core.options import PoolOptions
from djpool.core.pool import Pool
from djpool.core.slot import Slot
from djpool.core.stats import CloseCause, Histogram, PoolStats, total

__all__ = [
    "CloseCause",
    "Driver",
    "ErrorKinds",
    "Histogram",
    "Lease",
    "NativePool",
    "OptionsError",
    "Pool",
    "PoolBusy",
    "PoolClosed",
    "PoolError",
    "PoolOptions",
    "PoolStats",
    "PoolTimeout",
    "Slot",
    "total",
]
