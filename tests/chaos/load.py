"""Callers that write, and keep in mind what they were told became of it."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, connections, transaction

from tests.chaos.servers import Server

EXPECTED = (OperationalError, InterfaceError)


class Wanted(Exception):
    """A caller's own reason to roll back."""


@dataclass
class Ledger:
    """What callers know, by the token that they wrote with. Thread-safe."""

    # How many rows each writes in one transaction.
    rows: dict[int, int] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    # For sure: whoever was interrupted while committing knows nothing.
    rolled_back: set[int] = field(default_factory=set)
    # What must not be, in words.
    wrong: list[str] = field(default_factory=list)
    failed: int = 0
    # Seconds: the longest that a caller waited for a connection.
    longest: float = 0.0
    _tokens: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def begin(self, rows: int) -> int:
        """Give a new token."""
        token = next(self._tokens)
        self.rows[token] = rows
        return token


class Load:
    """Threads that work until they are told to stop."""

    def __init__(
        self, alias: str, server: Server, ledger: Ledger, seed: int, threads: int
    ) -> None:
        self._alias = alias
        self._server = server
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._work,
                args=[random.Random(f"{seed} {number}")],
                name=f"caller-{number}",
            )
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """Let each end what it does. Whoever does not in so many seconds is wrong."""
        self._over.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        frames = sys._current_frames()
        self._ledger.wrong += [
            "hangs: " + "".join(traceback.format_stack(frames[thread.ident]))
            for thread in self._threads
            if thread.ident in frames and thread.is_alive()
        ]

    def _work(self, draw: random.Random) -> None:
        acts: list[Callable[[random.Random], None]] = [
            self._insert,
            self._commit,
            self._roll_back,
            self._forget,
            self._change,
        ]
        while not self._over.is_set() and not self._ledger.wrong:
            try:
                self._connect()
                draw.choice(acts)(draw)
            except EXPECTED:
                self._ledger.failed += 1
            except BaseException:  # noqa: BLE001 (whatever it is, it should not be)
                self._ledger.wrong.append(traceback.format_exc())
            try:
                connections[self._alias].close()
            except BaseException:  # noqa: BLE001
                self._ledger.wrong.append("close() raised: " + traceback.format_exc())
            time.sleep(draw.uniform(0.0, 0.01))

    def _connect(self) -> None:
        began = time.monotonic()
        try:
            connections[self._alias].ensure_connection()
        finally:
            waited = time.monotonic() - began
            self._ledger.longest = max(self._ledger.longest, waited)
        with connections[self._alias].cursor() as cursor:
            cursor.execute(self._server.state)
            in_transaction, changed = cursor.fetchone()
            if in_transaction:
                self._ledger.wrong.append("a connection came in a transaction")
            if changed:
                self._ledger.wrong.append("a session came as another one left it")

    def _write(self, token: int, part: int) -> None:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                "INSERT INTO chaos (token, part) VALUES (%s, %s)", [token, part]
            )

    def _insert(self, draw: random.Random) -> None:
        token = self._ledger.begin(1)
        self._write(token, 0)
        self._ledger.committed.add(token)

    def _commit(self, draw: random.Random) -> None:
        rows = draw.randint(2, 4)
        token = self._ledger.begin(rows)
        committing = False
        try:
            with transaction.atomic(self._alias):
                for part in range(rows):
                    self._write(token, part)
                    if draw.random() < 0.2:
                        time.sleep(draw.uniform(0.0, 0.02))
                self._look(token, rows)
                committing = True
        except EXPECTED:
            if not committing:
                self._ledger.rolled_back.add(token)
            raise
        self._ledger.committed.add(token)

    def _roll_back(self, draw: random.Random) -> None:
        token = self._ledger.begin(2)
        self._ledger.rolled_back.add(token)
        try:
            with transaction.atomic(self._alias):
                self._write(token, 0)
                self._write(token, 1)
                self._look(token, 2)
                raise Wanted
        except Wanted:
            pass

    def _forget(self, draw: random.Random) -> None:
        """Leave a transaction open, and autocommit off: the pool ends both."""
        token = self._ledger.begin(1)
        self._ledger.rolled_back.add(token)
        connections[self._alias].set_autocommit(False)
        self._write(token, 0)

    def _change(self, draw: random.Random) -> None:
        """Leave a setting behind, which is there until the end: the pool resets it."""
        with connections[self._alias].cursor() as cursor:
            cursor.execute(self._server.change)
        self._insert(draw)
        with connections[self._alias].cursor() as cursor:
            cursor.execute(self._server.state)
            if not cursor.fetchone()[1]:
                self._ledger.wrong.append("a setting is gone amid its lease")

    def _look(self, token: int, rows: int) -> None:
        """Whether this transaction has what was written in it."""
        with connections[self._alias].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM chaos WHERE token = %s", [token])
            (seen,) = cursor.fetchone()
        if seen != rows:
            self._ledger.wrong.append(f"{seen} of {rows} rows are in a transaction")
