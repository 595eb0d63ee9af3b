"""What a backend names: how a driver is spoken to, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from djpool.core.driver import Driver, NativePool
from djpool.core.options import Offer, PoolOptions


@dataclass(frozen=True, slots=True)
class Connector:
    """What an adapter gets to build with.

    `connect` opens a connection in so many seconds; `autocommit` is how the
    project's settings want connections to be while they are at rest.
    """

    connect: Callable[[float], Any]
    autocommit: bool = True


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
    """

    offer: Offer
    driver: Callable[[Connector], Driver]
    native: Callable[[PoolOptions], NativePool] | None = None
    limit: Callable[[Mapping[str, Any], float], Mapping[str, Any]] = _unlimited
    missing: Callable[[PoolOptions], str | None] = _nothing_missing

    def build(
        self, options: PoolOptions, connector: Connector
    ) -> tuple[Driver, NativePool | None]:
        """The parts of a pool for these options."""
        use_native = self.native is not None and options.implementation == "native"
        driver = self.driver(connector)
        return driver, self.native(options) if use_native and self.native else None
