"""What psycopg 3 and psycopg2 have in common: PostgreSQL's client library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djpool.adapters.timeouts import whole_seconds

# libpq takes a shorter connect_timeout for this one.
LEAST_CONNECT_TIMEOUT = 2


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have libpq give up by then; it counts whole seconds, two or more."""
    wanted = params.get("connect_timeout")
    seconds = whole_seconds(wanted, timeout, least=LEAST_CONNECT_TIMEOUT)
    return {**params, "connect_timeout": seconds}
