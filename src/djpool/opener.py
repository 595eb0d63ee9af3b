"""How a pool gets a connection: as Django would make it, once for its life."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from django.db import OperationalError

from djpool import hooks
from djpool.core.session import any_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djpool.credentials import Credentials
    from djpool.wrapper import PooledWrapper


class Opener:
    """Opens connections with Django connections of its own, one for each.

    So everything that a backend does once it is connected (time zone, session
    settings, autocommit, `connection_created`) happens once for each physical
    connection, and no Django connection that somebody uses is bound to it.
    Thread-safe.
    """

    def __init__(
        self,
        wrapper_class: type[PooledWrapper],
        described: dict[str, Any],
        alias: str,
        credentials: Credentials | None = None,
    ) -> None:
        self._wrapper_class = wrapper_class
        self._described = described
        self._alias = alias
        self._credentials = credentials
        # What the backend wrote on its Django connection while connecting, and
        # every other one of this pool needs, too.
        self.facts: dict[str, Any] = {}
        #: What a statement may change in its session; the driver knows better.
        self.changes: Callable[[Any], int] = any_database()
        #: What receivers of `connection_created` put on the last one.
        self.hooks = hooks.NONE
        self._last = threading.local()

    def connect(self, timeout: float) -> Any:
        """Return a new connection."""
        connection, wrapper = self.open(timeout)
        wrapper.djpool_opened = None
        return connection

    def open(self, timeout: float) -> tuple[Any, PooledWrapper]:
        """A new connection, and the Django connection that opened it."""
        wrapper = self._wrapper_class(self._described, self._alias)
        try:
            return self._open(timeout, wrapper), wrapper
        except BaseException:
            wrapper.djpool_abort()
            raise

    def _open(self, timeout: float, wrapper: PooledWrapper) -> Any:
        if self._credentials is None:
            connection = wrapper.djpool_open(timeout, self.changes)
        else:
            began = time.monotonic()
            given = self._credentials.get()
            left = timeout - (time.monotonic() - began)
            if left <= 0:
                raise OperationalError(
                    f"{self._credentials.place}: credentials took longer than the "
                    f"{timeout:g} s that there were to connect"
                )
            with wrapper.djpool_with(given, self._credentials.place):
                connection = wrapper.djpool_open(left, self.changes)
        self._last.setup = wrapper.djpool_setup
        self.facts |= wrapper.djpool_facts()
        self.hooks = wrapper.djpool_hooks()
        return connection

    def put_hooks_on(self, wrapper: PooledWrapper) -> None:
        """Put on a Django connection what receivers expect on each of them."""
        self.hooks.put_on(wrapper)

    def setup(self) -> Sequence[str]:
        """What changed the session of the connection that this thread opened last.

        Statements with their parameters, of the backend and of who received
        `connection_created`, as far as they went through Django's cursors.
        """
        setup: Sequence[str] = self._last.setup
        return setup
