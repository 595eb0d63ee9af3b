"""What is known of a process is right, or said to be unknown."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from djpool.monitor import process
from tests.servers.process import wait_until

if TYPE_CHECKING:
    import pytest


def test_a_process_is_alive_until_it_was_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process.is_alive(os.getpid())
    assert process.is_alive(1)
    assert not process.is_alive(child.pid)
    assert not process.is_alive(10**30)


def test_a_stopped_process_is_seen_as_one() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert not process.is_stopped(child.pid)
        child.send_signal(19)
        wait_until(lambda: process.is_stopped(child.pid), "a process to stop")
        child.kill()


def test_the_birth_of_a_process_does_not_change() -> None:
    birth = process.born(os.getpid())
    time.sleep(0.05)
    assert birth is not None
    assert process.born(os.getpid()) == birth
    age = process.age(birth)
    assert age is not None
    assert age > 0


def test_where_nothing_is_known_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.born(2**30) is None
    assert not process.is_stopped(2**30)
    assert process.age(None) is None
    assert process.user_name(2**31 - 7) == str(2**31 - 7)
    monkeypatch.delattr(os, "geteuid")
    assert process.uid() == -1


def test_a_command_line_is_short_and_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "a b", "\x1b[2J", "x" * 1000])
    line = process.command_line()
    assert line.startswith("python 'a b' '?[2J' xxx")
    assert line.endswith("x…")
    assert len(line) == 200
