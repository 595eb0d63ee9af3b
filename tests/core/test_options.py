"""What `OPTIONS["pool"]` may say, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from djpool.adapters.psycopg import PSYCOPG_POOL_KEYS
from djpool.core import OptionsError, PoolOptions
from djpool.core.options import NativeKey, Offer, Problem, ProblemKind, is_on, parse

OFFER = Offer(
    implementations=("native", "fallback"),
    keys={
        "increment": NativeKey('Leave it out; "max_size" is the bound.'),
        "wait_timeout": NativeKey(
            translate=lambda milliseconds: {"timeout": milliseconds / 1000}
        ),
    },
)


def read(raw: Any) -> PoolOptions:
    """The options, where there is no problem."""
    options, problems = parse(raw, name="shop", offer=OFFER)
    assert not problems
    assert options is not None
    return options


def problem(raw: Any) -> Problem:
    """The one problem there is."""
    options, problems = parse(raw, name="shop", offer=OFFER)
    assert options is None
    assert len(problems) == 1
    return problems[0]


@pytest.mark.parametrize("raw", [True, {}, "true", "True", "yes", "on", "1"])
def test_true_is_a_pool_with_the_defaults(raw: Any) -> None:
    options = read(raw)
    assert options == PoolOptions(name="shop")
    assert options.min_size == 0
    assert options.max_size == 10
    assert options.timeout == 30
    assert options.max_waiting is None
    assert options.max_lifetime == 3600
    assert options.max_idle == 600
    assert options.check == "auto"
    assert options.check_after == 30
    assert options.check_timeout == 5
    assert options.reset == "auto"
    assert options.release == "request"
    assert options.leak_threshold is None
    assert options.credentials is None
    assert options.implementation == "native"
    assert options.name == "shop"
    assert options.native == {}


@pytest.mark.parametrize(
    "raw", [None, False, 0, "false", "False", "no", "off", "0", ""]
)
def test_off_is_off(raw: Any) -> None:
    assert not is_on(raw)


@pytest.mark.parametrize("raw", [True, {}, {"max_size": 3}, "true", 1, 7, ["x"]])
def test_whatever_is_not_off_is_on_and_so_looked_at(raw: Any) -> None:
    assert is_on(raw)


@pytest.mark.parametrize("raw", [1, 7, 1.0, "sure", ["x"], {"x"}, b"true", print])
def test_a_pool_that_is_no_dict_is_told(raw: Any) -> None:
    found = problem(raw)
    assert (found.kind, found.option) == (ProblemKind.TYPE, "pool")
    assert "must be True, False, None or a dict of options" in found.message
    assert repr(raw) in found.message


def test_strings_are_taken_as_settings_made_from_urls_have_them() -> None:
    options = read(
        {
            "min_size": "1",
            "max_size": " 7 ",
            "timeout": "2.5",
            "max_idle": "none",
            "max_lifetime": "None",
            "check": "True",
            "implementation": "Fallback",
        }
    )
    assert (options.min_size, options.max_size, options.timeout) == (1, 7, 2.5)
    assert options.max_idle is options.max_lifetime is None
    assert options.check is True
    assert options.implementation == "fallback"


def test_zero_max_waiting_is_no_limit_as_in_psycopg_pool() -> None:
    assert read({"max_waiting": 0}).max_waiting is None
    assert read({"max_waiting": "5"}).max_waiting == 5


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        ({"max_size": 0}, ProblemKind.BOUNDS, "max_size must be 1 or more, not 0"),
        ({"max_size": "0"}, ProblemKind.BOUNDS, "max_size must be 1 or more, not '0'"),
        ({"min_size": -1}, ProblemKind.BOUNDS, "min_size must be 0 or more, not -1"),
        (
            {"min_size": 11, "max_size": 10},
            ProblemKind.BOUNDS,
            "min_size must be from 0 to max_size (10), not 11",
        ),
        (
            {"min_size": 5, "max_size": 4},
            ProblemKind.BOUNDS,
            "min_size must be from 0 to max_size (4), not 5",
        ),
        ({"max_size": 2.5}, ProblemKind.TYPE, "max_size must be a whole number, not 2.5"),
        ({"max_size": True}, ProblemKind.TYPE, "max_size must be a whole number, not True"),
        ({"max_size": None}, ProblemKind.TYPE, "max_size must be a whole number, not None"),
        ({"max_size": "ten"}, ProblemKind.TYPE, "max_size must be a whole number, not 'ten'"),
        (
            {"max_waiting": "x"},
            ProblemKind.TYPE,
            "max_waiting must be a whole number or None, not 'x'",
        ),
        ({"timeout": "soon"}, ProblemKind.TYPE, "timeout must be a number of seconds, not 'soon'"),
        ({"timeout": None}, ProblemKind.TYPE, "timeout must be a number of seconds, not None"),
        ({"timeout": False}, ProblemKind.TYPE, "timeout must be a number of seconds, not False"),
        (
            {"max_idle": [1]},
            ProblemKind.TYPE,
            "max_idle must be a number of seconds or None for no limit, not [1]",
        ),
        ({"check": "maybe"}, ProblemKind.TYPE, "check must be one of 'auto', True, False, not 'maybe'"),
        ({"check": 1}, ProblemKind.TYPE, "check must be one of 'auto', True, False, not 1"),
        (
            {"release": "statement"},
            ProblemKind.TYPE,
            "release must be one of 'request', 'transaction', not 'statement'",
        ),
        ({"name": ""}, ProblemKind.TYPE, "name must be a name, as text that is not empty, not ''"),
        ({"native": 3}, ProblemKind.TYPE, "native must be a dict with names as keys, not a int"),
        (
            {"credentials": 3},
            ProblemKind.TYPE,
            "credentials must be a callable, the dotted path of one, or None, not a int",
        ),
        (3, ProblemKind.TYPE, "pool must be True, False, None or a dict of options, not 3"),
        (
            "perhaps",
            ProblemKind.TYPE,
            "pool must be True, False, None or a dict of options, not 'perhaps'",
        ),
    ],
)  # fmt: skip
def test_the_message_names_option_bounds_and_value(
    raw: Any, kind: ProblemKind, message: str
) -> None:
    found = problem(raw)
    assert found.message == message
    assert found.kind is kind


@pytest.mark.parametrize("value", ["nan", "inf", "-1", -0.001, float("inf"), 10**400])
def test_a_duration_must_be_one_that_a_clock_can_reach(value: Any) -> None:
    found = problem({"timeout": value})
    if found.kind is ProblemKind.BOUNDS:
        assert "timeout must be 0 or more and at most" in found.message
    assert repr(value) in found.message


@pytest.mark.parametrize("option", ["max_lifetime", "max_idle", "leak_threshold"])
def test_no_limit_is_none_and_not_zero(option: str) -> None:
    assert "more than 0 and at most" in problem({option: 0}).message
    assert "None is no limit" in problem({option: 0}).message


@pytest.mark.parametrize(
    ("key", "near"),
    [("maxsize", "max_size"), ("MAX_SIZE", "max_size"), ("max_ilde", "max_idle"),
     ("min", "min_size"), ("increments", "increment"), ("time_out", "timeout")],
)  # fmt: skip
def test_an_unknown_key_names_the_nearest_known_one(key: str, near: str) -> None:
    found = problem({key: 3})
    assert found.kind is ProblemKind.UNKNOWN
    assert found.message == f"{key!r} is not an option"
    assert found.hint == f"Did you mean {near!r}?"


def test_a_key_that_is_near_to_none_names_them_all() -> None:
    hint = problem({"xyzzy": 1}).hint
    assert hint is not None
    assert hint.startswith("Known are min_size, max_size, timeout,")
    assert problem({7: 1}).kind is ProblemKind.UNKNOWN


def test_a_native_pools_key_is_translated_with_its_units() -> None:
    assert read({"wait_timeout": 2500}).timeout == 2.5


def test_a_native_pools_key_without_meaning_is_refused_with_advice() -> None:
    found = problem({"increment": 1})
    assert found.kind is ProblemKind.REFUSED
    assert (
        found.message == "increment belongs to the driver's own pool and is not taken"
    )
    assert found.hint == 'Leave it out; "max_size" is the bound.'


def test_a_secret_put_in_the_wrong_place_is_not_shown() -> None:
    assert "hunter2" not in problem({"credentials": "hunter2"}).message
    assert "hunter2" not in problem({"credentials": ["vault.hunter2"]}).message


def test_every_problem_is_told_at_once() -> None:
    _, problems = parse(
        {"maxsize": 3, "timeout": "x", "min_size": -1}, name="shop", offer=OFFER
    )
    assert [each.option for each in problems] == ["maxsize", "timeout", "min_size"]


def test_an_implementation_that_is_not_there_is_refused() -> None:
    _, problems = parse({"implementation": "native"}, name="shop", offer=Offer())
    assert "this driver has no pool of its own" in problems[0].message
    options, _ = parse(True, name="shop", offer=Offer())
    assert options is not None
    assert options.implementation == "fallback"


@pytest.mark.parametrize(("min_size", "max_size"), [(4, 10), (10, 10), (20, 20)])
def test_a_pool_that_keeps_many_open_has_room_for_them(
    min_size: int, max_size: int
) -> None:
    """As with psycopg_pool, where `min_size` alone is enough."""
    options, problems = parse({"min_size": min_size}, name="shop", offer=OFFER)
    assert (options and options.max_size, problems) == (max_size, [])


def test_options_made_in_code_are_checked_too() -> None:
    with pytest.raises(OptionsError, match="max_size must be 1 or more, not 0"):
        PoolOptions(max_size=0)
    with pytest.raises(OptionsError, match=r"from 0 to max_size \(1\), not 2"):
        PoolOptions(min_size=2, max_size=1)
    assert PoolOptions(timeout="3").timeout == 3  # type: ignore[arg-type]


def test_a_configuration_of_djangos_own_postgresql_pool_keeps_working() -> None:
    offer = Offer(implementations=("native", "fallback"), keys=PSYCOPG_POOL_KEYS)

    class ConnectionPool:
        def check_connection(self) -> None: ...

    options, problems = parse(
        {
            "min_size": 2,
            "max_size": 4,
            "timeout": 10,
            "max_waiting": 0,
            "max_lifetime": 1800.0,
            "max_idle": 300.0,
            "num_workers": 3,
            "name": "shop",
            "check": _named(ConnectionPool.check_connection),
            "reset": None,
        },
        name="default",
        offer=offer,
    )
    assert not problems
    assert options is not None
    assert options.check is True
    assert options.native == {"num_workers": 3}
    assert (options.min_size, options.max_size, options.timeout) == (2, 4, 10)


def _named(function: Any) -> Any:
    function.__qualname__ = "ConnectionPool.check_connection"
    return function


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("reconnect_timeout", 60, "timeout"),
        ("configure", print, "connection_created"),
        ("kwargs", {}, "OPTIONS"),
        ("open", True, "min_size"),
        ("check", print, "knows how to check"),
        ("reset", print, "knows how to reset"),
    ],
)
def test_what_djpool_does_differently_is_refused_by_name(
    key: str, value: Any, advice: str
) -> None:
    offer = Offer(implementations=("native", "fallback"), keys=PSYCOPG_POOL_KEYS)
    _, problems = parse({key: value}, name="default", offer=offer)
    assert [each.option for each in problems] == [key]
    assert advice in problems[0].message + (problems[0].hint or "")
