"""What MySQL's and MariaDB's error numbers mean to a pool, whatever the driver."""

from __future__ import annotations

import re

from djpool.core.driver import Driver

# Access denied, twice; the password has expired.
LOGIN = frozenset({1045, 1698, 1862})
# Too many connections: of all, of this account; of this account, as its limit says.
FULL = frozenset({1040, 1203, 1226})
# A transaction or a server that is read-only; a server that shuts down.
STEPPED_DOWN = frozenset({1792, 1836, 1053})
# "The server is running with the … option": with any option, so the text decides.
RUNS_WITH_OPTION, READ_ONLY = 1290, re.compile("read[-_]only", re.IGNORECASE)


def number_of(error: BaseException) -> int | None:
    """The server's number for it, or the client library's; None if it has none."""
    number = getattr(error, "errno", None)
    if number is None and error.args:
        number = error.args[0]
    return number if isinstance(number, int) else None


# The client library's own numbers: of these, none is the server's answer.
CLIENT = range(2000, 3000)
# What a driver says of the wrong use of a cursor, before it sends anything.
NOT_SENT = (None, -1, 2055)


# Where the drivers raise their errors, and Django's backends for them their own.
_DRIVERS = ("MySQLdb.", "pymysql.", "mysql.connector.")
_BACKENDS = ("django.db.backends.mysql.", "mysql.connector.django.")


def _is_the_driver_s(error: BaseException) -> bool:
    """True unless the error was raised elsewhere: by the handler of a signal, say.

    A handler may well raise an error of the same class, with a number.
    """
    step = error.__traceback__
    if step is None:
        return True
    while step.tb_next is not None:
        step = step.tb_next
    place = step.tb_frame.f_globals.get("__name__", "")
    if type(error).__module__.startswith("django."):
        return str(place).startswith(_BACKENDS)
    return str(place).startswith((*_DRIVERS, *_BACKENDS, "djpool."))


class MySQLErrors(Driver):
    """A driver whose errors have these numbers."""

    def answered(self, error: BaseException) -> bool:
        if not _is_the_driver_s(error):
            return False
        # Django raises one of its own classes for some; the hierarchy is PEP 249's.
        kinds = {kind.__name__ for kind in type(error).__mro__}
        number = number_of(error)
        if number in NOT_SENT:
            return "ProgrammingError" in kinds
        return "DatabaseError" in kinds and number > 0 and number not in CLIENT

    def refuses_login(self, error: BaseException) -> bool:
        return number_of(error) in LOGIN

    def is_full(self, error: BaseException) -> bool:
        return number_of(error) in FULL

    def stepped_down(self, error: BaseException) -> bool:
        number = number_of(error)
        if number == RUNS_WITH_OPTION:
            return READ_ONLY.search(str(error)) is not None
        return number in STEPPED_DOWN
