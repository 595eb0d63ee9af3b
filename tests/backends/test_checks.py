"""System checks: one test for each id, and that they run in every project."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.db import OperationalError, connections
from django.utils.functional import SimpleLazyObject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import djpool
from djpool.checks import check_alias, check_pools
from djpool.core.options import KINDS
from tests.backends.conftest import MakeAlias


def messages(alias: str) -> list[CheckMessage]:
    """What the checks say of one alias."""
    place = f"DATABASES['{alias}']"
    return [message for message in check_pools() if place in message.msg]


def only(alias: str) -> CheckMessage:
    """The one thing that they say."""
    found = messages(alias)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("id_", "pool", "told", "hint"),
    [
        (
            "E001",
            {"maxsize": 3},
            "'maxsize' is not an option",
            "Did you mean 'max_size'?",
        ),
        (
            "E002",
            {"timeout": "x"},
            "timeout must be a number of seconds, not 'x'",
            None,
        ),
        ("E003", {"max_size": 0}, "max_size must be 1 or more, not 0", None),
        (
            "E005",
            {"reconnect_timeout": 3},
            "reconnect_timeout belongs to the driver's own pool",
            'as long as "timeout" lets them',
        ),
        (
            "E008",
            {"native": {"max_size": 3}},
            "native: max_size cannot be passed on to psycopg_pool",
            None,
        ),
        (
            "E008",
            {"native": {"nonsense": 3}},
            "native: psycopg_pool refuses it:",
            None,
        ),
    ],
)
def test_options(
    id_: str, pool: Any, told: str, hint: str | None, make_alias: MakeAlias
) -> None:
    alias = make_alias("postgresql", pool=pool)
    message = only(alias)
    assert message.id == f"djpool.{id_}"
    assert message.is_serious()
    assert f"DATABASES['{alias}']['OPTIONS']['pool']: {told}" in message.msg
    if hint is not None:
        assert hint in (message.hint or "")
    # And who does not run the checks is told by the first connect.
    with pytest.raises(djpool.OptionsError) as caught:
        connections[alias].ensure_connection()
    assert told in str(caught.value)
    assert f"DATABASES['{alias}']" in str(caught.value)


def test_e006_conn_max_age(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", CONN_MAX_AGE=600)
    message = only(alias)
    assert message.id == "djpool.E006"
    assert "CONN_MAX_AGE must be 0 with a pool, not 600" in message.msg
    with pytest.raises(djpool.OptionsError, match="CONN_MAX_AGE must be 0"):
        connections[alias].ensure_connection()


def test_w001_an_in_memory_database_is_not_pooled(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", NAME=":memory:")
    message = only(alias)
    assert message.id == "djpool.W001"
    assert not message.is_serious()
    connections[alias].ensure_connection()
    assert alias not in djpool.stats()
    connections[alias].connection.close()  # Django never does


def test_w001_is_not_for_the_database_of_tests_in_memory(make_alias: MakeAlias) -> None:
    """Which Django's runner makes of a file, where nobody asked for anything else."""
    alias = make_alias("sqlite3")
    creation: Any = connections[alias].creation
    name = creation._get_test_db_name()
    connections[alias].settings_dict["NAME"] = name
    assert "mode=memory" in name
    assert messages(alias) == []


def test_every_mistake_is_told_at_once(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", pool={"maxsize": 3, "timeout": -1}, CONN_MAX_AGE=5)
    assert {message.id for message in messages(alias)} == {
        "djpool.E001",
        "djpool.E003",
        "djpool.E006",
    }


class Broken:
    """Has no text of its own."""

    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("max_size", SimpleLazyObject(lambda: 3), "max_size must be a whole number"),
        ("timeout", SimpleLazyObject(lambda: 3), "timeout must be a number of seconds"),
        ("timeout", 10**5000, "not a int"),
        ("max_size", -(10**5000), "not a int"),
        ("max_size", Broken(), "not a Broken"),
        ("release", Broken(), "not a Broken"),
    ],
    ids=["lazy size", "lazy time", "long time", "long size", "broken size", "broken"],
)
def test_a_value_that_is_not_what_it_seems(
    option: str, value: Any, told: str, make_alias: MakeAlias
) -> None:
    """A lazy object claims another's class; some values cannot be shown."""
    alias = make_alias("postgresql", pool={option: value})
    assert told in only(alias).msg
    with pytest.raises(djpool.OptionsError) as refusal:
        connections[alias].ensure_connection()
    assert told in str(refusal.value)


