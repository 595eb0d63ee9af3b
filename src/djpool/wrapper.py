"""The mixin: leases where Django connects, gives back where it closes."""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, ProgrammingError, connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.utils import DatabaseErrorWrapper
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property

from djpool import config, cursors, hooks, questions, requests
from djpool.checks import pooled_validation
from djpool.client import pooled_client
from djpool.core.session import CHANGES, Change, Trace
from djpool.creation import pooled_creation
from djpool.errors import PoolClosed
from djpool.onlookers import StandIn, driver_s_object
from djpool.signals import lease_acquired, lease_released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType, TracebackType

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from djpool.core.adapter import Adapter
    from djpool.core.lease import Lease
    from djpool.core.pool import Pool
    from djpool.core.slot import Entry
    from djpool.credentials import Given

    _Base = BaseDatabaseWrapper
else:
    _Base = object


# Modules that look at a wrapper's `connection`, and change no session unseen.
_INSIDERS = ("django.db.", "djpool.")
# Those that have looked so far, by the address of their variables, which stay for as
# long as the module does. Each statement makes a few such looks.
_insiders: set[int] = set()

# That any statement has run on the lease: a bit beside those of `session.Trace`.
_RAN = 1 << 30
_EVERYTHING = ~0
# What a question asks for, and what must have run on the lease for a right answer.
# Plain integers, because operations on enums take a microsecond.
_ANSWERS = (
    (int(Trace.ASKS_ID), int(Trace.LEAVES_ID)),
    (int(Trace.ASKS_ROWS), int(Trace.LEAVES_ROWS)),
    (int(Trace.ASKS_PREVIOUS), _RAN),
)
_ASKS = sum(asks for asks, _ in _ANSWERS)
_LEAVES = int(Trace.LEAVES_ID | Trace.LEAVES_ROWS)
# Statements that leave what they may leave, if they changed a row.
_LEAVING = ("insert", "replace", "update", "delete")
_DRAWING = ("nextval", "next value for", "last_insert_id")


class NoticedErrors(DatabaseErrorWrapper):
    """Django's translator of errors, which is around every call of the driver.

    It counts the calls that began and are not known to have ended: an exception that
    is not the server's whole answer leaves the count as it is, and so does one that
    strikes in here. A connection with such a call is never lent again. The pool also
    looks at each error.
    """

    def __enter__(self) -> None:
        entry: Entry | None = self.wrapper.djpool_entry  # type: ignore[attr-defined]
        if entry is not None:
            entry.calls += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        wrapper: PooledWrapper = self.wrapper  # type: ignore[attr-defined]
        entry = wrapper.djpool_entry
        if exc_value is None:
            # None where the block began before the lease did.
            if entry is not None and entry.calls:
                entry.calls -= 1
            return
        lease = wrapper.djpool_lease
        if entry is not None and lease is not None:
            # A generator that is dropped amid its rows is no call under way.
            if isinstance(exc_value, GeneratorExit) or lease.pool.answered(exc_value):
                if entry.calls:
                    entry.calls -= 1
            else:
                lease.pool.doubt(lease.connection)
            lease.notice(exc_value)
        super().__exit__(exc_type, exc_value, traceback)


