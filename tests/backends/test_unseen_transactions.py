"""A transaction that no text shows, and no driver tells of, is not the next lease's.

The server tells PyMySQL and Connector/Python of it with each answer; mysqlclient keeps
that to itself.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections

import djpool
from djpool.testing.watch import wait_until
from tests.backends.conftest import MakeAlias, pooled, raw_of
from tests.backends.engines import CONNECTOR, MYSQL, engine_of
from tests.backends.kinds import run

BEGINNINGS = [
    "BEGIN",
    "START/**/TRANSACTION",
    "START\tTRANSACTION READ WRITE",
    "# a comment\nSTART TRANSACTION",
    "-- a comment\n/* another */BEGIN",
    "COMMIT/**/AND CHAIN",
    "COMMIT WORK AND CHAIN NO RELEASE",
    "ROLLBACK /* x */ AND/**/CHAIN",
    "/*! START TRANSACTION */",
    "/*!50000 BEGIN */",
    "CALL djpool_begins()",
    "SELECT 1; BEGIN",
    "SET completion_type = CHAIN; COMMIT",
    "SET @@completion_type = 1; ROLLBACK",
]


@pytest.fixture
def alias(engine: str, release: str, reset: str, make_alias: MakeAlias) -> Any:
    alias = pooled(
        engine, make_alias, max_size=1, timeout=20, release=release, reset=reset
    )
    wrapper: Any = connections[alias]
    run(wrapper, "DROP PROCEDURE IF EXISTS djpool_begins")
    run(wrapper, "CREATE PROCEDURE djpool_begins() BEGIN START TRANSACTION; END")
    run(wrapper, "CREATE TABLE djpool_money (amount integer) ENGINE=InnoDB")
    wrapper.close()
    yield alias
    run(wrapper, "DROP TABLE djpool_money")
    run(wrapper, "DROP PROCEDURE djpool_begins")
    wrapper.close()


def come_back(alias: str) -> None:
    connections[alias].close()
    wait_until(lambda: djpool.stats(alias).in_use == 0, "it to come back")


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("reset", ["auto", "never"])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_an_acknowledged_row_is_kept(alias: str, beginning: str) -> None:
    wrapper: Any = connections[alias]
    run(wrapper, beginning)
    come_back(alias)
    run(wrapper, "INSERT INTO djpool_money VALUES (42)")  # autocommit: it is done
    come_back(alias)
    run(wrapper, "ROLLBACK")
    come_back(alias)
    djpool.pool(alias).drain()
    assert [tuple(row) for row in run(wrapper, "SELECT * FROM djpool_money")] == [(42,)]


def assert_a_row_is_kept(alias: str) -> None:
    wrapper: Any = connections[alias]
    come_back(alias)
    run(wrapper, "INSERT INTO djpool_money VALUES (42)")
    come_back(alias)
    run(wrapper, "ROLLBACK AND NO CHAIN")
    come_back(alias)
    djpool.pool(alias).drain()
    assert [tuple(row) for row in run(wrapper, "SELECT * FROM djpool_money")] == [(42,)]


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("reset", ["auto", "never"])
def test_a_commit_of_the_driver_s_may_begin_one(alias: str, reset: str) -> None:
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        run(wrapper, "SET completion_type = CHAIN")
        wrapper.commit()
    if reset == "never":
        # The next lease has that setting, too, and does not know of it.
        come_back(alias)
        with djpool.hold(alias):
            run(wrapper, "SELECT 1")
            wrapper.commit()
    assert_a_row_is_kept(alias)


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("reset", ["auto", "never"])
def test_it_may_do_so_from_the_beginning(
    engine: str, release: str, reset: str, make_alias: MakeAlias
) -> None:
    """The connection was told so when it was opened."""
    alias = make_alias(
        engine,
        pool=engine_of(engine).pool
        | {"max_size": 1, "timeout": 20, "release": release, "reset": reset},
        OPTIONS={"init_command": "SET completion_type = CHAIN"},
    )
    wrapper: Any = connections[alias]
    run(wrapper, "CREATE TABLE djpool_money (amount integer) ENGINE=InnoDB")
    come_back(alias)
    with djpool.hold(alias):
        wrapper.commit()
        run(wrapper, "INSERT INTO djpool_money VALUES (41)")  # in the next transaction
    come_back(alias)
    run(wrapper, "INSERT INTO djpool_money VALUES (42)")
    come_back(alias)
    run(wrapper, "ROLLBACK AND NO CHAIN")
    assert [tuple(row) for row in run(wrapper, "SELECT * FROM djpool_money")] == [(42,)]
    run(wrapper, "DROP TABLE djpool_money")
    wrapper.close()


@pytest.mark.parametrize("engine", [*MYSQL, *CONNECTOR])
@pytest.mark.parametrize("reset", ["auto"])
@pytest.mark.parametrize("release", ["transaction"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "INSERT INTO djpool_money VALUES (1)",
        "UPDATE djpool_money SET amount = 2",
        "DELETE FROM djpool_money",
        "SHOW TABLES",
        "COMMIT",
        "ROLLBACK",
    ],
)
def test_what_is_known_to_leave_none_costs_none(alias: str, statement: str) -> None:
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        run(wrapper, statement)
        assert not djpool.pool(alias).in_transaction(raw_of(wrapper))
    assert djpool.stats(alias).in_use == 0
    assert djpool.stats(alias).resets_total <= 2  # those of the table and procedure


@pytest.mark.parametrize("engine", MYSQL)
@pytest.mark.parametrize("reset", ["never"])
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_what_the_driver_s_own_cursor_began_ends_with_the_lease(alias: str) -> None:
    """Nothing is known of the statement, which djpool does not see."""
    wrapper: Any = connections[alias]
    with djpool.hold(alias):
        with wrapper.cursor() as cursor:
            cursor.cursor.execute("START TRANSACTION")
        run(wrapper, "SELECT 1")
    come_back(alias)
    run(wrapper, "INSERT INTO djpool_money VALUES (42)")
    come_back(alias)
    run(wrapper, "ROLLBACK")
    come_back(alias)
    assert [tuple(row) for row in run(wrapper, "SELECT * FROM djpool_money")] == [(42,)]
