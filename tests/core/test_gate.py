"""The gate at the points where an interruption could hurt, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from djpool.core.gate import Gate, Refused, Waiter
from djpool.core.slot import Entry, Slot
from tests.core.fakes import in_thread
from tests.servers.process import wait_until


@pytest.fixture
def lost() -> list[Any]:
    """What finalisers reported."""
    return []


@pytest.fixture
def gate(lost: list[Any]) -> Gate:
    return Gate(0, 1, None, lambda *args: lost.append(args))


def open_one(gate: Gate) -> Slot:
    """A slot whose connection was opened."""
    slot = gate.queue(0)
    assert isinstance(slot, Slot)
    slot.entry = Entry(object(), 0.0, 1.0)
    gate.opened(slot, 0.0)
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
    assert lost == [(entry, False)]
    assert gate.size == 1  # until somebody takes it back


def test_the_right_to_open_is_reported_as_such(gate: Gate, lost: list[Any]) -> None:
    assert isinstance(gate.queue(0), Slot)
    assert lost == [(None, True)]


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
