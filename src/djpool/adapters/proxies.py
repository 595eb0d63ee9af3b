"""Connections that a tracer has put a proxy around.

OpenTelemetry, Datadog, Elastic APM and New Relic hand out a proxy in place of what the
driver's `connect()` returns. Django and the project go on using the proxy. djpool's own
questions go to the driver's object: C functions accept no other, a class's method is
not to be found on a proxy's, and nobody wants a span for each of them.
"""

from __future__ import annotations

from typing import Any


def driver_s_own(connection: Any) -> Any:
    """Return the driver's own object, whatever stands around it."""
    while (inner := getattr(connection, "__wrapped__", None)) is not None:
        connection = inner
    return connection
