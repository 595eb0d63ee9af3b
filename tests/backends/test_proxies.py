"""A tracer puts a proxy around the driver's connection: everything works as before.

The proxies are those of wrapt, which OpenTelemetry, Datadog and New Relic use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import wrapt
from django.db import DatabaseError, connections, transaction

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import ENGINES, ORACLE
from tests.backends.kinds import run
from tests.backends.test_threads import TOUCHES, is_touched


@pytest.fixture(params=[name for name in ENGINES if name not in ORACLE])
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine of which a tracer wraps connections."""
    name: str = request.param
    return name


@pytest.fixture(params=["request", "transaction"])
def alias(
    engine: str,
    make_alias: MakeAlias,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """An alias with a pool of two, on a driver that is traced."""
    alias = pooled(engine, make_alias, max_size=2, timeout=20, release=request.param)
    stock = next(
        kind
        for kind in type(connections[alias]).__mro__
        if "get_new_connection" in vars(kind)
        and not kind.__module__.startswith("djpool")
    )
    connect = stock.get_new_connection  # type: ignore[attr-defined]

    def traced(self: Any, params: Any) -> Any:
        return wrapt.ObjectProxy(connect(self, params))

    monkeypatch.setattr(stock, "get_new_connection", traced)
    yield alias
    connections[alias].close()


def test_the_project_has_the_proxy(alias: str) -> None:
    with djpool.hold(alias):
        run(connections[alias], "SELECT 1")
        assert isinstance(raw_of(connections[alias]), wrapt.ObjectProxy)


def test_sessions_and_transactions(alias: str) -> None:
    wrapper: Any = connections[alias]
    with transaction.atomic(using=alias):
        assert run(wrapper, "SELECT 1")
    wrapper.close()
    run(wrapper, TOUCHES[wrapper.vendor])
    wrapper.close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "the session to be restored")
    assert not is_touched(alias)
    run(wrapper, "BEGIN")
    wrapper.close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "the rollback")
    with pytest.raises(DatabaseError):
        run(wrapper, "SELECT nonsense FROM nowhere")
    wrapper.close()
    assert run(wrapper, "SELECT 2")[0][0] == 2
    wrapper.close()
    stats = djpool.stats(alias)
    assert (stats.opened_total, stats.resets_total) == (1, 1)
    assert stats.closed_total["broken"] == 0


def test_a_ping(engine: str, make_alias: MakeAlias, alias: str) -> None:
    checked = pooled(engine, make_alias, max_size=1, check=True)
    for number in range(3):
        assert run(connections[checked], f"SELECT {number}")[0][0] == number
        connections[checked].close()
    assert djpool.stats(checked).checks_total == 2
    assert djpool.stats(checked).check_failures_total == 0
