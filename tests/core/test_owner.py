"""Who leases."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from djpool.core import owner
from tests.core.fakes import in_thread
from tests.servers.process import wait_until


def test_an_owner_asked_for_while_it_is_made_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the garbage collector closes a cursor at that very moment."""
    seen: list[owner.Owner] = []

    class Asking(owner.Owner):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            if not seen:
                seen.append(self)
                seen.append(owner.current_owner())

    monkeypatch.setattr(owner, "Owner", Asking)
    in_thread(lambda: seen.append(owner.current_owner())).join(30)
    _first, asked_for_meanwhile, asked_for_then = seen
    assert asked_for_meanwhile is asked_for_then
    assert asked_for_then.ended  # with its thread, and not before


def test_a_thread_is_idle_once_its_job_is_done() -> None:
    """Also while it tells, when those who await the job may go on already."""
    goes_on = queue.SimpleQueue[None]()

    def wait(_future: object) -> None:
        goes_on.get()

    with ThreadPoolExecutor(1) as executor:
        here = executor.submit(owner.current_owner).result()
        wait_until(here.is_idle, "the thread to wait for its next job")
        done = threading.Event()
        working = executor.submit(done.wait)
        wait_until(lambda: not here.is_idle(), "the thread to work")
        done.set()
        working.result()
        # The one is called by the executor, and the other is what somebody runs there.
        tells: dict[bool, Any] = {True: goes_on.get, False: wait}
        for idle, told in tells.items():
            job = executor.submit(goes_on.get)
            job.add_done_callback(told)
            goes_on.put(None)
            job.result()
            wait_until(partial(is_idle, here, idle), "the thread to tell")
            goes_on.put(None)


def is_idle(who: owner.Owner, idle: bool) -> bool:
    """Whether it is, or is not."""
    return who.is_idle() is idle


LOOKS = """
    import gc, threading, time
    from djpool.core.owner import current_owner

    class Finalised:
        def __init__(self):
            self.itself = self

        def __del__(self):
            time.sleep(0.0001)  # without the GIL

    gc.set_threshold(50, 1, 1)
    here, ends = current_owner(), time.monotonic() + 1.0

    def look():
        while time.monotonic() < ends:
            Finalised()
            for _ in range(10):
                here.is_idle()

    def start():
        while time.monotonic() < ends:
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    for work in (look, look, start, start):
        threading.Thread(target=work).start()
"""


def test_to_ask_what_threads_do_brings_none_to_a_stand() -> None:
    """While others start, and finalisers of what is collected let go of the GIL."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOOKS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=60,
    )
    assert run.returncode == 0


def test_a_look_at_a_thread_of_the_caller_s_number_keeps_nothing() -> None:
    """The system gives the number of a thread that has ended to another one.

    A look at the caller's own frames would be a cycle, in which a slot would lie until
    the garbage is collected.
    """

    class Slot:
        pass

    def look() -> weakref.ref[Slot]:
        slot = Slot()
        assert not owner.Owner().is_idle()
        return weakref.ref(slot)

    gc.collect()
    gc.disable()
    try:
        assert look()() is None
    finally:
        gc.enable()
