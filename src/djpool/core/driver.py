"""What a pool must know of a driver, and of the driver's own pool.

A `Driver` is one driver's words for a few questions; a `NativePool` keeps idle
connections where the driver has a pool of its own. Policy is not here: who may
have a connection, when, and for how long, is decided by `Pool`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from djpool.core.errors import OptionsError
from djpool.core.session import BEGIN, Change, any_database
from djpool.core.slot import Slot


class Driver:
    """One driver's words. Subclass it for a driver; override what it can say.

    The pool calls these without a lock of its own, from any thread, and for
    each connection from one thread at a time. They may block where they say so.
    """

    #: The database's kind, as Django's `connection.vendor` says it.
    vendor = "unknown"

    #: What a statement may change in its session, and what it asks of it or leaves
    #: there: the `Change` and the `Trace` as a plain number.
    changes: Callable[[Any], int] = staticmethod(any_database(*BEGIN))

    #: Attributes of a connection that only tell something, and change nothing. Without
    #: any, each look at a connection counts as a change.
    looks: frozenset[str] = frozenset()

    #: True if the driver's own functions take an object that stands in for one of its
    #: connections. If not, code that asks for the connection gets the connection.
    takes_stand_ins = True

    def __init__(self, connect: Callable[[float], Any]) -> None:
        """`connect` opens a connection, ready for use, in so many seconds at most.

        It raises the driver's own error if it cannot. May block.
        """
        self.connect = connect

    def peek(self, connection: Any) -> bool:
        """Whether the connection looks alive, without a round trip.

        False means "ask it": the pool pings it then. Must not block or raise.
        """
        return True

    def ping(self, connection: Any, timeout: float) -> None:
        """Return if the server answers within `timeout` seconds, else raise."""

    def at_rest(self, connection: Any) -> bool:
        """Whether the session is as it was after connecting, at no round trip.

        That is: no transaction, autocommit as it was. Must not block or raise.
        """
        return True

    def tidy(self, connection: Any, timeout: float) -> None:
        """Bring a session to rest in `timeout` seconds, or raise. May block."""

    def in_transaction(self, connection: Any) -> bool:
        """Whether the session is amid something, as far as is known without asking.

        Must not block or raise.
        """
        try:
            return not self.at_rest(connection)
        except Exception:  # noqa: BLE001 (closed, say: it is looked at when it is back)
            return True

    def prove(self, connection: Any, timeout: float) -> None:
        """Raise unless a connection that others had in hand answers what it is asked.

        Called if the session is not to be restored, which would show it, too. May take
        `timeout` seconds, and brings the session to rest.
        """
        self.tidy(connection, timeout)

    def tell(self, connection: Any, *, known: bool) -> None:
        """A statement comes, or (False) has ended, of which the text is `known`.

        That is: it is known to leave no transaction. Only for drivers that are told
        of a transaction by nobody; others do not override this. Must not block.
        """

    def remember(self, connection: Any) -> None:
        """Keep in mind the state of a new session, for `restore()`. May block."""

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        """Bring a session at rest back to the state it had when it was remembered.

        In `timeout` seconds, or raise: then the connection is closed. May block.

        Args:
            connection: It is at rest.
            change: What may be other than it was.
            timeout: Seconds until it should be given up.
        """
        raise NotImplementedError("this driver's sessions cannot be restored")

    def close(self, connection: Any) -> None:
        """Close the connection. Errors are logged; it counts as closed anyway."""
        connection.close()

    # What errors mean. Never called on the way of what goes well; must not block.

    def answered(self, error: BaseException) -> bool:
        """True if the error is the server's whole answer to what it was asked.

        If not, an answer or a part of one may be on its way, and the connection is
        closed. What does not come from the driver at all (a time limit, an interrupt)
        never is. If in doubt, False.
        """
        return False

    def doubt(self, connection: Any) -> None:
        """A call of the driver was interrupted; the owner may use it again.

        An adapter that has spared one of the driver's own precautions puts it back.
        Must not block or raise.
        """

    def refuses_login(self, error: BaseException) -> bool:
        """Whether connecting failed because of user or password: others may do."""
        return False

    def is_full(self, error: BaseException) -> bool:
        """Whether connecting failed because of the moment: soon it may do.

        The server has too many connections, or is about to start.
        """
        return False

    def stepped_down(self, error: BaseException) -> bool:
        """Whether a statement failed because its server is read-only, or shuts down.

        Then others of this pool's connections lead to the same server.
        """
        return False


class NativePool(Protocol):
    """A driver's own pool, as the keeper of connections that are idle.

    Thread-safe; called without a lock. It lends to a slot the connection that the
    slot has given, and no other: an exception may interrupt each of these methods at
    any point, and then the slot's connection is closed, and `drop()` is called.
    """

    #: The pool itself, for those who know it.
    native: Any
    #: How many connections it can keep at most; None for any number.
    capacity: int | None

    def join(self, slot: Slot) -> None:
        """Enter the new connection of `slot` into the books, as one that is lent."""

    def take(self, slot: Slot) -> None:
        """Lend the connection of `slot`. Raises LookupError if it is not there."""

    def give(self, slot: Slot) -> None:
        """Take back the connection of `slot`."""

    def drop(self, connection: Any) -> None:
        """Strike off the books a connection that is closed.

        It may be in any state: lent, given back, or in between.
        """

    def close(self) -> None:
        """Lend no more. Must not wait for anything."""


def check_capacity(native: NativePool | None, max_size: int) -> None:
    """Raise OptionsError if that many are more than the native pool can keep."""
    if native is None or native.capacity is None or max_size <= native.capacity:
        return
    raise OptionsError(
        f"max_size must be from 1 to {native.capacity} with the driver's own pool, "
        f'not {max_size}; implementation "fallback" takes any number'
    )
