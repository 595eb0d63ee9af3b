"""What fails with djpool and not without it, and why that is right."""

from __future__ import annotations

from tests.backends.engines import engine_of

_NATIVE = "asks for `connection.pool`, the driver's own pool; djpool's is djpool.pool()"
_HEALTH = (
    "expects CONN_MAX_AGE and CONN_HEALTH_CHECKS to keep and check a connection: with "
    "djpool the pool does both, whatever they say; of Django's own pools' tests these "
    "are skipped, too"
)
_SIGNAL = (
    "expects connection_created with each connect(): with djpool it is sent once for "
    "each physical connection"
)

_HEALTH_CHECKS = "backends.base.test_base.ConnectionHealthChecksTests"
_POSTGRESQL = "backends.postgresql.tests.Tests"

KNOWN = {
    "backends.tests.ConnectionCreatedSignalTest.test_signal": _SIGNAL,
    f"{_HEALTH_CHECKS}.test_health_checks_disabled": _HEALTH,
    f"{_HEALTH_CHECKS}.test_health_checks_enabled": _HEALTH,
    f"{_HEALTH_CHECKS}.test_health_checks_enabled_errors_occurred": _HEALTH,
    f"{_HEALTH_CHECKS}.test_set_autocommit_health_checks_enabled": _HEALTH,
    f"{_POSTGRESQL}.test_connect_pool": _NATIVE,
    f"{_POSTGRESQL}.test_connect_pool_set_to_true": _NATIVE,
    f"{_POSTGRESQL}.test_pool_check_can_be_overridden": _NATIVE,
    f"{_POSTGRESQL}.test_pool_options_not_mutated": _NATIVE,
    f"{_POSTGRESQL}.test_pooling_health_checks": _NATIVE,
    f"{_POSTGRESQL}.test_pooling_not_support_persistent_connections": _NATIVE,
}

# With `release: "transaction"`, which has no connection between two statements.
_NONE = "looks at `connection.connection` after a query, which has ended its lease"
EARLY = {
    "backends.tests.ThreadTests.test_default_connection_thread_local": _NONE,
    "test_utils.tests.AssertNumQueriesUponConnectionTests"
    ".test_ignores_connection_configuration_queries": _NONE,
}
# And so these find nothing to check.
EARLY_PASSES = {
    f"{_HEALTH_CHECKS}.test_health_checks_disabled",
    f"{_HEALTH_CHECKS}.test_health_checks_enabled_errors_occurred",
}


def known(engine: str) -> set[str]:
    """What is known to fail with this engine."""
    if engine_of(engine).release == "transaction":
        return (KNOWN.keys() | EARLY.keys()) - EARLY_PASSES
    return set(KNOWN)
