"""What a backend names: how a driver is spoken to, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from djpool.core.driver import Driver, NativePool, check_capacity
from djpool.core.options import Offer, PoolOptions


@dataclass(frozen=True, slots=True)
class Connector:
    """What an adapter gets to build with.

    `connect` opens a connection in so many seconds; `autocommit` is how the
    project's settings want connections to be while they are at rest. `open` does
    what `connect` does, and gives the Django connection that did it, too: for an
    adapter that has no words of its own. There is none without Django. `setup` says
    what was run on the connection that the calling thread opened last, once it was
    connected, and may have changed its session.
    """

    connect: Callable[[float], Any]
    autocommit: bool = True
    open: Callable[[float], tuple[Any, Any]] | None = None
    setup: Callable[[], Sequence[str]] = tuple


def _unlimited(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:  # noqa: ARG001 (uniform)
    return params


def _nothing_missing(options: PoolOptions) -> str | None:  # noqa: ARG001 (uniform)
    return None


@dataclass(frozen=True, slots=True)
class Adapter:
    """One driver under djpool.

    Attributes:
        offer: Which options it takes.
        driver: Makes the driver's words.
        native: Makes the driver's own pool, where it has one djpool can use.
        limit: Puts a number of seconds into connection parameters, so that the
            driver gives up by then; it keeps a shorter one that is there.
        missing: What has to be installed for these options, as a sentence.
        pooling: Connection parameters with which the driver pools by itself.
        of_pools: What belongs into `OPTIONS["pool"]` and never beside it, although
            Django's own pool takes it there.
    """

    offer: Offer
    driver: Callable[[Connector], Driver]
    native: Callable[[PoolOptions], NativePool] | None = None
    limit: Callable[[Mapping[str, Any], float], Mapping[str, Any]] = _unlimited
    missing: Callable[[PoolOptions], str | None] = _nothing_missing
    pooling: tuple[str, ...] = ()
    of_pools: frozenset[str] = frozenset()

    def build(
        self, options: PoolOptions, connector: Connector
    ) -> tuple[Driver, NativePool | None]:
        """The parts of a pool for these options.

        Raises:
            OptionsError: The native pool cannot do what they say.
        """
        driver = self.driver(connector)
        if self.native is None or options.implementation != "native":
            return driver, None
        native = self.native(options)
        check_capacity(native, options.max_size)
        return driver, native
