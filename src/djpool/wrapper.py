"""The mixin: leases where Django connects, gives back where it closes."""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import InterfaceError, connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.utils import DatabaseErrorWrapper
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property

from djpool import config, cursors, requests
from djpool.checks import pooled_validation
from djpool.core.session import Change
from djpool.creation import pooled_creation
from djpool.signals import lease_acquired, lease_released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType, TracebackType

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from djpool.core.adapter import Adapter
    from djpool.core.lease import Lease
    from djpool.core.pool import Pool
    from djpool.credentials import Given

    _Base = BaseDatabaseWrapper
else:
    _Base = object


# Modules that look at a wrapper's `connection`, and change no session unseen.
_INSIDERS = ("django.db.", "djpool.")


class NoticedErrors(DatabaseErrorWrapper):
    """Django's translator of errors, which has the pool look at each of them."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_value is None:
            return
        lease: Lease | None = self.wrapper.djpool_lease  # type: ignore[attr-defined]
        if lease is not None:
            lease.notice(exc_value)
        super().__exit__(exc_type, exc_value, traceback)


class PooledWrapper(_Base):
    """Mixed into a backend's `DatabaseWrapper`, before it.

    With `OPTIONS["pool"]` off, every method is the backend's own. With it on,
    `connect()` leases a connection instead of opening one, and `_close()` gives
    it back. What Django does to a new connection, and the signal that it sends,
    happen once for each physical connection: see `djpool.opener`.
    """

    #: The driver under djpool.
    djpool_adapter: ClassVar[Adapter]
    #: Attributes that the backend sets on itself while connecting, and that are
    #: as true for every other connection of the pool.
    djpool_carried: ClassVar[tuple[str, ...]] = ()
    #: Settings of the project that the backend goes by while connecting.
    djpool_settings: ClassVar[tuple[str, ...]] = ("USE_TZ", "TIME_ZONE")

    #: Django's own pools look here, on PostgreSQL and Oracle: there is none.
    pool = None

    #: The lease that `connection` is of, if it is of one.
    djpool_lease: Lease | None = None
    #: Made on this lease, not closed, and still referred to by somebody.
    djpool_cursors: cursors.OpenCursors
    #: The driver's own, to be closed with the lease.
    djpool_abandoned: list[Any]
    #: The request in whose context it leased last.
    djpool_request: requests.Request | None = None
    #: How many blocks of `djpool.hold()` are under way.
    djpool_holds = 0
    #: What a statement may change in its session, in `session.Change`'s numbers; None
    #: if that does not matter.
    djpool_changes: Callable[[Any], int] | None = None
    #: What was run while opening a connection and may have changed its session.
    djpool_setup: list[str]
    #: Whether the lease ends with each transaction, and not with the request.
    djpool_early = False
    #: The names of modules known to be insiders: see `djpool_is_insider()`.
    djpool_insiders: ClassVar[set[str]]
    # Held by the owner while it uses the connection, but for cursors: these are
    # in the set. Whoever else wants the lease must get it first, without waiting.
    _djpool_using: threading.RLock
    # How many calls are under way that need the connection to stay what it is.
    _djpool_depth = 0
    # What stands in `connection`, and whether this lease may have changed its session.
    _djpool_raw: Any = None
    _djpool_touched = False
    # The pool of the last lease that ended early; others are looked up.
    _djpool_again: Pool | None = None
    # The seconds that a connect under way may take; None when djpool has none.
    _djpool_connect_timeout: float | None = None
    # What `credentials` adds to the driver's parameters, while connecting.
    _djpool_params: Mapping[str, Any] = {}
    # The session was changed in a way that the next lease must not see.
    _djpool_spoilt = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if getattr(cls, "creation_class", None) is not None:
            cls.creation_class = pooled_creation(cls.creation_class)
            cls.validation_class = pooled_validation(cls.validation_class)
        cls.djpool_insiders = {base.__module__ for base in cls.__mro__}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._djpool_using = threading.RLock()
        self.djpool_cursors = cursors.OpenCursors()

    # -- who looks at the driver's connection ---------------------------------

    @property
    def connection(self) -> Any:
        """The driver's connection, as ever; None while there is no lease.

        Whoever takes it from here, Django's own backends excepted, may do with it
        what nobody sees. So the lease stays until the request ends, and then the
        session is restored.
        """
        raw = self._djpool_raw
        if (
            raw is not None
            and self.djpool_lease is not None
            and not self.djpool_is_insider(sys._getframe(1))  # noqa: SLF001 (the documented way)
        ):
            self.djpool_changed(Change.UNKNOWN, "connection")
        return raw

    @connection.setter
    def connection(self, raw: Any) -> None:
        self._djpool_raw = raw

    def djpool_is_insider(self, frame: FrameType) -> bool:
        """Whether the code of a frame is a part of this backend, or of Django's."""
        name = frame.f_globals.get("__name__", "")
        if name in self.djpool_insiders:
            return True
        if not name.startswith(_INSIDERS):
            return False
        self.djpool_insiders.add(name)
        return True

    def djpool_changed(self, change: int, *said: Any) -> None:
        """The session may be about to change: its lease will see to it, if any."""
        if self.djpool_lease is not None:
            self._djpool_touched = True
            self.djpool_lease.changed(change)
        elif self._djpool_connect_timeout is not None:
            self.djpool_setup.append(" ".join(map(str, said)))

    def djpool_poolable(self) -> bool:
        """Whether this connection may come from a pool, whatever the settings say."""
        return self.alias != NO_DB_ALIAS and not self.djpool_opens

    @property
    def djpool_opens(self) -> bool:
        """Whether it opens a connection for the pool, at this moment."""
        return self._djpool_connect_timeout is not None

    def djpool_open(
        self, timeout: float, changes: Callable[[Any], int] | None = None
    ) -> Any:
        """Open a physical connection, the backend's own way, and let go of it.

        Args:
            timeout: Seconds after which the driver should give up.
            changes: What a statement may change; such go to `djpool_setup`.
        """
        self._djpool_connect_timeout = timeout
        self.djpool_changes = changes
        self.djpool_setup = []
        try:
            with self._djpool_in_place():
                super().connect()
            connection = self.connection
            if connection is None:
                raise InterfaceError(
                    f"a receiver of connection_created closed {self.alias!r}"
                )
        except BaseException:
            if (connection := self.connection) is not None:
                self.connection = None
                connection.close()
            raise
        self.connection = None
        return connection

    @contextmanager
    def _djpool_in_place(self) -> Iterator[None]:
        """Be `connections[alias]` in this thread for as long as the block runs.

        Receivers of connection_created may query (that of django.contrib.postgres
        does), and by that name: whoever has it otherwise is waiting for this one.
        """
        if self.alias not in connections:
            yield
            return
        other = connections[self.alias]
        connections[self.alias] = self
        try:
            yield
        finally:
            connections[self.alias] = other

    @contextmanager
    def djpool_with(self, given: Given, place: str) -> Iterator[None]:
        """Connect with what `credentials` gave for as long as the block runs."""
        described = self.settings_dict
        self.settings_dict = given.described(described, place)
        self._djpool_params = given.params
        try:
            yield
        finally:
            self.settings_dict = described
            self._djpool_params = {}

    def djpool_facts(self) -> dict[str, Any]:
        """What connecting wrote on this object, and the pool's others need, too."""
        attributes = vars(self)
        return {
            name: attributes[name] for name in self.djpool_carried if name in attributes
        }

    # -- in ----------------------------------------------------------------

    def get_connection_params(self) -> dict[str, Any]:
        # Some backends would pass it to the driver, psycopg2's refuses it.
        described = self.settings_dict
        options = {k: v for k, v in described["OPTIONS"].items() if k != "pool"}
        self.settings_dict = {**described, "OPTIONS": options}
        try:
            params: dict[str, Any] = super().get_connection_params()
        finally:
            self.settings_dict = described
        params |= self._djpool_params
        if self._djpool_connect_timeout is not None:
            limit = self.djpool_adapter.limit
            return dict(limit(params, self._djpool_connect_timeout))
        return params

    @async_unsafe
    def connect(self) -> None:
        pool = self._djpool_again
        if pool is None or pool.closed:
            pool = config.pool_of(self)
            if pool is None:
                with config.credentials_beside_the_pool(self):
                    super().connect()
                return
            self.check_settings()
        with self._djpool_using:
            lease = pool.acquire()
            self._djpool_depth += 1
            try:
                self._djpool_begin(lease)
                if lease_acquired.receivers:
                    lease_acquired.send(sender=type(self), connection=self)
                request = requests.current()
                if request is not None:
                    if pool.traces:
                        lease.tell(f"request {request.path!r}")
                    request.leased(self, lease)
            except BaseException:
                self.connection = self.djpool_lease = None
                lease.release()
                raise
            finally:
                self._djpool_depth -= 1

    def _djpool_begin(self, lease: Lease) -> None:
        """Put this object into the state that `connect()` leaves it in."""
        pool = lease.pool
        lease.holder = weakref.ref(self)
        self.djpool_lease = lease
        if self.djpool_cursors:  # of the lease before
            self.djpool_cursors = cursors.OpenCursors()
        self.djpool_abandoned = []
        self._djpool_spoilt = self._djpool_touched = False
        self._djpool_raw = lease.connection
        self.errors_occurred = False
        if self._djpool_again is pool:
            return  # the last one ended amid nothing, so the rest is as it was
        self.djpool_changes = pool.changes
        self.djpool_early = pool.releases_early
        self.autocommit = self.settings_dict["AUTOCOMMIT"]
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.closed_in_transaction = False
        self.run_on_commit = []
        # The pool checks, and limits a connection's life.
        self.health_check_enabled = False
        self.health_check_done = True
        self.close_at = None
        vars(self).update(pool.facts)

    def _prepare_cursor(self, cursor: Any) -> CursorWrapper:
        prepared: CursorWrapper = super()._prepare_cursor(cursor)  # type: ignore[misc]
        if self.djpool_lease is not None or self._djpool_connect_timeout is not None:
            cursors.track(prepared, self.djpool_cursors)
        return prepared

    # -- in use ------------------------------------------------------------

    def _cursor(self, name: str | None = None) -> CursorWrapper:
        with self._djpool_using:
            self._djpool_depth += 1
            try:
                return super()._cursor(name)  # type: ignore[misc,no-any-return]
            finally:
                self._djpool_depth -= 1

    def commit(self) -> None:
        self._djpool_step(super().commit)

    def rollback(self) -> None:
        self._djpool_step(super().rollback)

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        self._djpool_step(super().set_autocommit, *args, **kwargs)

    def _djpool_step(
        self, step: Callable[..., None], *args: Any, **kwargs: Any
    ) -> None:
        """Begin or end a transaction, after which the lease may end."""
        try:
            with self._djpool_using:
                self._djpool_depth += 1
                try:
                    step(*args, **kwargs)
                finally:
                    self._djpool_depth -= 1
        finally:
            if self.djpool_early:
                self.djpool_rest()

    def run_and_clear_commit_hooks(self) -> None:
        # The transaction is over, and what a hook does may take long.
        depth, self._djpool_depth = self._djpool_depth, 0
        try:
            if self.djpool_early:
                self.djpool_rest()
            super().run_and_clear_commit_hooks()
        finally:
            self._djpool_depth = depth

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        return NoticedErrors(self)

    def _djpool_in_use(self) -> bool:
        """Whether the owner needs the connection, even if it does nothing just now."""
        return (
            self.djpool_holds > 0
            or bool(self.djpool_cursors)
            or self.in_atomic_block
            or self.autocommit != self.settings_dict["AUTOCOMMIT"]
        )

    def _djpool_pinned(self, lease: Lease) -> bool:
        """Whether the owner's next statement needs this very session."""
        return (
            self._djpool_touched
            or self._djpool_in_use()
            or lease.pool.in_transaction(self._djpool_raw)
        )

    # -- out ---------------------------------------------------------------

    def close(self) -> None:
        self._djpool_again = None
        super().close()

    def _close(self) -> None:
        with self._djpool_using:
            lease = self.djpool_lease
            if lease is None:
                super()._close()  # type: ignore[misc]  # the stubs leave it out
                return
            self._djpool_leave(lease)
        lease.release()

    def djpool_rest(self) -> None:
        """A statement or a transaction has ended: give back what is not pinned."""
        if self._djpool_depth:
            return
        with self._djpool_using:
            lease = self.djpool_lease
            if lease is None or self._djpool_pinned(lease):
                return
            self._djpool_leave(lease)
            self._djpool_again = lease.pool
        lease.release()

    def _djpool_leave(self, lease: Lease) -> None:
        """Do what comes before giving the lease back, and forget it."""
        if lease_released.receivers:
            self._djpool_depth += 1
            try:
                lease_released.send_robust(sender=type(self), connection=self)
            finally:
                self._djpool_depth -= 1
        if self.djpool_cursors or self.djpool_abandoned:
            cursors.end(self.djpool_cursors, self.djpool_abandoned)
        if self._djpool_spoilt:
            lease.spoil()
        if self.errors_occurred:
            lease.suspect()
        # Also inside atomic(), where Django would leave it: from here on the
        # connection is another's.
        self.connection = self.djpool_lease = None

    def djpool_let_go(self, lease: Lease, *, dead: bool, over: bool) -> bool:
        mine = self._thread_ident == lease.owner.ident  # type: ignore[attr-defined]
        if dead and (self.allow_thread_sharing or not mine):
            # Another thread may well be using it: one that it is shared with, or the
            # one whose it is, and which had shared it with the dead.
            return False
        if not self._djpool_using.acquire(blocking=False):
            return False
        try:
            if self.djpool_lease is not lease:
                return False  # it is just being given back
            used = self._djpool_in_use() if over else self._djpool_pinned(lease)
            if used and not dead:
                return False
            # Not for a thread that is no more, but for receivers of our signal.
            self.inc_thread_sharing()
            try:
                self._djpool_leave(lease)
            finally:
                self.dec_thread_sharing()
        finally:
            self._djpool_using.release()
        return True

    def djpool_forked(self, lease: Lease) -> list[Any]:
        if self.djpool_lease is not lease:
            return []
        self.connection = self.djpool_lease = None
        return [*cursors.cut_off(self.djpool_cursors), *self.djpool_abandoned]

    def close_if_unusable_or_obsolete(self) -> None:
        self._djpool_again = None
        if self.djpool_lease is None:
            super().close_if_unusable_or_obsolete()
        elif not self.djpool_holds:
            # A request begins or ends. Asking the server first whether it is
            # still there, as Django does after an error, is left to the pool.
            self.close()

    def is_usable(self) -> bool:
        if self.connection is None and config.pool_of(self) is not None:
            return False  # it went back; MySQL's backends would ask it anyway
        return super().is_usable()

    def close_pool(self) -> None:
        """Does nothing: the pool outlives whoever asks.

        Celery calls this before and after each task, as a defence against forks
        that djpool does not need. `djpool.close_all()` closes pools.
        """

    def ensure_timezone(self) -> bool:
        self._djpool_again = None
        changed = super().ensure_timezone()
        if changed and self.djpool_lease is not None:
            self._djpool_spoilt = True
        return changed