def _is_connected() -> None:
    """Stand in for `ensure_connection()` where there is nothing left to do."""


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

    #: The lease that `connection` is of, if it is of one, and its connection's entry.
    djpool_lease: Lease | None = None
    djpool_entry: Entry | None = None
    #: The driver's cursors of this lease that djpool has not seen closed.
    djpool_cursors: cursors.OpenCursors
    #: The request in whose context it leased last, if that was one.
    djpool_request: requests.Request | None = None
    #: How many blocks of `djpool.hold()` are under way.
    djpool_holds = 0
    #: What a statement does, in the numbers of `session.Change` and `session.Trace`.
    djpool_judge: Callable[[Any], int]
    #: Tells the driver what is known of the statement that comes; None if it knows.
    djpool_tell: Callable[..., None] | None = None
    #: True if a cursor of djpool's has said what the statement does that comes next.
    djpool_told = False
    #: What was run while opening a connection and may have changed its session.
    djpool_setup: list[str]
    #: Whether the lease ends with each transaction, and not with the request.
    djpool_early = False
    #: The names of this backend's own modules: see `djpool_is_insider()`.
    djpool_insiders: ClassVar[set[str]]
    # Held by the owner while it uses the connection, but for cursors: these are
    # in the set. Whoever else wants the lease must get it first, without waiting.
    _djpool_using: threading.RLock
    # How many calls are under way that need the connection to stay what it is.
    _djpool_depth = 0
    #: What stands in `connection`.
    _djpool_raw: Any = None
    #: What it has opened for the pool, until that has it.
    djpool_opened: Any = None
    # Whether this lease may have changed its session.
    _djpool_touched = False
    # The stand-in for the connection, and the lease that it is for.
    _djpool_shown: tuple[Lease, StandIn] | None = None
    # close() is under way, which clears `connection` at its end.
    _djpool_closing = False
    # The lease should have ended with its request, and is still in use.
    _djpool_overdue = False
    # The pool of the last lease that ended early; others are looked up.
    _djpool_again: Pool | None = None
    # The seconds that a connect under way may take; None when djpool has none.
    _djpool_connect_timeout: float | None = None
    # What `credentials` adds to the driver's parameters, while `settings_dict` has the
    # rest of its answer; None otherwise.
    _djpool_params: Mapping[str, Any] | None = None
    # What this object had on itself before receivers of `connection_created` ran.
    _djpool_before: tuple[dict[str, Any], tuple[Any, ...]] = {}, ()
    # Whether it has what they put on another one.
    _djpool_hooked = False
    # The session was changed in a way that the next lease must not see.
    _djpool_spoilt = False
    # What statements have left for a later question, in the numbers of `session.Trace`:
    # perhaps in this lease, perhaps in earlier ones of the same request, surely in this
    # lease. If an earlier lease has the answer, what this one only perhaps has may be
    # another request's, and would be taken for it.
    _djpool_left = _djpool_owed = _djpool_surely_left = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if getattr(cls, "creation_class", None) is not None:
            cls.creation_class = pooled_creation(cls.creation_class)
            cls.client_class = pooled_client(cls.client_class)
            cls.validation_class = pooled_validation(cls.validation_class)
            for name, asked in (
                ("features_class", questions.FEATURES),
                ("ops_class", questions.OPERATIONS),
                ("SchemaEditorClass", questions.EDITOR),
            ):
                base = getattr(cls, name)
                if base is not None:  # an incomplete backend's has no schema editor
                    setattr(cls, name, questions.with_a_lease(base, asked))
        cls.djpool_insiders = {base.__module__ for base in cls.__mro__}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._djpool_using = threading.RLock()
        self.djpool_cursors = cursors.OpenCursors()

    # -- who looks at the driver's connection ---------------------------------

    @property
    def connection(self) -> Any:
        """The driver's connection, as ever; None while there is no lease.

        Django's own backends get it as it is. Other code may do with it what nobody
        sees, and so gets a stand-in, which tells a look from more than that. After
        more than a look the lease stays until the request ends, and then the session
        is restored.
        """
        raw = self._djpool_raw
        if raw is not None and self.djpool_lease is not None:
            frame = sys._getframe(1)  # noqa: SLF001 (the documented way)
            if id(frame.f_globals) not in _insiders and not self.djpool_is_insider(
                frame
            ):
                return self.djpool_shown(raw)
        return raw

    @connection.setter
    def connection(self, raw: Any) -> None:
        raw = driver_s_object(raw)  # somebody puts back what was taken from here
        if self._djpool_closing and self.djpool_lease is not None:
            return  # a handler of a signal has connected since the lease ended
        self._djpool_raw = raw

    def djpool_shown(self, raw: Any) -> Any:
        """What other code than Django's gets of the driver's connection."""
        lease = self.djpool_lease
        if lease is None:
            return raw
        if not (lease.pool.looks and lease.pool.takes_stand_ins):
            self.djpool_changed(Change.UNKNOWN, "connection")
            return raw
        shown = self._djpool_shown
        if shown is None or shown[0] is not lease:
            shown = self._djpool_shown = lease, StandIn(raw, self)
        return shown[1]

    def djpool_is_insider(self, frame: FrameType) -> bool:
        """Whether the code of a frame is a part of this backend, or of Django's."""
        name = frame.f_globals.get("__name__", "")
        if name in self.djpool_insiders:
            return True
        if not name.startswith(_INSIDERS):
            return False
        _insiders.add(id(frame.f_globals))
        return True

    def djpool_changed(self, change: int, *said: Any) -> None:
        """The session may be about to change: its lease will see to it, if any."""
        if self.djpool_lease is not None:
            requests.touches(self)
            self._djpool_touched = True
            if change & Change.UNKNOWN:
                self._djpool_left = _EVERYTHING
            self.djpool_lease.changed(change)
        elif self._djpool_connect_timeout is not None:
            self.djpool_setup.append(" ".join(map(str, said)))

    def djpool_judged(self, verdict: int, *said: Any) -> None:
        """A statement is about to run that is more than a plain query.

        Raises:
            ProgrammingError: It asks what only the session can tell in which an
                earlier statement ran, and that is not known to be this one.
        """
        if verdict & _ASKS and self.djpool_lease is not None:
            for asks, answers in _ANSWERS:
                left = self._djpool_left
                if self._djpool_owed & answers:
                    left = self._djpool_surely_left
                if verdict & asks and not left & answers:
                    raise ProgrammingError(
                        f"{said[0]!r} asks about an earlier statement of the same "
                        f"session, and no such statement is known to have run on this "
                        f"connection since it was leased from the pool of "
                        f"{self.alias!r}. Run "
                        f"both inside transaction.atomic(), or inside djpool.hold()"
                    )
        if change := verdict & CHANGES:
            self.djpool_changed(change, *said)

    def validate_no_broken_transaction(self) -> None:
        # Each Django cursor calls this before it runs anything. So a cursor that is
        # not of djpool's making, and says nothing, is noticed here.
        told = self.djpool_told
        if told:
            self.djpool_told = False
        if self.needs_rollback:
            super().validate_no_broken_transaction()
        if told:
            self._djpool_left |= _RAN
        else:
            self.djpool_changed(Change.SETTINGS, "a cursor of another class")
            self._djpool_left = _EVERYTHING

    def djpool_leaves(self, verdict: int, statement: Any, cursor: Any) -> None:
        """A statement has run that may have left an answer to some questions."""
        left = verdict & _LEAVES
        self._djpool_left |= left
        if self._djpool_owed & left and (cursor.rowcount or cursor.description):
            text = str(statement).lstrip("( \t\r\n").lower()
            if text.startswith(_LEAVING) or any(each in text for each in _DRAWING):
                self._djpool_surely_left |= left

    def djpool_leaves_all(self) -> None:
        """Something ran that may have left an answer to each question."""
        self._djpool_left = _EVERYTHING

    def djpool_poolable(self) -> bool:
        """Whether this connection may come from a pool, whatever the settings say."""
        return self.alias != NO_DB_ALIAS and not self.djpool_opens

    @property
    def djpool_opens(self) -> bool:
        """Whether it opens a connection for the pool, at this moment."""
        return self._djpool_connect_timeout is not None

    def djpool_open(self, timeout: float, changes: Callable[[Any], int]) -> Any:
        """Open a physical connection, the backend's own way, and let go of it.

        Args:
            timeout: Seconds after which the driver should give up.
            changes: Judges statements; those that change go to `djpool_setup`.
        """
        self._djpool_connect_timeout = timeout
        self.djpool_judge = changes
        self.djpool_setup = []
        # What is asked meanwhile is asked of the connection that is being opened. Who
        # forbids to connect, as pytest-django does, forbids it to the project.
        vars(self)["ensure_connection"] = _is_connected
        try:
            try:
                self._djpool_in_place(super().connect)
            finally:
                del vars(self)["ensure_connection"]
            connection = self.connection
            if connection is None:
                raise InterfaceError(
                    f"a receiver of connection_created closed {self.alias!r}"
                )
            if self.autocommit != self.settings_dict["AUTOCOMMIT"]:
                # Each lease begins as the settings say. Not to heed the receiver
                # would commit what its project expects to be rolled back.
                raise ImproperlyConfigured(
                    f"a receiver of connection_created has left autocommit "
                    f"{'on' if self.autocommit else 'off'}: let it end what it began, "
                    f"or set DATABASES[{self.alias!r}]['AUTOCOMMIT'] to "
                    f"{self.autocommit}"
                )
            self.connection = None
        except BaseException:
            self.djpool_abort()
            raise
        return connection

    def djpool_abort(self) -> None:
        """Close the connection that this object has opened, if there is one."""
        connection, self.djpool_opened = self.djpool_opened, None
        self._djpool_raw = None
        if connection is not None:
            connection.close()

    def get_new_connection(self, conn_params: Any) -> Any:
        # Kept in the same step in which it is returned: an exception may strike before
        # `connection` is set, and keeps the frames that refer to it.
        if not self.djpool_opens:
            return super().get_new_connection(conn_params)
        self.djpool_opened = super().get_new_connection(conn_params)
        return self.djpool_opened

    def _djpool_in_place(self, connect: Callable[[], None]) -> None:
        """Connect, and be `connections[alias]` in this thread meanwhile.

        Receivers of connection_created may query (that of django.contrib.postgres
        does), and by that name: whoever has it otherwise is waiting for this one.
        """
        if self.alias not in connections:
            connect()
            return
        other = connections[self.alias]
        try:
            try:
                connections[self.alias] = self
                connect()
            finally:
                connections[self.alias] = other
        finally:
            # A signal's handler may have raised just before it was put back.
            if connections[self.alias] is self:
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
            self._djpool_params = None

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if self.djpool_opens:
            # What is written on this object from now on is written by receivers.
            self._djpool_before = dict(vars(self)), tuple(self.execute_wrappers)

    def djpool_hooks(self) -> hooks.Hooks:
        """What receivers of `connection_created` put on this object."""
        return hooks.written_since(*self._djpool_before, self)

    def djpool_facts(self) -> dict[str, Any]:
        """What connecting wrote on this object, and the pool's others need, too."""
        attributes = vars(self)
        return {
            name: attributes[name] for name in self.djpool_carried if name in attributes
        }

    # -- in ----------------------------------------------------------------

    def get_connection_params(self) -> dict[str, Any]:
        if self._djpool_params is None and not self.djpool_opens:
            # Somebody wants to connect by other means.
            with config.credentials_beside_the_pool(self):
                return self._djpool_connection_params()
        return self._djpool_connection_params()

    def _djpool_connection_params(self) -> dict[str, Any]:
        # Some backends would pass it to the driver, psycopg2's refuses it.
        described = self.settings_dict
        options = {k: v for k, v in described["OPTIONS"].items() if k != "pool"}
        self.settings_dict = {**described, "OPTIONS": options}
        try:
            params: dict[str, Any] = super().get_connection_params()
        finally:
            self.settings_dict = described
        params |= self._djpool_params or {}
        if self._djpool_connect_timeout is not None:
            limit = self.djpool_adapter.limit
            return dict(limit(params, self._djpool_connect_timeout))
        return params

    @async_unsafe
    def connect(self) -> None:
        pool = self._djpool_again
        if pool is None or pool.closed or pool.former:
            pool = config.pool_of(self)
            if pool is None:
                with config.credentials_beside_the_pool(self):
                    super().connect()
                return
            self.check_settings()
        request = requests.current()
        with self._djpool_using:
            try:
                if request is None:
                    self.djpool_request = None
                    lease = pool.acquire()
                else:
                    lease = request.acquire(self, pool)
            except PoolClosed:
                lease = config.lease_anew(self, pool)
            self._djpool_depth += 1
            try:
                if not self._djpool_begin(lease):
                    lease.release()  # a handler of a signal has connected meanwhile
                    return
                if lease_acquired.receivers:
                    lease_acquired.send(sender=type(self), connection=self)
                requests.leased(lease, request)
            except BaseException:
                self._djpool_raw = self.djpool_lease = self.djpool_entry = None
                lease.release()
                raise
            finally:
                self._djpool_depth -= 1

    def _djpool_begin(self, lease: Lease) -> bool:
        """Put this object into the state that `connect()` leaves it in.

        False if it has a lease already.
        """
        pool, entry, raw = lease.pool, lease.entry, lease.connection
        lease.holder = weakref.ref(self)
        if self.djpool_cursors:  # of the lease before
            self.djpool_cursors = cursors.OpenCursors()
        # Without a call between them, so no handler of a signal sees one without the
        # others.
        if self._djpool_raw is not None:
            return False
        self.djpool_lease = lease
        self.djpool_entry = entry
        self._djpool_raw = raw
        self._djpool_spoilt = self._djpool_touched = self._djpool_overdue = False
        self._djpool_left = self._djpool_surely_left = 0
        self.errors_occurred = False
        if self._djpool_again is pool:
            return True  # the last one ended amid nothing: the rest is as it was
        self.djpool_judge = pool.changes
        self.djpool_tell = pool.tell
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
        if not self._djpool_hooked and pool.introduce is not None:
            self._djpool_hooked = True
            pool.introduce(self)
        return True

    def _prepare_cursor(self, cursor: Any) -> CursorWrapper:
        prepared: CursorWrapper = super()._prepare_cursor(cursor)  # type: ignore[misc]
        if self.djpool_lease is not None or self._djpool_connect_timeout is not None:
            cursors.track(prepared, self.djpool_cursors)
        return prepared

    # -- in use ------------------------------------------------------------

    def close_if_health_check_failed(self) -> None:
        # With a pool never: it checks by itself.
        if self.health_check_enabled:
            super().close_if_health_check_failed()

    def _cursor(self, name: str | None = None) -> CursorWrapper:
        with self._djpool_using:
            if self._djpool_overdue or self._djpool_touched:
                self._djpool_part()
            self._djpool_depth += 1
            try:
                return super()._cursor(name)  # type: ignore[misc,no-any-return]
            finally:
                self._djpool_depth -= 1

    def _djpool_part(self) -> None:
        """End the lease if another request has left it, and its session.

        It is over, or its job here is done: a thread of an executor works for one
        request after the other.
        """
        lease = self.djpool_lease
        if lease is None or not requests.is_left(self, over=self._djpool_overdue):
            return
        if not self._djpool_in_use():
            self._djpool_give_back(lease)

    def commit(self) -> None:
        self._djpool_step(super().commit)

    def rollback(self) -> None:
        self._djpool_step(super().rollback)

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        if self._djpool_overdue or self._djpool_touched:
            self._djpool_part()
        self._djpool_step(super().set_autocommit, *args, **kwargs)

    def djpool_ask(self, asks: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what asks something of the driver's connection. The lease lasts for it.

        If the last lease has ended early, ask in another one: without a pool, there
        would still be a connection.
        """
        return self._djpool_step(self._djpool_answer, asks, *args, **kwargs)

    def _djpool_answer(
        self, asks: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if self._djpool_again is not None:
            self.ensure_connection()
        return asks(*args, **kwargs)

    def _djpool_step(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do what needs one lease, after which the lease may end: return its result.

        It begins or ends a transaction, or asks something of the driver's connection.
        """
        try:
            with self._djpool_using:
                self._djpool_depth += 1
                try:
                    return step(*args, **kwargs)
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
            or (bool(self.djpool_cursors) and self.djpool_cursors.in_use())
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
        self._djpool_closing = True
        try:
            super().close()
        finally:
            self._djpool_closing = False
            self._djpool_again = None  # another thread may have taken the lease first
            self._djpool_owed = 0

    def _close(self) -> None:
        with self._djpool_using:
            lease = self.djpool_lease
            if lease is None:
                super()._close()  # type: ignore[misc]  # the stubs leave it out
                return
            self._djpool_give_back(lease)

    def djpool_rest(self) -> None:
        """A statement or a transaction has ended: give back what is not pinned."""
        if self._djpool_depth:
            return
        with self._djpool_using:
            lease = self.djpool_lease
            if lease is None or self._djpool_pinned(lease):
                return
            self._djpool_give_back(lease)
            self._djpool_again = lease.pool

    def _djpool_give_back(self, lease: Lease) -> None:
        try:
            self._djpool_leave(lease)
            lease.release()
        except BaseException:
            # It struck between the two: nobody else would end this lease.
            if self.djpool_lease is not lease:
                lease.doubt()
                lease.release()
            raise

    def _djpool_leave(self, lease: Lease) -> None:
        """Do what comes before giving the lease back, and forget it."""
        if lease_released.receivers:
            self._djpool_depth += 1
            try:
                lease_released.send_robust(sender=type(self), connection=self)
            finally:
                self._djpool_depth -= 1
        if self.djpool_cursors:
            if lease.entry.calls:
                # It is closed, and them with it. To close them might take for ever, and
                # so might their finalisers before that.
                lease.entry.leftovers = self.djpool_cursors.cut_off()
            elif not self.djpool_cursors.end():
                lease.doubt()
        if self._djpool_spoilt:
            lease.spoil()
        if self.errors_occurred:
            lease.suspect()
        self._djpool_owed |= self._djpool_left & _LEAVES
        # Also inside atomic(), where Django would leave it: from here on the
        # connection is another's.
        self._djpool_raw = self.djpool_lease = self.djpool_entry = None

    def djpool_let_go(self, lease: Lease, *, dead: bool, over: bool) -> bool:
        its_own = self._thread_ident == lease.owner.ident  # type: ignore[attr-defined]
        if dead and (self.allow_thread_sharing or not its_own):
            # Another thread may well be using it: one that it is shared with, or the
            # one whose it is, and which had shared it with the dead.
            return False
        using = self._djpool_using
        # This thread has the lock if a signal's handler has interrupted its use.
        held = using._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 (threading.Condition asks, too)
        try:
            if not (held or using.acquire(blocking=False)):
                return False
            if self.djpool_lease is not lease:
                return False  # it is just being given back
            if not (dead or over or self.djpool_early) and not requests.is_at_rest(
                lease.owner
            ):
                return False
            if over and lease.owner.is_idle():
                used = self._djpool_in_use()
            else:
                used = self._djpool_pinned(lease)
            if used and not dead:
                if over:
                    self._djpool_overdue = True
                return False
            # Not for a thread that is no more, but for receivers of our signal.
            self.inc_thread_sharing()
            try:
                self._djpool_leave(lease)
            finally:
                self.dec_thread_sharing()
            if self.djpool_early and not (dead or over):
                self._djpool_again = lease.pool  # as if the owner had given it back
        finally:
            # Also if an exception has struck just when the lock was taken.
            if not held and using._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
                using.release()
        return True

    def djpool_ends_slowly(self) -> bool:
        return bool(lease_released.receivers or self.djpool_cursors)

    def djpool_is_wanted(self, lease: Lease) -> bool:
        request = self.djpool_request
        return request is not None and request.waits_for(lease.pool)

    def djpool_forked(self, lease: Lease) -> list[Any]:
        if self.djpool_lease is not lease:
            return []
        self._djpool_raw = self.djpool_lease = self.djpool_entry = None
        self._djpool_again = None
        if self.in_atomic_block:
            # The transaction is the parent's. What is left of the block must not run
            # as if there were none; so it is for Django when a connection is closed.
            self.closed_in_transaction = self.needs_rollback = True
        return self.djpool_cursors.cut_off()

    def close_if_unusable_or_obsolete(self) -> None:
        self._djpool_again = None
        self._djpool_owed = 0
        if self.djpool_lease is None:
            super().close_if_unusable_or_obsolete()
        elif not self.djpool_holds:
            # A request begins or ends. Asking the server first whether it is
            # still there, as Django does after an error, is left to the pool.
            self.close()

    def is_usable(self) -> bool:
        with self._djpool_using:  # or another thread may take the lease meanwhile
            if self._djpool_raw is None and config.pool_of(self) is not None:
                return False  # it went back; MySQL's backends would ask it anyway
            return super().is_usable()

    def close_pool(self) -> None:
        """Does nothing: the pool outlives whoever asks.

        Celery calls this before and after each task, as a defence against forks
        that djpool does not need. `djpool.close_all()` closes pools.
        """

    def ensure_timezone(self) -> bool:
        self._djpool_again = None
        with self._djpool_using:  # or another thread may take the lease meanwhile
            changed = super().ensure_timezone()
            if changed and self.djpool_lease is not None:
                self._djpool_spoilt = True
        return changed
