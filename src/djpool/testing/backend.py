"""What a backend with a pool promises to Django, one promise a test."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.core.signals import request_finished
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from djpool.api import stats
from djpool.checks import check_alias
from djpool.errors import OptionsError, PoolTimeout
from djpool.hooks import DJANGO_S_OWN
from djpool.signals import lease_acquired, lease_released
from djpool.testing.watch import LONG, TABLE, wait_until

MakeAlias = Callable[..., str]
MakeWrapper = Callable[[], BaseDatabaseWrapper]


class BackendConformance:
    """Inherit from it for each ENGINE. Django must be set up by then."""

    # -- what the author says --------------------------------------------------

    #: A statement that asks the server for a row, and needs no table.
    select: ClassVar[str] = "SELECT 1"
    #: Attributes of a connected Django connection that one which leases can do
    #: without: it works them out when asked, or only a physical connect needs them.
    dispensable: ClassVar[frozenset[str]] = frozenset(
        {"timezone", "timezone_name", "init_commands"}
    )

    @pytest.fixture
    def make_alias(self) -> MakeAlias:
        """Gives `make_alias(pool)`: the name of a new alias with this pool option."""
        raise NotImplementedError(f"{type(self).__name__} has no fixture make_alias")

    # -- how the tests are set up ------------------------------------------------

    @pytest.fixture
    def alias(self, make_alias: MakeAlias) -> str:
        """An alias with a pool of two."""
        return make_alias({"max_size": 2})

    @pytest.fixture
    def new_wrapper(self, alias: str) -> Iterator[MakeWrapper]:
        """Makes Django connections to the alias, a new one each time, as ASGI does."""
        made: list[BaseDatabaseWrapper] = []

        def make() -> BaseDatabaseWrapper:
            made.append(connections.create_connection(alias))
            return made[-1]

        yield make
        for wrapper in made:
            wrapper.close()

    @pytest.fixture
    def table(self, make_alias: MakeAlias) -> Iterator[str]:
        """A table with one column `n` and no row.

        Wanted before `alias` and `new_wrapper`, so that it goes after them.
        """
        stock = connections.create_connection(make_alias(None))
        self.execute(stock, f"CREATE TABLE {TABLE} (n INTEGER)")
        yield TABLE
        self.execute(stock, f"DROP TABLE {TABLE}")
        stock.close()

    def execute(self, wrapper: BaseDatabaseWrapper, statement: str) -> list[Any]:
        """Run a statement on a Django connection; its rows, if there are any."""
        with wrapper.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def ask(self, wrapper: BaseDatabaseWrapper) -> None:
        """Have the server answer."""
        assert len(self.execute(wrapper, self.select)) == 1

    def wait_until_back(self, alias: str) -> None:
        """Wait until all are: another thread may be restoring a session."""
        wait_until(lambda: stats(alias).in_use == 0, "the lease to come back")

    # -- leases --------------------------------------------------------------------

    def test_a_query_leases_and_close_gives_back(self, alias: str) -> None:
        self.ask(connections[alias])
        assert stats(alias).in_use == 1
        connections[alias].close()
        assert connections[alias].connection is None
        self.wait_until_back(alias)
        figures = stats(alias)
        assert (figures.idle, figures.size) == (1, 1)

    def test_the_end_of_a_request_gives_back(self, alias: str) -> None:
        self.ask(connections[alias])
        request_finished.send(sender=None)
        self.wait_until_back(alias)

    def test_new_django_connections_share_a_physical_one(
        self, alias: str, new_wrapper: MakeWrapper
    ) -> None:
        raw = set()
        for _ in range(5):
            wrapper: Any = new_wrapper()
            self.ask(wrapper)
            # Not by `connection`: whoever looks there may have changed the session.
            raw.add(id(wrapper.djpool_lease.connection))
            wrapper.close()
        assert len(raw) == 1
        assert stats(alias).opened_total == 1

    def test_what_connecting_sets_is_there_without_connecting(
        self, make_alias: MakeAlias, new_wrapper: MakeWrapper
    ) -> None:
        """Whether the connection is new, or was idle."""
        stock = connections.create_connection(make_alias(None))
        stock.ensure_connection()
        wanted = vars(stock).keys() - DJANGO_S_OWN - self.dispensable
        stock.close()
        for _ in range(2):
            wrapper = new_wrapper()
            wrapper.ensure_connection()
            assert wanted - vars(wrapper).keys() == set()
            wrapper.close()

    def test_signals(self, new_wrapper: MakeWrapper) -> None:
        """`connection_created` once for a physical connection, ours for each lease."""
        heard: list[str] = []

        def on_created(**kwargs: Any) -> None:
            heard.append("created")

        def on_acquired(**kwargs: Any) -> None:
            heard.append("acquired")

        def on_released(connection: Any, **kwargs: Any) -> None:
            self.ask(connection)
            heard.append("released")

        with (
            _connected(connection_created, on_created),
            _connected(lease_acquired, on_acquired),
            _connected(lease_released, on_released),
        ):
            for _ in range(2):
                wrapper = new_wrapper()
                self.ask(wrapper)
                wrapper.close()
        lease = ["acquired", "released"]
        assert heard == ["created", *lease, *lease]

    def test_a_collected_django_connection_gives_its_lease_back(
        self, alias: str
    ) -> None:
        self.ask(connections.create_connection(alias))
        gc.collect()
        wait_until(lambda: stats(alias).in_use == 0, "the lease to be found")
        assert stats(alias).reclaimed_total == 1

    def test_threads_share_few_connections(self, alias: str) -> None:
        wrong: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(5):
                    self.ask(connections[alias])
                    connections[alias].close()
            except BaseException as error:  # noqa: BLE001 (shown at the end)
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert wrong == []
        self.wait_until_back(alias)
        figures = stats(alias)
        assert figures.opened_total <= 2
        assert figures.acquired_total == 30

    # -- transactions --------------------------------------------------------------

    def test_atomic_commits_and_rolls_back(
        self, table: str, alias: str, new_wrapper: MakeWrapper
    ) -> None:
        with transaction.atomic(using=alias):
            self.execute(connections[alias], f"INSERT INTO {table} VALUES (1)")
        with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=alias):
            self.execute(connections[alias], f"INSERT INTO {table} VALUES (2)")
            raise ZeroDivisionError
        connections[alias].close()
        rows = self.execute(new_wrapper(), f"SELECT n FROM {table}")
        assert [tuple(row) for row in rows] == [(1,)]

    def test_what_was_left_open_is_rolled_back(
        self, table: str, alias: str, new_wrapper: MakeWrapper
    ) -> None:
        wrapper = new_wrapper()
        wrapper.set_autocommit(False)
        self.execute(wrapper, f"INSERT INTO {table} VALUES (1)")
        wrapper.close()
        other = new_wrapper()
        assert other.get_autocommit() is True
        assert self.execute(other, f"SELECT n FROM {table}") == []
        assert stats(alias).opened_total == 1

    def test_closing_inside_atomic_lets_go_of_the_connection(self, alias: str) -> None:
        wrapper = connections[alias]

        def close_and_go_on() -> None:
            with transaction.atomic(using=alias):
                self.ask(wrapper)
                wrapper.close()
                assert wrapper.connection is None
                self.wait_until_back(alias)
                self.ask(wrapper)

        with pytest.raises(DatabaseError):
            close_and_go_on()
        self.ask(wrapper)

    # -- errors --------------------------------------------------------------------

    def test_a_failed_statement_is_no_burden_for_the_next_lease(
        self, new_wrapper: MakeWrapper
    ) -> None:
        wrapper = new_wrapper()
        with pytest.raises(DatabaseError):
            self.execute(wrapper, "SELECT nonsense FROM nowhere")
        wrapper.close()
        self.ask(new_wrapper())

    def test_a_connection_closed_behind_its_back_is_replaced(
        self, alias: str, new_wrapper: MakeWrapper
    ) -> None:
        wrapper = new_wrapper()
        self.ask(wrapper)
        wrapper.connection.close()
        wrapper.close()
        self.ask(new_wrapper())
        assert stats(alias).closed_total["broken"] == 1

    def test_a_cursor_ends_with_its_lease(self, new_wrapper: MakeWrapper) -> None:
        wrapper = new_wrapper()
        cursor = wrapper.cursor()
        wrapper.close()
        with pytest.raises(InterfaceError):
            cursor.execute(self.select)

    def test_exhaustion_is_an_operational_error(self, make_alias: MakeAlias) -> None:
        alias = make_alias({"max_size": 1, "timeout": 0.05})
        holder, other = (connections.create_connection(alias) for _ in range(2))
        self.ask(holder)
        with pytest.raises(OperationalError, match="no connection came free") as caught:
            other.ensure_connection()
        assert isinstance(caught.value, PoolTimeout)
        holder.close()

    # -- settings ------------------------------------------------------------------

    def test_with_the_pool_off_the_backend_is_the_stock_one(
        self, make_alias: MakeAlias
    ) -> None:
        alias = make_alias(None)
        self.ask(connections[alias])
        assert alias not in stats()
        connections[alias].close()

    def test_wrong_options_are_named(self, make_alias: MakeAlias) -> None:
        alias = make_alias({"max_sise": 3})
        with pytest.raises(OptionsError, match="max_sise"):
            connections[alias].ensure_connection()
        wrapper: Any = connections[alias]
        assert [each.id for each in check_alias(wrapper)] == ["djpool.E001"]


@contextlib.contextmanager
def _connected(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)
