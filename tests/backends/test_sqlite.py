"""What is SQLite's own: files that change, journals, and no server at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.signals import connection_created

import djpool
from tests.backends.conftest import MakeAlias


def run(alias: str, sql: str) -> Any:
    """A statement on a lease of its own; the rows."""
    wrapper = connections.create_connection(alias)
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
    wrapper.close()
    return rows


def test_a_replaced_file_is_noticed(make_alias: MakeAlias, tmp_path: Path) -> None:
    """An open connection would go on writing to the file that is gone."""
    alias = make_alias("sqlite3", NAME=str(tmp_path / "shop.db"))
    run(alias, "CREATE TABLE old (n)")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE new (n)")
    other.close()
    (tmp_path / "other.db").replace(tmp_path / "shop.db")
    assert run(alias, "SELECT name FROM sqlite_master") == [("new",)]
    assert djpool.stats(alias).closed_total["broken"] == 1


def test_a_deleted_file_is_noticed(make_alias: MakeAlias, tmp_path: Path) -> None:
    alias = make_alias("sqlite3", NAME=str(tmp_path / "shop.db"))
    run(alias, "CREATE TABLE gone (n)")
    (tmp_path / "shop.db").unlink()
    assert run(alias, "SELECT name FROM sqlite_master") == []
    assert (tmp_path / "shop.db").exists()


@pytest.mark.parametrize(
    "name",
    [":memory:", "file:shop?mode=memory&cache=shared", "file::memory:?cache=shared"],
)
def test_in_memory_databases_are_left_to_django(
    make_alias: MakeAlias, name: str
) -> None:
    alias = make_alias("sqlite3", NAME=name)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
    assert alias not in djpool.stats()
    connections[alias].connection.close()  # Django does not, with most of these


def test_options_reach_the_driver_and_the_pool_does_not(
    make_alias: MakeAlias, tmp_path: Path
) -> None:
    alias = make_alias(
        "sqlite3",
        NAME=tmp_path / "a path.db",
        OPTIONS={
            "timeout": 7,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=wal; PRAGMA cache_size=-1234",
        },
    )
    for _ in range(2):  # opened, and lent again
        assert run(alias, "PRAGMA journal_mode") == [("wal",)]
        assert run(alias, "PRAGMA cache_size") == [(-1234,)]
        wrapper = connections.create_connection(alias)
        wrapper.ensure_connection()
        assert wrapper.transaction_mode == "IMMEDIATE"  # type: ignore[attr-defined]
        wrapper.close()
    assert djpool.stats(alias).opened_total == 1


def test_foreign_keys_and_functions_are_there_on_every_lease(
    make_alias: MakeAlias,
) -> None:
    alias = make_alias("sqlite3")
    for _ in range(3):
        assert run(alias, "PRAGMA foreign_keys") == [(1,)]
        assert run(alias, "SELECT 'abc' REGEXP 'b'") == [(1,)]


def test_a_pragma_set_by_a_receiver_of_connection_created_is_set_once(
    make_alias: MakeAlias,
) -> None:
    ran = []

    def speed_up(connection: Any, **kwargs: Any) -> None:
        ran.append(connection)
        connection.cursor().execute("PRAGMA synchronous = OFF")

    connection_created.connect(speed_up)
    try:
        alias = make_alias("sqlite3")
        for _ in range(5):
            assert run(alias, "PRAGMA synchronous") == [(0,)]
    finally:
        connection_created.disconnect(speed_up)
    assert len(ran) == 1


def test_a_lock_held_by_another_is_django_s_error(make_alias: MakeAlias) -> None:
    alias = make_alias("sqlite3", OPTIONS={"timeout": 0})
    run(alias, "CREATE TABLE t (n)")
    holder = connections.create_connection(alias)
    holder.cursor().execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="database is locked"):
        run(alias, "INSERT INTO t VALUES (1)")
    holder.close()  # which rolls back
    run(alias, "INSERT INTO t VALUES (2)")
    assert run(alias, "SELECT n FROM t") == [(2,)]
