"""What djpool raises, as Django code sees it.

Every error of a pool is a `django.db.OperationalError`, so code that handles a
database that is down handles a pool that is exhausted, too.
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from djpool import core


class OptionsError(core.OptionsError, ImproperlyConfigured):
    """`OPTIONS["pool"]` is wrong. The message names alias, option and value."""


class PoolError(core.PoolError, OperationalError):
    """No connection could be had. `stats` are the pool's figures at that moment."""


class PoolTimeout(core.PoolTimeout, PoolError):
    """No connection came free, or could be opened, in time. Retrying can help.

    The message names the threads that hold the connections. Where the last
    attempt to open one failed, the driver's error is the cause.
    """


class PoolBusy(core.PoolBusy, PoolError):
    """`max_waiting` callers were waiting already. Shed load; do not retry at once."""


class PoolClosed(core.PoolClosed, PoolError):
    """`close()` was called, before or while waiting. Retrying cannot help."""


KINDS = core.ErrorKinds(
    timeout=PoolTimeout, busy=PoolBusy, closed=PoolClosed, options=OptionsError
)
