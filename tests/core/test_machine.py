"""Any sequence of what can happen to a pool leaves its books in balance."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from djpool.core import Lease, PoolTimeout
from djpool.core.session import Change
from tests.core.fakes import Clock, Server, assert_capacity, make_pool


class PoolMachine(RuleBasedStateMachine):
    """One thread, a clock that stands still, and a server that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.server = Server()
        self.pool = make_pool(
            self.server, self.clock, max_size=3, max_lifetime=1000, max_idle=100
        )
        self.leases: list[Lease] = []
        self.most = 3
        self.counters: dict[str, float] = {}

    @rule()
    def acquire(self) -> None:
        room = len(self.leases) < self.pool.stats().max_size
        try:
            lease = self.pool.acquire(timeout=0)
        except PoolTimeout:
            assert not room or self.pool.stats().size > self.pool.stats().max_size
        except ConnectionRefusedError:
            assert not self.server.up
        else:
            assert room
            assert all(
                lease.connection is not other.connection for other in self.leases
            )
            assert not lease.connection.dead
            assert lease.connection.state is None
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(), how=st.sampled_from(["release", "discard", "forget", "suspect"])
    )
    def end(self, data: st.DataObject, how: str) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        match how:
            case "release":
                lease.release()
            case "discard":
                lease.discard()
            case "suspect":
                lease.suspect()
                lease.release()
            case "forget":
                del lease
                gc.collect(0)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def begin_transaction(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        lease.connection.in_transaction = True

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), change=st.sampled_from(list(Change)))
    def change_the_session(self, data: st.DataObject, change: Change) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        lease.changed(change)
        lease.connection.state = "changed"

    @rule(seconds=st.sampled_from([1, 40, 101, 800]))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_(seconds)

    @rule()
    def maintain(self) -> None:
        due = self.pool.maintain()
        assert due is None or due > 0

    @rule()
    def drain(self) -> None:
        self.pool.drain()

    @rule(size=st.integers(1, 5))
    def resize(self, size: int) -> None:
        self.most = max(self.most, size)
        self.pool.resize(max_size=size)

    @rule()
    def server_restarts(self) -> None:
        self.server.kill()

    @rule(up=st.booleans())
    def server_goes_or_comes(self, up: bool) -> None:
        self.server.up = up

    @invariant()
    def books_balance(self) -> None:
        stats = self.pool.stats()
        assert stats.in_use + stats.idle + stats.opening == stats.size
        assert stats.opening == stats.waiting == 0
        # What was forgotten is in use until somebody takes it back.
        assert stats.in_use >= len(self.leases)
        assert stats.size == len(self.server.connections)
        assert self.server.most <= self.most
        assert stats.opened_total - sum(stats.closed_total.values()) == stats.size
        assert stats.wait_seconds.count == stats.acquired_total

    @invariant()
    def counters_never_go_back(self) -> None:
        now = {
            name: sum(value.values()) if isinstance(value, dict) else value
            for name, value in self.pool.stats().as_dict().items()
            if name.endswith("_total")
        }
        assert all(now[name] >= was for name, was in self.counters.items())
        self.counters = now

    def teardown(self) -> None:
        for lease in self.leases:
            lease.release()
        self.leases.clear()
        gc.collect()  # the forgotten ones may be part of somebody's cycle
        self.server.up = True
        self.pool.maintain()
        self.pool.drain()
        self.server.most = 0
        assert_capacity(self.pool, self.server)
        self.pool.close()
        assert not self.server.connections


PoolMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPoolMachine = PoolMachine.TestCase
