"""`credentials`: what connections are made with, asked for when they are made.

What it returns is secret. So nothing here shows a value: not in an error, not in a
`repr()`; and neither the value of the option itself, which may be the secret that
somebody put into the wrong place.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from django.db import OperationalError
from django.utils.module_loading import import_string

from djpool.errors import OptionsError

Provider = Callable[[], Mapping[str, Any]]

# Django's settings that it may return, and what drivers call them.
DRIVERS_WORDS = {
    "USER": ("user",),
    "PASSWORD": ("password", "passwd"),
    "HOST": ("host",),
    "PORT": ("port",),
    "NAME": ("dbname", "database", "db"),
}
SETTINGS = {
    word: name for name, words in DRIVERS_WORDS.items() for word in (name, *words)
}
# How long the rest is good for. Drivers do not see these.
EXPIRIES = ("expires_in", "expires_at")


@dataclass(frozen=True, slots=True)
class Given:
    """What `credentials` returned, taken apart."""

    #: In Django's words, in place of what DATABASES says.
    settings: Mapping[str, Any] = field(repr=False)
    #: The driver's own connection parameters.
    params: Mapping[str, Any] = field(repr=False)
    #: Seconds for which it may be used again.
    seconds: float = 0.0

    def described(self, described: Mapping[str, Any], place: str) -> dict[str, Any]:
        """An alias's settings with these in them.

        Raises:
            OptionsError: It names a database, and the settings name another one.
        """
        settings, options = dict(self.settings), described["OPTIONS"]
        if "NAME" in settings:
            # Never another database than the settings': they may mean the test
            # database, or none at all.
            name = settings.pop("NAME")
            if described["NAME"] == "":
                settings["NAME"] = name
            elif described["NAME"] not in (name, None):
                raise OptionsError(
                    f"{place}: credentials returned another NAME than that in "
                    "DATABASES: leave one of them out"
                )
        # What OPTIONS says in the driver's words would win over these.
        kept = {
            key: value
            for key, value in options.items()
            if SETTINGS.get(key) not in self.settings
        }
        return {**described, **settings, "OPTIONS": kept}


class Credentials:
    """Asks a provider, and remembers the answer for as long as that is good.

    Thread-safe, without a lock: two threads that connect at the same time may both
    ask.
    """

    def __init__(
        self,
        provider: Provider,
        place: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`place` is where the project says so, for messages."""
        self.place = place
        self._provider = provider
        self._clock = clock
        self._kept: tuple[Given, float] | None = None  # and until when

    def get(self) -> Given:
        """What to connect with. Calls the provider, which may block.

        Raises:
            OperationalError: The provider raised; that error is the cause.
            OptionsError: It returned something else than connection parameters.
        """
        kept = self._kept
        if kept is not None and self._clock() < kept[1]:
            return kept[0]
        try:
            answer = self._provider()
        except Exception as error:
            # The message goes into logs, and what the error's own says is unknown.
            raise OperationalError(
                f"{self.place}: credentials raised {type(error).__name__}"
            ) from error
        given = read(answer, self.place)
        if given.seconds > 0:
            self._kept = given, self._clock() + given.seconds
        return given

    def forget(self) -> None:
        """Ask again next time: the server refused what it was given."""
        self._kept = None


def find(value: Any, place: str) -> Provider:
    """The provider that the option names; it is not called.

    Raises:
        OptionsError: It names none.
    """
    provider = value
    if isinstance(value, str):
        try:
            provider = import_string(value)
        except Exception as error:  # noqa: BLE001 (a module may raise anything)
            # Its message has the path, or a part of it.
            raise OptionsError(
                f"{place}: credentials: a str that is not the dotted path of a "
                f"callable: importing it raised {type(error).__name__}"
            ) from None
    if inspect.iscoroutinefunction(provider):
        raise OptionsError(
            f"{place}: credentials must be called without await, and is a coroutine "
            "function"
        )
    if not callable(provider):
        raise OptionsError(
            f"{place}: credentials: a str that is the dotted path of a "
            f"{type(provider).__name__}, which cannot be called"
        )
    found: Provider = provider
    return found


def read(answer: Any, place: str) -> Given:
    """Take an answer apart.

    Raises:
        OptionsError: It is something else than connection parameters.
    """
    if not isinstance(answer, Mapping):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that nobody awaited it
        raise OptionsError(
            f"{place}: credentials must return a dict of connection parameters, not "
            f"a {type(answer).__name__}"
        )
    settings: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for key, value in answer.items():
        if not isinstance(key, str):
            raise OptionsError(
                f"{place}: credentials must return a dict with names as keys, not a "
                f"{type(key).__name__}"
            )
        name = SETTINGS.get(key)
        if name in settings:
            raise OptionsError(f"{place}: credentials returned {name} in two words")
        if name is not None:
            settings[name] = str(value) if name == "PORT" else value
        elif key.isupper():
            raise OptionsError(
                f"{place}: credentials returned a key in capitals that is none of "
                f"{', '.join(DRIVERS_WORDS)}"
            )
        elif key not in EXPIRIES:
            params[key] = value
    return Given(settings, params, _seconds(answer, place))


def _seconds(answer: Mapping[str, Any], place: str) -> float:
    given = [key for key in EXPIRIES if answer.get(key) is not None]
    if not given:
        return 0.0
    if len(given) > 1:
        raise OptionsError(
            f"{place}: credentials returned both {' and '.join(given)}: one says it"
        )
    value = answer[given[0]]
    if given[0] == "expires_in":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not math.isnan(value):
            return float(value)
        wanted = "a number of seconds"
    else:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return (value - datetime.now(timezone.utc)).total_seconds()
        wanted = "a datetime with a time zone"
    raise OptionsError(
        f"{place}: {given[0]} from credentials must be {wanted}, not a "
        f"{type(value).__name__}"
    )
