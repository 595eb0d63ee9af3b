"""What receivers of `connection_created` put on a connection is on each that leases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.signals import connection_created

import djpool
from tests.backends.conftest import MakeAlias, pooled
from tests.backends.kinds import run


@pytest.fixture(params=["request", "transaction"])
def alias(engine: str, make_alias: MakeAlias, request: pytest.FixtureRequest) -> str:
    """An alias with a pool of two, in both modes."""
    return pooled(engine, make_alias, max_size=2, timeout=20, release=request.param)


@pytest.fixture
def receive() -> Iterator[Callable[[Callable[[Any], None]], None]]:
    """Connects a receiver for the test."""
    receivers: list[Any] = []

    def connect(receiver: Callable[[Any], None]) -> None:
        def receive(connection: Any, **_kwargs: Any) -> None:
            receiver(connection)

        receivers.append(receive)
        connection_created.connect(receive)

    yield connect
    for receiver in receivers:
        connection_created.disconnect(receiver)


Receive = Callable[[Callable[[Any], None]], None]


def select(wrapper: Any) -> str:
    return "SELECT 1 FROM DUAL" if wrapper.vendor == "oracle" else "SELECT 1"


def in_threads(alias: str, work: Callable[[Any], Any]) -> list[Any]:
    """Do something in three threads, one after the other, and here."""
    found: list[Any] = []

    def there() -> None:
        found.append(work(connections[alias]))
        connections[alias].close()

    for _ in range(3):
        thread = threading.Thread(target=there)
        thread.start()
        thread.join(30)
    there()
    return found


def recorder(seen: list[str], name: str) -> Callable[..., Any]:
    """A wrapper of execute() that notes its name in `seen` for each statement."""

    def wrap(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        seen.append(name)
        return execute(sql, params, many, context)

    return wrap


def test_a_receiver_cannot_turn_autocommit_off(alias: str, receive: Receive) -> None:
    """Which each lease takes from the settings: the receiver's error says so."""
    receive(lambda connection: connection.set_autocommit(False))
    with pytest.raises(ImproperlyConfigured) as refusal:
        connections[alias].ensure_connection()
    assert f"set DATABASES['{alias}']['AUTOCOMMIT'] to False" in str(refusal.value)
    assert djpool.stats(alias).size == 0


def test_a_receiver_may_turn_autocommit_off_for_a_while(
    alias: str, receive: Receive
) -> None:
    def ask(connection: Any) -> None:
        connection.set_autocommit(False)
        run(connection, select(connection))
        connection.rollback()
        connection.set_autocommit(True)

    receive(ask)
    assert in_threads(alias, lambda wrapper: wrapper.get_autocommit()) == [True] * 4


def test_execute_wrappers(alias: str, receive: Receive) -> None:
    """In the order in which they were put there, and once for each statement."""
    seen: list[str] = []

    first, second = recorder(seen, "first"), recorder(seen, "second")

    def install(connection: Any) -> None:
        for each in (first, second):
            if each not in connection.execute_wrappers:
                connection.execute_wrappers.append(each)

    receive(install)

    def ask(wrapper: Any) -> list[str]:
        wrapper.ensure_connection()
        seen.clear()
        for _ in range(2):
            run(wrapper, select(wrapper))
            wrapper.close()
        return list(seen)

    assert in_threads(alias, ask) == [["first", "second"] * 2] * 4
    djpool.pool(alias).drain()
    assert in_threads(alias, ask) == [["first", "second"] * 2] * 4


def test_a_refusal_holds_in_every_thread(alias: str, receive: Receive) -> None:
    """A read-only switch, say."""

    def refuse(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        if sql.startswith(("INSERT", "CREATE")):
            raise PermissionError(sql)
        return execute(sql, params, many, context)

    receive(lambda connection: connection.execute_wrappers.append(refuse))

    def write(wrapper: Any) -> str:
        wrapper.ensure_connection()
        try:
            run(wrapper, "CREATE TABLE djpool_refused (a integer)")
        except PermissionError:
            return "refused"
        return "written"

    assert in_threads(alias, write) == ["refused"] * 4


def test_attributes(alias: str, receive: Receive) -> None:
    """What a Django connection has of its own stays."""

    def install(connection: Any) -> None:
        connection.shop_name = "books"
        connection.force_debug_cursor = True

    receive(install)

    def look(wrapper: Any) -> tuple[str, bool]:
        wrapper.ensure_connection()
        return wrapper.shop_name, wrapper.force_debug_cursor

    assert in_threads(alias, look) == [("books", True)] * 4

    def own(wrapper: Any) -> str:
        wrapper.ensure_connection()
        wrapper.shop_name = "mine"
        wrapper.close()
        wrapper.ensure_connection()
        return str(wrapper.shop_name)

    assert in_threads(alias, own) == ["mine"] * 4


def test_a_block_of_the_project_s_takes_its_own_wrapper_off_again(
    alias: str, receive: Receive
) -> None:
    """And no hook that was put there meanwhile, though the block takes the last one."""
    seen: list[str] = []

    hook, mine = recorder(seen, "hook"), recorder(seen, "mine")

    def install(connection: Any) -> None:
        if hook not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, hook)

    receive(install)

    def ask(wrapper: Any) -> list[str]:
        seen.clear()
        with wrapper.execute_wrapper(mine):
            run(wrapper, select(wrapper))
        run(wrapper, select(wrapper))
        return list(seen)

    assert in_threads(alias, ask) == [["hook", "mine", "hook"]] * 4