def test_a_database_s_own_checks_do_not_stop_for_it(tmp_path: Path) -> None:
    """Those of Django connect on MySQL, and all others would be lost."""
    pool = {"maxsize": 3, "timeout": -1}
    arguments = ("--database", "default")
    told = check(tmp_path, *arguments, apps=["djpool"], engine="mysql", pool=pool)
    assert told.count("(djpool.E001)") == told.count("(djpool.E003)") == 1, told
    assert "Traceback" not in told


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@pytest.mark.parametrize(
    "backend", ["sqlite3", "postgresql", "mysql", "mysql_connector", "oracle"]
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_stands_there_is_taken_or_told(
    backend: str, make_alias: MakeAlias, data: st.DataObject
) -> None:
    """No value makes the checks themselves fail, which are for every alias."""
    wrapper: Any = connections[make_alias(backend)]
    known = st.sampled_from([*KINDS, *wrapper.djpool_adapter.offer.keys])
    several = st.dictionaries(known, VALUES, min_size=1, max_size=3)
    pool = data.draw(several | VALUES | st.dictionaries(VALUES.filter(is_key), VALUES))
    wrapper.settings_dict["OPTIONS"]["pool"] = pool
    found = check_alias(wrapper)
    assert all(each.id and each.msg for each in found)
    if not isinstance(pool, (dict, str, bool, int, float, type(None))):
        assert [each.id for each in found] == ["djpool.E002"]


def is_key(value: object) -> bool:
    """Whether a dict can have it as its key."""
    return isinstance(value, Hashable)


@pytest.mark.parametrize("pool", [True, {"max_size": 3}, None, False])
def test_what_is_right_is_passed_over(pool: Any, make_alias: MakeAlias) -> None:
    assert not messages(make_alias("postgresql", pool=pool))


def test_checks_connect_to_nothing(make_alias: MakeAlias) -> None:
    alias = make_alias("postgresql", pool={"min_size": 3}, PORT="1")
    assert not messages(alias)
    with pytest.raises(OperationalError):
        connections[alias].ensure_connection()


PROJECT = """
    SECRET_KEY = "tests"
    USE_TZ = True
    INSTALLED_APPS = {apps}
    DATABASES = {{
        "default": {{
            "ENGINE": "djpool.backends.{engine}",
            "NAME": "shop.sqlite3",
            "OPTIONS": {{"pool": {pool}}},
        }}
    }}
"""


# A project with models that name no table of their own, as almost all have.
AUTH = ["django.contrib.auth", "django.contrib.contenttypes"]


def check(
    folder: Path,
    *arguments: str,
    apps: list[str],
    engine: str,
    pool: Any,
    without: tuple[str, ...] = (),
) -> str:
    """What `manage.py check` of a small project says, in a process of its own."""
    text = textwrap.dedent(PROJECT).format(apps=apps, engine=engine, pool=pool)
    (folder / "shop_settings.py").write_text(text)
    code = f"""
import sys
sys.modules |= dict.fromkeys({without!r})
from django.core.management import execute_from_command_line
execute_from_command_line()
"""
    run = subprocess.run(
        [sys.executable, "-c", code, "check", *arguments],
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stderr


@pytest.mark.parametrize(
    ("apps", "arguments"),
    [
        (["djpool"], ()),
        (["djpool"], ("--database", "default")),
        (AUTH, ()),
        (AUTH, ("--database", "default")),
        ([], ("--database", "default")),
    ],
)
def test_they_run_once_in_every_project(
    apps: list[str], arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """Also where "djpool" is not in INSTALLED_APPS, and never twice."""
    told = check(tmp_path, *arguments, apps=apps, engine="sqlite3", pool={"maxsize": 3})
    assert told.count("(djpool.E001)") == 1, told
    assert "Did you mean 'max_size'?" in told


@pytest.mark.parametrize(
    ("without", "told"),
    [
        (("psycopg", "psycopg2"), "Error loading psycopg2 or psycopg module"),
        (("psycopg_pool",), "needs psycopg_pool, which is not installed"),
    ],
)
def test_e007_a_missing_driver(
    without: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    text = check(
        tmp_path, apps=["djpool"], engine="postgresql", pool=True, without=without
    )
    assert "(djpool.E007)" in text
    assert told in text
