"""Any DB-API driver, in the words that Django's backend for it has.

djpool knows nothing of the driver here, so it asks the backend: each connection
keeps the Django connection that opened it, and that one speaks for it. What
cannot be known without asking is asked, or done, each time.
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import Any

from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver
from djpool.core.options import Offer
from djpool.core.session import any_database


class DbapiDriver(Driver):
    """A backend's words for its driver. It cannot look without a round trip."""

    # Not `BEGIN`: nobody could tell when that transaction ends.
    changes = staticmethod(any_database())

    def __init__(self, connector: Connector, *, vendor: str) -> None:
        super().__init__(self._connect)
        self.vendor = vendor
        self._open = connector.open
        self._autocommit = connector.autocommit
        # By the id of an open connection, which may take no attributes: the
        # Django connection that opened it.
        self._speakers: dict[int, Any] = {}

    def _connect(self, timeout: float) -> Any:
        assert self._open is not None, "only Django knows how to speak to this driver"
        connection, speaker = self._open(timeout)
        try:
            # Bound to it from now on, in whichever thread.
            speaker.inc_thread_sharing()
            speaker.connection = connection
            self._speakers[id(connection)] = speaker
        except BaseException:
            speaker.djpool_abort()
            raise
        return connection

    def ping(self, connection: Any, timeout: float) -> None:
        speaker = self._speakers[id(connection)]
        _ask(speaker)
        if not self._autocommit:
            speaker._rollback()  # noqa: SLF001 (what was asked began a transaction)

    def at_rest(self, connection: Any) -> bool:
        return False  # there is no telling, so it is brought to rest each time

    def in_transaction(self, connection: Any) -> bool:
        return False  # there is no telling, but from the statements

    def tidy(self, connection: Any, timeout: float) -> None:
        speaker = self._speakers[id(connection)]
        # Enough for most drivers, and wanted by some before autocommit changes;
        # others refuse it where there is no transaction.
        with contextlib.suppress(Exception):
            speaker._rollback()  # noqa: SLF001
        # With autocommit on, some overlook a BEGIN that was sent as a statement. So
        # go into a transaction that they know of, as atomic() does, and out of it.
        speaker._set_autocommit(False)  # noqa: SLF001
        _ask(speaker)
        speaker._rollback()  # noqa: SLF001
        if self._autocommit:
            speaker._set_autocommit(True)  # noqa: SLF001

    def answered(self, error: BaseException) -> bool:
        return any(kind.__name__ in ANSWERS for kind in type(error).__mro__)

    def refuses_login(self, error: BaseException) -> bool:
        return LOGIN_WORDS.search(str(error)) is not None

    def close(self, connection: Any) -> None:
        self._speakers.pop(id(connection))._close()  # noqa: SLF001


# By PEP 249, errors of these kinds concern a statement, and not its connection.
ANSWERS = frozenset(
    {"DataError", "IntegrityError", "ProgrammingError", "NotSupportedError"}
)
# Each driver has its own words for a login that was refused; these are in most.
LOGIN_WORDS = re.compile("login failed|authenti|password|access denied", re.IGNORECASE)


def _ask(speaker: Any) -> None:
    if not speaker.is_usable():
        raise ConnectionError("the backend says that the connection is not usable")


def adapter(vendor: str) -> Adapter:
    """An adapter for a database of this kind, as Django's `vendor` says it."""
    driver = functools.partial(DbapiDriver, vendor=vendor)
    return Adapter(offer=Offer(), driver=driver)
