"""python-oracledb's session pool, in thin mode, as what opens the sessions.

Left alone, it opens them in a thread of its own, for as long as it takes and one
after the other; tries again at once after a failure, so that a wrong password
counts twice; opens the next session before it closes the last; and closes it under
the lock that every `acquire()` needs. Here it opens what a caller asked for, while
that caller waits, and it closes nothing.

A session stays acquired for as long as it lives. Giving it back after each lease
would cost a round trip: since Oracle Database 19c the server may want to know where
requests end, and the driver's pool then says ROLLBACK whenever it takes a session
back. djpool's own stack keeps the idle ones.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import oracledb

from djpool.adapters.oracledb_inside import (
    Deadline,
    Haste,
    find_socket,
    keep_from_children,
    thin_impl,
)
from djpool.core.errors import OptionsError
from djpool.core.options import PoolOptions
from djpool.core.slot import Slot
from djpool.core.workers import run_apart

# djpool's gate keeps the bounds, also while it replaces a session.
SETTINGS: dict[str, Any] = {
    "min": 0,
    "max": 1_000_000,
    "increment": 1,
    "getmode": oracledb.POOL_GETMODE_TIMEDWAIT,
    "timeout": 0,
    "max_lifetime_session": 0,
    "ping_interval": -1,
}
# Also with sessions out: they are closed by those who have them.
FORCE = True
# Seconds after which the pool's thread counts as busy.
SLOW = 0.25
# Seconds after a caller's deadline, in which the driver's own error can arrive.
GRACE = 0.2


# Whether the driver's pool is the one that this was written for.
KNOWN = hasattr(thin_impl.ThinPoolImpl, "_create_connection") and hasattr(
    thin_impl.ThinPoolImpl, "_close_connection"
)


class NobodyAsked(oracledb.OperationalError):
    """The driver's pool wants to open a session that no caller waits for."""


class _Inside(thin_impl.ThinPoolImpl):  # type: ignore[misc]
    """The pool's inside. Its methods here are generators of steps for the driver."""

    def __init__(self, dsn: str, params: Any) -> None:
        #: The deadline of a thread that acquires.
        self.asking = threading.local()
        # By the id of the parameters that a caller acquires with.
        self._asked: dict[int, Deadline] = {}
        self._haste = Haste(params)
        #: The insides of the sessions that somebody has.
        self.lent: set[Any] = set()
        super().__init__(dsn, params)

    def acquire(self, params: Any) -> Generator[Any, Any, Any]:
        """Runs in the thread that acquires."""
        deadline = self._asked[id(params)] = self.asking.deadline
        self.set_wait_timeout(int((deadline.seconds + GRACE) * 1000))
        try:
            return (yield from super().acquire(params))
        finally:
            del self._asked[id(params)]

    def _create_connection(self, inside: Any, params: Any) -> Iterator[Any]:
        """Runs in the pool's own thread."""
        deadline = self._asked.get(id(params))
        if deadline is None:
            raise NobodyAsked("djpool has sessions opened when wanted")
        self._haste.apply(deadline.seconds)
        with deadline.watching(inside):
            yield from super()._create_connection(inside, params)
            if deadline.given_up:
                yield from super()._close_connection(inside)
                raise NobodyAsked("nobody waits for it any more")

    def _bg_task_func(self) -> None:
        """The pool's own thread."""
        try:
            super()._bg_task_func()
        except ValueError:
            # When the process ends, the driver clears a list that this thread
            # takes its work from, and then does not find it there.
            if threading.main_thread().is_alive():
                raise

    def _close_connection(self, inside: Any) -> Iterator[Any]:
        """Runs in the pool's own thread, which must not wait for a server."""
        # A session that somebody has is closed by them. This one may be nobody's,
        # since a caller was interrupted just when it was ready.
        if inside not in self.lent and (handle := find_socket(inside)) is not None:
            handle.close()
        yield from ()


# As thin mode sees it, private parts included.
_ConnectionPool: Any = oracledb.ConnectionPool


