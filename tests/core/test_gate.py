"""The gate at the points where an interruption could hurt, one after the other."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import pytest

from djpool.core.gate import SLOW, Gate, Refused, Waiter
from djpool.core.slot import Entry, Slot
from tests.core.fakes import Clock, in_thread
from tests.servers.process import wait_until


@pytest.fixture
def lost() -> list[Any]:
    """What finalisers reported."""
    return []


@pytest.fixture
def gate(lost: list[Any]) -> Gate:
    return Gate(0, 1, None, lambda *args: lost.append(args))


def open_one(gate: Gate) -> Slot:
    """A slot whose connection was opened, in a minute."""
    slot = gate.queue(0)
    assert isinstance(slot, Slot)
    slot.entry = Entry(object(), 0.0, 1.0)
    gate.opened(slot, 60.0)
    return slot


def queued(gate: Gate, timeout: float = 30) -> tuple[threading.Thread, list[Any]]:
    """A thread in the queue, or past it if `timeout` is short, and what it got."""
    got: list[Any] = []
    before = len(gate.waiters)
    thread = in_thread(lambda: got.append(gate.queue(timeout)))
    wait_until(lambda: len(gate.waiters) > before or got, "somebody to queue")
    return thread, got


class Interrupted(deque[Waiter]):
    """A queue whose owner is interrupted just before it pops."""

    def popleft(self) -> Waiter:
        raise KeyboardInterrupt


def test_a_served_waiter_left_in_the_queue_takes_no_second_turn(gate: Gate) -> None:
    slot = open_one(gate)
    first, got_first = queued(gate)
    second, got_second = queued(gate)
    gate.waiters = Interrupted(gate.waiters)
    with pytest.raises(KeyboardInterrupt):
        gate.lay_down(slot)
    gate.waiters = deque(gate.waiters)
    first.join(10)
    assert got_first == [slot]
    gate.lay_down(slot)
    second.join(10)
    assert got_second == [slot]


def test_who_is_interrupted_after_laying_down_leaves_nobody_waiting_in_vain(
    gate: Gate,
) -> None:
    slot = open_one(gate)
    thread, got = queued(gate, timeout=1)
    gate.free.append(slot)  # and then, instead of serve(), an interruption
    thread.join(10)
    assert got == [slot]
    assert gate.counters.timeouts == 0


def test_upkeep_serves_who_waits_beside_a_free_slot(gate: Gate) -> None:
    slot = open_one(gate)
    thread, got = queued(gate)
    gate.free.append(slot)
    gate.serve()
    thread.join(10)
    assert got == [slot]


def test_a_slot_that_is_lost_reports_what_it_had(gate: Gate, lost: list[Any]) -> None:
    slot = open_one(gate)
    entry = slot.entry
    del slot
    assert lost == [(entry, False, False)]
    assert gate.size == 1  # until somebody takes it back


def test_the_right_to_open_is_reported_as_such(gate: Gate, lost: list[Any]) -> None:
    assert isinstance(gate.queue(0), Slot)
    assert lost == [(None, True, False)]


def test_a_slot_given_up_reports_nothing(gate: Gate, lost: list[Any]) -> None:
    slot = gate.queue(0)
    assert isinstance(slot, Slot)
    gate.lay_down(slot)
    assert (gate.size, gate.opening) == (0, 0)
    gate.remove(slot)  # a second time changes nothing
    assert gate.size == 0
    del slot
    assert lost == []


def test_who_leaves_at_the_last_moment_takes_what_came_at_the_last_moment(
    gate: Gate,
) -> None:
    """Either it has the slot, or nobody gave it one."""
    slot = open_one(gate)
    for _ in range(200):
        thread, got = queued(gate, timeout=0.001)
        gate.lay_down(slot)
        thread.join(10)
        if got[0] is Refused.TIMEOUT:
            taken = gate.queue(0)
            assert isinstance(taken, Slot)
            slot = taken
        else:
            slot = got[0]
    assert gate.size == 1
    assert not gate.waiters


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wide(lost: list[Any], clock: Clock) -> Gate:
    """A gate for four, on a clock that stands still."""
    return Gate(0, 4, None, lambda *args: lost.append(args), clock)


def test_a_slow_connect_does_not_hold_up_the_others(wide: Gate, clock: Clock) -> None:
    """Whoever is next tries beside it; the one after that, a longer while later."""
    first = wide.queue(0)
    threads = [queued(wide) for _ in range(3)]
    assert wide.opening == 1
    for opening, seconds in ((2, SLOW), (3, 2 * SLOW), (4, 4 * SLOW)):
        clock.pass_(seconds - 0.01)
        wide.serve()
        assert wide.opening == opening - 1
        clock.pass_(0.01)
        wide.serve()
        assert wide.opening == opening
    for thread, got in threads:
        thread.join(10)
        assert isinstance(got[0], Slot)
    assert isinstance(first, Slot)


def test_the_first_in_the_queue_wakes_itself(gate: Gate) -> None:
    """No upkeep, and nobody else, is needed for that."""
    gate.max_size = 2
    first = gate.queue(0)
    second, got = queued(gate)
    second.join(10)
    assert isinstance(got[0], Slot)
    assert got[0].opening
    assert isinstance(first, Slot)


def test_after_a_failure_the_next_waits_for_the_pause(wide: Gate, clock: Clock) -> None:
    slot = wide.queue(0)
    assert isinstance(slot, Slot)
    thread, got = queued(wide)
    wide.back_off(0.2)
    wide.remove(slot)
    assert wide.opening == 0
    clock.pass_(0.2)
    thread.join(10)
    assert isinstance(got[0], Slot)


def test_who_cannot_wait_does_not_wait_for_the_pause(wide: Gate) -> None:
    wide.back_off(0.2)
    assert isinstance(wide.queue(0), Slot)


def test_a_connect_that_works_ends_the_pause(wide: Gate) -> None:
    slot = open_one(wide)
    wide.back_off(1000)
    wide.remove(slot)
    hurried = wide.queue(0)
    assert isinstance(hurried, Slot)
    wide.opened(hurried, 0.0)
    assert isinstance(wide.queue(30), Slot)


def test_a_failure_is_told_to_all_who_wait_for_it(wide: Gate) -> None:
    slot = wide.queue(0)
    assert isinstance(slot, Slot)
    threads = [queued(wide) for _ in range(3)]
    failure = ConnectionRefusedError()
    wide.back_off(1000)
    wide.remove(slot)
    wide.share(failure)
    for thread, got in threads:
        thread.join(10)
        assert got == [failure]
    assert (wide.size, wide.counters.timeouts, len(wide.waiters)) == (0, 0, 0)


def test_while_connections_come_back_it_is_not(wide: Gate) -> None:
    lent = open_one(wide)
    slot = wide.queue(0)
    assert isinstance(slot, Slot)
    one, got_one = queued(wide)
    other, got_other = queued(wide)
    wide.back_off(1000)
    wide.remove(slot)
    wide.share(ConnectionRefusedError("the first"))
    assert len(wide.waiters) == 2
    wide.lay_down(lent)
    one.join(10)
    assert got_one == [lent]
    wide.share(ConnectionRefusedError("the second"))
    assert len(wide.waiters) == 1  # somebody was served meanwhile
    wide.share(ConnectionRefusedError("the third"))
    other.join(10)
    assert str(got_other[0]) == "the third"


def test_while_it_is_suspended_nobody_is_told(wide: Gate) -> None:
    wide.suspend()
    thread, got = queued(wide)
    wide.share(ConnectionRefusedError())
    assert len(wide.waiters) == 1
    wide.resume()
    thread.join(10)
    assert isinstance(got[0], Slot)


def test_who_was_first_is_first_again(wide: Gate) -> None:
    wide.suspend()
    waiter = Waiter(time.monotonic())
    later, got_later = queued(wide)
    earlier: list[Any] = []
    thread = in_thread(lambda: earlier.append(wide.queue(30, waiter)))
    wait_until(lambda: len(wide.waiters) == 2, "the other to queue")
    wide.resume()
    thread.join(10)
    assert isinstance(earlier[0], Slot)
    assert not got_later
    wide.opened(earlier[0], 0.0)
    later.join(10)
    assert isinstance(got_later[0], Slot)


def ramp(clock: Clock, takes: float) -> tuple[Gate, Slot]:
    """A gate whose first connection took so long to open, and is lent."""
    gate = Gate(0, 10, None, lambda *_: None, clock)
    slot = gate.queue(0)
    assert isinstance(slot, Slot)
    slot.entry = Entry(object(), 0.0, 1.0)
    gate.opened(slot, takes)
    return gate, slot


def test_where_connections_do_not_come_back_in_time_several_are_opened() -> None:
    """As many as there are callers that would wait for longer than a connect takes."""
    clock = Clock()
    gate, _lent = ramp(clock, 10.0)
    threads = [queued(gate)[0] for _ in range(5)]
    assert gate.opening == 1  # for the first of the five
    clock.pass_(4.0)  # ten seconds for the other four, of which nobody has come back
    gate.serve()
    assert (gate.opening, len(gate.waiters)) == (2, 3)
    clock.pass_(6.0)
    gate.serve()
    assert gate.opening > 2
    gate.close()
    for thread in threads:
        thread.join(10)


def test_where_connections_come_back_soon_no_others_are_opened() -> None:
    """What comes back serves all who wait before another connect could end."""
    clock = Clock()
    gate, lent = ramp(clock, 10.0)
    threads = [queued(gate) for _ in range(5)]
    for left in (3, 2, 1, 0):
        clock.pass_(0.1)
        gate.lay_down(lent)
        assert len(gate.waiters) == left
    assert (gate.opening, len(gate.waiters)) == (1, 0)
    for thread, _ in threads:
        thread.join(10)


def test_after_a_failure_they_are_opened_one_by_one() -> None:
    """A server that has just come back is spared, until nobody waits any more."""
    clock = Clock()
    gate, _lent = ramp(clock, 1.0)
    threads = [queued(gate)[0] for _ in range(5)]
    gate.back_off(0.5)
    clock.pass_(1.0)
    gate.serve()
    assert gate.opening == 1
    gate.close()
    for thread in threads:
        thread.join(10)


def test_who_is_served_leaves_without_a_look_through_the_queue(gate: Gate) -> None:
    class Unsearched(deque[Waiter]):
        def remove(self, value: Waiter) -> None:
            raise AssertionError("a thousand callers may be waiting")

    slot = open_one(gate)
    threads = [queued(gate) for _ in range(3)]
    gate.waiters = Unsearched(gate.waiters)
    for thread, got in threads:
        gate.lay_down(slot)
        thread.join(10)
        assert got == [slot]
