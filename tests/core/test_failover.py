"""A server that steps down is left at once, and once."""

from __future__ import annotations

import logging

import pytest

from djpool.core import Lease, Pool
from djpool.core.failover import EVICTION_PAUSE
from djpool.core.session import Change
from tests.core.fakes import Clock, Server, assert_capacity, make_pool

READ_ONLY = InterruptedError("the server is read-only")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(server: Server, clock: Clock) -> Pool:
    return make_pool(server, clock, max_size=4)


def leases(pool: Pool, count: int) -> list[Lease]:
    return [pool.acquire() for _ in range(count)]


def evicted(pool: Pool) -> int:
    return pool.stats().closed_total["evicted"]


def test_all_connections_are_replaced(pool: Pool, server: Server) -> None:
    """Idle ones at once, others when they come back, this one too."""
    this, other, idle = leases(pool, 3)
    old = set(server.connections)
    idle.release()
    this.notice(READ_ONLY)
    pool.maintain()
    assert evicted(pool) == 1
    this.release()
    other.release()
    assert evicted(pool) == 3
    with pool.acquire() as lease:
        assert lease.connection not in old
    assert_capacity(pool, server)


def test_an_idle_one_is_not_lent_any_more(pool: Pool, server: Server) -> None:
    """Whether or not somebody came to close it."""
    this, idle = leases(pool, 2)
    old = idle.connection
    idle.release()
    this.notice(READ_ONLY)
    with pool.acquire() as lease:
        assert lease.connection is not old
    this.release()


def test_later_errors_of_the_same_connections_do_nothing(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    old = leases(pool, 3)
    old[0].notice(READ_ONLY)
    new = pool.acquire()
    for lease in old:
        lease.notice(READ_ONLY)
    for lease in old:
        lease.release()
    new.release()
    assert pool.stats().idle == 1
    told = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "so all connections to it (3) are replaced" in caplog.text


def test_what_meets_it_soon_after_is_replaced_alone(pool: Pool, clock: Clock) -> None:
    """A session that makes itself read-only again and again costs itself only."""
    lease = pool.acquire()
    lease.notice(READ_ONLY)
    lease.release()
    for _ in range(3):
        kept, lease = leases(pool, 2)
        lease.notice(READ_ONLY)
        lease.release()
        kept.release()
        assert pool.stats().idle == 1
    clock.pass_(EVICTION_PAUSE)
    kept, lease = leases(pool, 2)
    lease.notice(READ_ONLY)
    lease.release()
    kept.release()
    assert pool.stats().size == 0


def test_other_errors_are_no_reason(pool: Pool) -> None:
    with pool.acquire() as lease:
        lease.notice(ValueError())
    assert pool.stats().idle == 1


def test_a_session_that_was_changed_may_have_made_itself_read_only(pool: Pool) -> None:
    with pool.acquire() as lease:
        lease.changed(Change.UNKNOWN)
        lease.notice(READ_ONLY)
    assert evicted(pool) == 0


def test_an_ended_lease_notices_nothing(pool: Pool) -> None:
    lease = pool.acquire()
    lease.release()
    lease.notice(READ_ONLY)
    assert pool.acquire().connection is not None
    assert evicted(pool) == 0
