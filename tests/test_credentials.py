"""`credentials`: what it may return, and that nothing of it is ever shown."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import OperationalError

from djpool.credentials import Credentials, Given, find, read
from djpool.errors import OptionsError
from tests.core.fakes import Clock

PLACE = "DATABASES['shop']['OPTIONS']['pool']"
SECRET = "hunter2"


def answers() -> dict[str, str]:
    return {"PASSWORD": SECRET}


async def too_late() -> dict[str, str]:
    return answers()


not_callable = {"PASSWORD": SECRET}


def described(**changes: Any) -> dict[str, Any]:
    """Settings as Django completes them."""
    empty = dict.fromkeys(("NAME", "USER", "PASSWORD", "HOST", "PORT"), "")
    return {**empty, "OPTIONS": {}, **changes}


@pytest.mark.parametrize(
    ("answer", "settings", "params"),
    [
        ({"PASSWORD": "p", "USER": "u"}, {"PASSWORD": "p", "USER": "u"}, {}),
        ({"password": "p", "user": "u"}, {"PASSWORD": "p", "USER": "u"}, {}),
        ({"passwd": "p", "port": 5}, {"PASSWORD": "p", "PORT": "5"}, {}),
        ({"host": "h"}, {"HOST": "h"}, {}),
        ({"dbname": "d"}, {"NAME": "d"}, {}),
        ({"database": "d"}, {"NAME": "d"}, {}),
        ({"sslmode": "require"}, {}, {"sslmode": "require"}),
        ({}, {}, {}),
    ],
)
def test_what_it_may_return(
    answer: dict[str, Any], settings: dict[str, Any], params: dict[str, Any]
) -> None:
    """Django's words, or the driver's, whatever the driver calls them."""
    given = read(answer, PLACE)
    assert (given.settings, given.params) == (settings, params)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (SECRET, "must return a dict of connection parameters, not a str"),
        (None, "must return a dict of connection parameters, not a NoneType"),
        ([("PASSWORD", SECRET)], "not a list"),
        ({7: SECRET}, "must return a dict with names as keys, not a int"),
        ({"HUNTER2": SECRET}, "a key in capitals that is none of USER, PASSWORD, HOST"),
        ({"password": SECRET, "PASSWORD": SECRET}, "returned PASSWORD in two words"),
        ({"expires_in": SECRET}, "expires_in from credentials must be a number of sec"),
        ({"expires_in": float("nan")}, "must be a number of seconds, not a float"),
        ({"expires_in": True}, "must be a number of seconds, not a bool"),
        ({"expires_at": datetime(2030, 1, 1)}, "must be a datetime with a time zone"),  # noqa: DTZ001
        ({"expires_at": 5, "expires_in": 5}, "returned both expires_in and expires_at"),
    ],
)
def test_what_it_may_not_return_is_named_without_its_value(
    answer: Any, told: str
) -> None:
    with pytest.raises(OptionsError, match=told) as caught:
        read(answer, PLACE)
    assert str(caught.value).startswith(PLACE)
    assert SECRET not in str(caught.value).lower()


def test_a_coroutine_is_closed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(OptionsError, match="not a coroutine"):
            read(too_late(), PLACE)


@pytest.mark.parametrize("value", [answers, f"{__name__}.answers"])
def test_it_is_a_callable_or_the_path_of_one(value: Any) -> None:
    assert find(value, PLACE) is answers


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("hunter2.secret", "importing it raised ModuleNotFoundError"),
        (f"{__name__}.hunter2", "importing it raised ImportError"),
        (f"{__name__}.not_callable", "a dict, which cannot be called"),
        (too_late, "is a coroutine function"),
    ],
)
def test_a_provider_that_is_none_is_told_by_its_type(value: Any, told: str) -> None:
    with pytest.raises(OptionsError, match=told) as caught:
        find(value, PLACE)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def counted(answer: dict[str, Any]) -> tuple[list[int], Callable[[], dict[str, Any]]]:
    """A provider, and its calls."""
    calls: list[int] = []

    def provider() -> dict[str, Any]:
        calls.append(1)
        return dict(answer)

    return calls, provider


def test_without_an_expiry_it_is_asked_each_time() -> None:
    calls, provider = counted({"PASSWORD": SECRET})
    credentials = Credentials(provider, PLACE, Clock())
    credentials.get()
    credentials.get()
    assert len(calls) == 2


@pytest.mark.parametrize("how", ["expires_in", "expires_at"])
def test_an_answer_is_kept_for_as_long_as_it_says(how: str) -> None:
    until = datetime.now(timezone.utc) + timedelta(seconds=60)
    expiry: Any = 60 if how == "expires_in" else until
    calls, provider = counted({"PASSWORD": SECRET, how: expiry})
    clock = Clock()
    credentials = Credentials(provider, PLACE, clock)
    first = credentials.get()
    assert how not in first.params
    clock.pass_(50)
    assert credentials.get() is first
    clock.pass_(11)
    credentials.get()
    assert len(calls) == 2
    credentials.forget()
    credentials.get()
    assert len(calls) == 3


def test_what_has_expired_already_is_not_kept() -> None:
    calls, provider = counted({"PASSWORD": SECRET, "expires_in": -1})
    credentials = Credentials(provider, PLACE, Clock())
    credentials.get()
    credentials.get()
    assert len(calls) == 2


def test_what_the_provider_raises_is_the_cause() -> None:
    def provider() -> dict[str, Any]:
        raise LookupError(f"the vault says no to {SECRET}")

    with pytest.raises(OperationalError, match="credentials raised Look") as caught:
        Credentials(provider, PLACE).get()
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value.__cause__, LookupError)


def test_reports_that_show_variables_do_not_show_it() -> None:
    with pytest.raises(OptionsError) as caught:
        Credentials(lambda: {7: SECRET}, PLACE).get()  # type: ignore[dict-item]  # its mistake
    djpools = [
        frame.frame.f_locals
        for frame in caught.traceback
        if "djpool/credentials" in str(frame.path)
    ]
    assert djpools
    assert SECRET not in repr(djpools)


def test_it_stands_in_place_of_the_settings() -> None:
    given = Given({"PASSWORD": "new", "HOST": "there"}, {})
    before = described(USER="shop", PASSWORD="old", OPTIONS={"passwd": "x", "a": 1})
    after = given.described(before, PLACE)
    assert after["PASSWORD"] == "new"
    assert (after["USER"], after["HOST"]) == ("shop", "there")
    assert after["OPTIONS"] == {"a": 1}
    assert before["PASSWORD"] == "old"


def test_a_name_is_taken_where_the_settings_have_none() -> None:
    """Never another: Django's test runner changes NAME to the test database's."""
    given = Given({"NAME": "shop"}, {})
    assert given.described(described(NAME=""), PLACE)["NAME"] == "shop"
    assert given.described(described(NAME="shop"), PLACE)["NAME"] == "shop"
    assert given.described(described(NAME=None), PLACE)["NAME"] is None
    with pytest.raises(OptionsError, match="another NAME than that in DATABASES"):
        given.described(described(NAME="test_shop"), PLACE)


def test_nothing_of_it_shows_in_a_repr() -> None:
    given = read({"PASSWORD": SECRET, "sslpassword": SECRET}, PLACE)
    assert SECRET not in repr(given)
    assert SECRET not in repr(Credentials(answers, PLACE))
