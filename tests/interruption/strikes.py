"""Exceptions that strike from outside: by a signal, at a call, from another thread."""

from __future__ import annotations

import collections
import ctypes
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Strike = type[BaseException]


class TimeLimit(Exception):
    """A time limit is over: Celery's SoftTimeLimitExceeded is such an exception."""


class Stop(KeyboardInterrupt):
    """^C, as a class of the tests' own."""


STRIKES: tuple[Strike, ...] = (TimeLimit, Stop)
# Seconds. A driver that waits longer after an interruption waits for ever.
HANGS = 0.5


def place_of(frame: FrameType | None) -> str:
    """Return where a thread is: the innermost function, and seven that called it."""
    found: list[str] = []
    while frame is not None and len(found) < 8:
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        found.append(f"{name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


class Alarm:
    """SIGALRM with a handler that raises. One at a time, in the main thread."""

    def __init__(self) -> None:
        self._armed = False
        self._strike: Strike = TimeLimit
        #: How often the handler has raised since the last `attempt()` began.
        self.rang = 0
        #: The place where it has raised last.
        self.where = ""
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self.rang += 1
            self.where = place_of(frame)
            # After one exception, a driver may wait for ever for an answer that it
            # has read already.
            signal.setitimer(signal.ITIMER_REAL, HANGS)
            raise self._strike("the time is up")

    def attempt(
        self, call: Callable[[], object], moment: float, strike: Strike
    ) -> BaseException | None:
        """Call, and raise `strike` after `moment` seconds; return what the call raised.

        While the call goes on, there is another alarm each `HANGS` seconds.
        """
        self.rang = 0
        self._strike = strike
        try:
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, max(moment, 1e-6))
                call()
            finally:
                self._disarm()
        except BaseException as error:  # noqa: BLE001 (the caller judges it)
            # The alarm may have struck before the first `_disarm()` did anything.
            self._disarm()
            return error
        return None

    def _disarm(self) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


# The functions through which drivers in Python and in Cython read and write.
DOORS = ("send", "sendall", "recv", "recv_into")


class Calls:
    """Raises at the n-th call of a driver's function, or return from one.

    It counts the driver's functions in Python, the methods in C of the driver's
    objects, and the functions of sockets, from wherever they are called.
    """

    def __init__(self, packages: tuple[str, ...]) -> None:
        """`packages` are the driver's. The process has imported them already."""
        self._packages = tuple(f"{package}." for package in packages)
        modules = [sys.modules[name] for name in packages if name in sys.modules]
        files = [module.__file__ for module in modules if module.__file__]
        self._folders = (
            *(str(Path(file).parent) for file in files),
            *(file for name in ("socket", "ssl") if (file := _file_of(name))),
        )
        self._known: dict[CodeType | type, bool] = {}
        self._left = 0
        self._strike: Strike = TimeLimit
        #: How many calls and returns the last `attempt()` had.
        self.seen = 0
        #: The place where the last `attempt()` raised; empty if it did not.
        self.struck = ""
        for name in DOORS:
            _open_door(name, self._known)

    def attempt(
        self, call: Callable[[], object], at: int, strike: Strike
    ) -> BaseException | None:
        """Call, and raise `strike` at place `at`; return what the call raised."""
        self.seen, self.struck = 0, ""
        self._left, self._strike = at, strike
        try:
            sys.setprofile(self._note)
            try:
                call()
            finally:
                sys.setprofile(None)
        except BaseException as error:  # noqa: BLE001 (the caller judges it)
            sys.setprofile(None)
            return error
        return None

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in {"call", "return"}:
            code = frame.f_code
            if (known := self._known.get(code)) is None:
                known = code.co_filename.startswith(self._folders)
                self._known[code] = known
            # Since Python 3.11 it is there, with the class in it.
            name = getattr(code, "co_qualname", code.co_name) if known else ""
        else:
            kind = type(getattr(arg, "__self__", None))
            if (known := self._known.get(kind)) is None:
                known = f"{kind.__module__}.".startswith(self._packages)
                self._known[kind] = known
            name = f"{kind.__name__}.{arg.__name__}" if known else ""
        if not known:
            return
        self.seen += 1
        if self.seen == self._left:
            self.struck = f"{event} {name}"
            sys.setprofile(None)
            raise self._strike(f"{self.seen}: {self.struck}")


def _file_of(name: str) -> str | None:
    module = sys.modules.get(name)
    return None if module is None else module.__file__


def _open_door(name: str, known: dict[CodeType | type, bool]) -> None:
    """Put a function in Python before one in C, so that calls from Cython are seen."""
    original = getattr(socket.socket, name)

    def door(self: socket.socket, *args: Any) -> Any:
        return original(self, *args)

    known[door.__code__] = True
    setattr(socket.socket, name, door)


class Sender(threading.Thread):
    """Sets an exception in the thread that made it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._target = ctypes.c_ulong(threading.get_ident())
        self._orders: collections.deque[tuple[float, Strike] | None] = (
            collections.deque()
        )
        self._ordered = threading.Semaphore(0)
        # This thread holds it while it decides and sets the exception.
        self._lock = threading.Lock()
        self._wanted = False
        #: Whether it has set an exception since the last `attempt()` began.
        self.sent = False
        self.start()

    def run(self) -> None:
        """Carry out what `attempt()` orders, until `stop()`."""
        while True:
            self._ordered.acquire()
            order = self._orders.popleft()
            if order is None:
                return
            due, strike = order
            # Longer sleeps are longer than most statements.
            while time.perf_counter() < due and self._wanted:
                time.sleep(0)
            with self._lock:
                if self._wanted:
                    self._wanted, self.sent = False, True
                    self._set(ctypes.py_object(strike))

    def attempt(
        self, call: Callable[[], object], moment: float, strike: Strike
    ) -> BaseException | None:
        """Call, and set `strike` after `moment` seconds; return what it raised."""
        self.sent, self._wanted = False, True
        self._orders.append((time.perf_counter() + moment, strike))
        try:
            self._ordered.release()
            call()
        except BaseException as error:  # noqa: BLE001 (the caller judges it)
            self._end()
            return error
        return self._end()

    def _end(self) -> BaseException | None:
        """Let no exception strike from now on; return one that struck here."""
        found = None
        for _ in range(2):  # the first may be struck itself
            try:
                with self._lock:
                    self._wanted = False
                self._set(None)
            except STRIKES as error:
                found = error
        return found

    def _set(self, strike: Any) -> None:
        """Set an exception; None takes back one that has not struck yet."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._target, strike)

    def stop(self) -> None:
        """End the thread."""
        self._orders.append(None)
        self._ordered.release()
        self.join()