class SessionPool(_ConnectionPool):  # type: ignore[misc]
    """An `oracledb.ConnectionPool` with another inside."""

    def __init__(self, dsn: str, params: Any) -> None:
        # What its own does, but for the inside.
        inside = params._impl.copy()  # noqa: SLF001
        dsn = inside.process_args(dsn, {}, True)
        self._set_connection_type(inside.connectiontype)
        self._cache_name = None
        self._operation_callback = inside.operation_callback
        self._round_trip_callback = inside.round_trip_callback
        self.session_callback = inside.session_callback
        self.on_connect_callback = inside.on_connect_callback
        self._params = inside  # the pool's inside goes by them from now on
        self.inside = self._impl = _Inside(dsn, inside)
        keep_from_children(self)

    def log_on_as(self, **settings: Any) -> None:
        """Use these settings for the sessions that are opened from now on."""
        self._params.set(settings)

    def open_session(self, deadline: Deadline) -> Any:
        """`acquire()` with a deadline, for good."""
        self.inside.asking.deadline = deadline
        try:
            connection: Any = self.acquire()
        finally:
            del self.inside.asking.deadline
        try:
            inside = connection.djpool_inside = connection._impl  # noqa: SLF001
            connection.djpool_native = self
            # Whoever closes it closes it: it does not go back into the pool.
            connection._pool = None  # noqa: SLF001
            self.inside.lent.add(inside)
            deadline.undo = functools.partial(self.drop_session, connection)
            deadline.watch(inside)
        except BaseException:
            connection.close()
            raise
        return connection

    def drop_session(self, connection: Any) -> None:
        """Strike a session off the books; it was closed already."""
        with contextlib.suppress(ValueError):  # after close(), there are none
            self.inside.drop(connection.djpool_inside)
        self.inside.lent.discard(connection.djpool_inside)


class OracleNativePool:
    """Opens sessions with an `oracledb.ConnectionPool`, which keeps count of them."""

    capacity: int | None = None

    def __init__(self, options: PoolOptions) -> None:
        if twice := sorted(SETTINGS.keys() & options.native.keys()):
            raise OptionsError(
                f"native: {', '.join(twice)} cannot be passed on to oracledb's pool: "
                "djpool sets it"
            )
        self._settings = SETTINGS | dict(options.native)
        try:
            oracledb.PoolParams(**self._settings)
        except (TypeError, ValueError, oracledb.Error) as error:
            raise OptionsError(f"native: oracledb refuses it: {error}") from error
        #: None until the first session is wanted: it has a thread.
        self.native: Any = None
        # Where `native` leads, and as whom it logs on.
        self._dsn = ""
        self._login: dict[str, Any] = {}
        self._lock = threading.Lock()  # guards all these, and making a pool
        # Held while a caller has the pool's one thread connect. It tells whether this
        # thread has it.
        self._connects: Any = threading.RLock()
        #: How a session is opened without the pool.
        self.beside: Callable[..., Any] = oracledb.connect

    def open_session(self, deadline: Deadline, dsn: str, **settings: Any) -> Any:
        """`oracledb.connect()` with a deadline, by way of the pool.

        Without it where the pool's thread is busy with a connect that is slow,
        perhaps for ever, or where there can be no thread: such a session is djpool's
        like any other.
        """
        connects = self._connects
        if connects._is_owned():  # noqa: SLF001 (threading.Condition asks, too)
            # A signal's handler has interrupted such a connect of this thread.
            return self.beside(deadline, dsn, **settings)
        try:
            if connects.acquire(timeout=min(SLOW, deadline.seconds)):
                return self._open_in_pool(deadline, dsn, settings)
        except RuntimeError:  # no thread can be started, and such a pool has one
            pass
        finally:
            # Also if an exception has struck just when the lock was taken.
            if connects._is_owned():  # noqa: SLF001
                connects.release()
        return self.beside(deadline, dsn, **settings)

    def _open_in_pool(
        self, deadline: Deadline, dsn: str, settings: dict[str, Any]
    ) -> Any:
        login = {name: settings.get(name) for name in ("user", "password")}
        left = None
        with self._lock:
            if self.native is None or dsn != self._dsn:
                left, self.native = self.native, self._make(dsn, settings)
            elif login != self._login:
                self.native.log_on_as(**login)
            self._dsn, self._login = dsn, login
            native = self.native
        if left is not None:
            _close(left)
        return native.open_session(deadline)

    def _make(self, dsn: str, settings: dict[str, Any]) -> SessionPool:
        settings = dict(settings)
        if "conn_class" in settings:
            settings["connectiontype"] = settings.pop("conn_class")
        params = oracledb.PoolParams(**settings | self._settings)
        # The pool's thread is what the thread is that makes it: one that does not
        # keep the process from ending.
        return _in_daemon(lambda: SessionPool(dsn, params))

    def join(self, slot: Slot) -> None:
        """Nothing to enter: the session comes from there."""

    def take(self, slot: Slot) -> None:
        """Nothing to take: the slot has kept its session."""

    def give(self, slot: Slot) -> None:
        """Nothing to give: see the module."""

    def drop(self, connection: Any) -> None:
        if (native := getattr(connection, "djpool_native", None)) is not None:
            native.drop_session(connection)

    def close(self) -> None:
        if self.native is not None:
            _close(self.native)


def _close(native: SessionPool) -> None:
    # Waits for a connect that is under way, which has its deadline.
    run_apart(functools.partial(native.inside.close, FORCE), 0.1)


def _in_daemon(make: Callable[[], SessionPool]) -> SessionPool:
    made: Future[SessionPool] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 (raised below)
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made.result()
