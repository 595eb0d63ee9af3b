"""What a pool over an adapter promises, one promise a test."""

from __future__ import annotations

import contextlib
import gc
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from djpool.core import (
    Driver,
    Lease,
    OptionsError,
    Pool,
    PoolBusy,
    PoolClosed,
    PoolOptions,
    PoolTimeout,
)
from djpool.core.adapter import Adapter, Connector
from djpool.core.session import Change
from djpool.testing.watch import (
    LONG,
    TABLE,
    Clock,
    Watch,
    until_waiting,
    wait_until,
    waiting,
)

MakePool = Callable[..., Pool]


class PoolConformance(ABC):
    """Inherit from it for each implementation that the adapter has.

    The pools of a test are on a clock that stands still, have no keeper, and are
    small. After each test they are counted out: whatever happened, `max_size`
    connections can be had again, and all are closed in the end.
    """

    # -- what the author says ------------------------------------------------

    #: What is tested.
    adapter: ClassVar[Adapter]
    #: The one of its implementations that is tested.
    implementation: ClassVar[str] = "fallback"
    #: Whether `Driver.peek()` finds a dead session. If not, the pools ask each time.
    looks: ClassVar[bool] = True
    #: Whether `Driver.at_rest()` can tell that a session is at rest.
    knows_rest: ClassVar[bool] = True
    #: A statement that asks the server for a row, and needs no table.
    select: ClassVar[str] = "SELECT 1"

    @pytest.fixture
    def connector(self) -> Connector:
        """How to connect: `connect(timeout)` gives a connection ready for use."""
        raise NotImplementedError(f"{type(self).__name__} has no fixture connector")

    @abstractmethod
    def kill_sessions(self) -> None:
        """End every session on the server, which goes on; its clients are not told."""

    def execute(self, connection: Any, statement: str) -> list[Any]:
        """Run a statement on a connection; its rows, if there are any."""
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def begin(self, connection: Any) -> None:
        """Begin a transaction in a session that is at rest."""
        self.execute(connection, "BEGIN")

    def set_manual(self, connection: Any) -> None:
        """Turn the connection's autocommit off."""
        connection.autocommit = False

    # -- how the tests are set up ------------------------------------------------

    @pytest.fixture
    def clock(self) -> Clock:
        """The pools' time."""
        return Clock()

    @pytest.fixture
    def watch(self) -> Watch:
        """Sees what the drivers of a test open and close."""
        return Watch()

    @pytest.fixture
    def make_pool(
        self, connector: Connector, clock: Clock, watch: Watch
    ) -> Iterator[MakePool]:
        """Gives `make_pool(**options)`."""
        made: list[Pool] = []

        def make(**options: Any) -> Pool:
            options = {
                "max_size": 2,
                "check": "auto" if self.looks else True,
                "implementation": self.implementation,
            } | options
            checked = PoolOptions(**options)
            driver, native = self.adapter.build(checked, connector)
            watch.over(driver)
            made.append(Pool(checked, driver, native, clock=clock))
            return made[-1]

        yield make
        for pool in made:
            try:
                if not pool.closed:
                    self._count_out(pool)
            finally:
                pool.close()
        assert watch.open == []

    @pytest.fixture
    def driver(self, connector: Connector, watch: Watch) -> Driver:
        """The driver's words, without a pool."""
        driver = self.adapter.driver(connector)
        watch.over(driver)
        return driver

    @pytest.fixture
    def connection(self, driver: Driver) -> Iterator[Any]:
        """A connection of that driver."""
        connection = driver.connect(LONG)
        yield connection
        # Some drivers raise if it is dead, or was closed already.
        with contextlib.suppress(Exception):
            driver.close(connection)

    @pytest.fixture
    def table(self, connector: Connector) -> Iterator[str]:
        """A table with one column `n` and no row."""
        with contextlib.closing(connector.connect(LONG)) as connection:
            self.execute(connection, f"CREATE TABLE {TABLE} (n INTEGER)")
        yield TABLE
        # Where a promise was not kept, a session may have it locked, for ever.
        self.kill_sessions()
        with contextlib.closing(connector.connect(LONG)) as connection:
            self.execute(connection, f"DROP TABLE {TABLE}")

    def _count_out(self, pool: Pool) -> None:
        before = pool.stats()
        assert before.in_use == before.opening == before.waiting == 0, before
        leases = [pool.acquire(timeout=LONG) for _ in range(before.max_size)]
        assert len({id(lease.connection) for lease in leases}) == before.max_size
        for lease in leases:
            self._ask(lease)
            lease.release()
        after = pool.stats()
        assert after.idle == after.size == after.max_size
        assert after.opened_total - sum(after.closed_total.values()) == after.size

    def _ask(self, lease: Lease) -> None:
        rows = self.execute(lease.connection, self.select)
        assert len(rows) == 1

    def _kill(self, watch: Watch) -> None:
        """Kill the sessions, and wait until their clients could see it."""
        self.kill_sessions()
        peek = watch.driver.peek
        if self.looks:
            wait_until(lambda: not any(map(peek, watch.open)), "looks to find it")

    # -- the driver's words ------------------------------------------------------

    def test_a_live_connection_answers(self, driver: Driver, connection: Any) -> None:
        assert driver.peek(connection)
        driver.ping(connection, LONG)
        assert driver.peek(connection)
        assert driver.at_rest(connection) is self.knows_rest

    def test_a_dead_one_does_not(
        self, driver: Driver, connection: Any, watch: Watch
    ) -> None:
        self._kill(watch)
        with _any_error():
            driver.ping(connection, LONG)

    def test_a_closed_one_is_no_surprise(self, driver: Driver, connection: Any) -> None:
        """Of these words two promise never to raise."""
        connection.close()
        assert driver.peek(connection) in {True, False}
        with _any_error():
            driver.ping(connection, LONG)

    def test_a_transaction_is_not_rest(self, driver: Driver, connection: Any) -> None:
        self.begin(connection)
        self.execute(connection, self.select)
        assert not driver.at_rest(connection)
        driver.tidy(connection, LONG)
        assert driver.at_rest(connection) is self.knows_rest

    def test_another_autocommit_is_not_rest(
        self, driver: Driver, connection: Any
    ) -> None:
        self.set_manual(connection)
        assert not driver.at_rest(connection)
        driver.tidy(connection, LONG)
        assert driver.at_rest(connection) is self.knows_rest

    def test_a_limit_is_put_beside_what_is_there(self) -> None:
        given: dict[str, Any] = {"user": "shop"}
        limited = self.adapter.limit(given, 7.0)
        assert limited["user"] == "shop"
        assert given == {"user": "shop"}

    # -- acquire -----------------------------------------------------------------

    def test_nothing_is_connected_until_somebody_asks(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool()
        assert pool.stats().size == 0
        assert watch.timeouts == []

    def test_a_released_connection_is_lent_again(self, make_pool: MakePool) -> None:
        pool = make_pool()
        first = pool.acquire()
        raw = first.connection
        self._ask(first)
        first.release()
        with pool.acquire() as again:
            assert again.connection is raw
            self._ask(again)
        assert pool.stats().opened_total == 1

    def test_leases_at_the_same_time_have_connections_of_their_own(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=2)
        with pool.acquire() as one, pool.acquire() as two:
            assert one.connection is not two.connection
            self.begin(one.connection)
            self._ask(two)
            self._ask(one)

    def test_an_ended_lease_does_nothing_any_more(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=1)
        ended = pool.acquire()
        ended.release()
        with pool.acquire() as lease:
            ended.release()
            ended.discard()
            ended.suspect()
            assert ended.connection is None
            self._ask(lease)

    def test_a_failed_connect_reaches_the_caller_and_costs_nothing(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool(max_size=2)
        watch.error = ConnectionRefusedError("the server is down")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError, match="the server is down"):
                pool.acquire()
        watch.error = None
        assert pool.stats().open_errors_total == 3
        assert pool.stats().size == 0

    # -- exhaustion and deadlines --------------------------------------------------

    def test_a_caller_in_vain_is_told_who_has_the_connections(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=1, name="shop")
        with pool.acquire():
            with pytest.raises(PoolTimeout, match="no connection came free") as caught:
                pool.acquire(timeout=0.01)
            assert threading.current_thread().name in str(caught.value)
            assert caught.value.stats.in_use == 1
        assert pool.stats().timeouts_total == 1

    def test_zero_is_not_to_queue_but_may_open(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=1)
        with pool.acquire(timeout=0), pytest.raises(PoolTimeout):
            pool.acquire(timeout=0)
        assert pool.stats().waited_total == 0

    def test_who_would_queue_beyond_max_waiting_is_told_at_once(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=1, max_waiting=1)
        held = pool.acquire()
        with waiting(pool) as became:
            with pytest.raises(PoolBusy):
                pool.acquire()
            held.release()
        _release(became)
        assert pool.stats().rejected_total == 1

    def test_what_queueing_took_is_missing_for_connecting(
        self, make_pool: MakePool, watch: Watch, clock: Clock
    ) -> None:
        """One deadline, everything included."""
        pool = make_pool(max_size=1)
        held = pool.acquire(timeout=20)
        with waiting(pool) as became:
            clock.pass_(7)
            held.discard()
        _release(became)
        assert watch.timeouts == [20, LONG - 7]

    def test_nobody_connects_after_the_deadline(
        self, make_pool: MakePool, watch: Watch, clock: Clock
    ) -> None:
        pool = make_pool(max_size=1)
        held = pool.acquire()
        with waiting(pool) as became:
            clock.pass_(LONG + 1)
            held.discard()
        assert [type(each) for each in became] == [PoolTimeout]
        assert len(watch.timeouts) == 1

    # -- order ---------------------------------------------------------------------

    def test_waiters_are_served_in_the_order_in_which_they_came(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=1)
        served: list[int] = []
        held = pool.acquire()

        def wait(number: int) -> None:
            with pool.acquire(timeout=LONG) as lease:
                self._ask(lease)
                served.append(number)

        threads = []
        for number in range(8):
            threads.append(threading.Thread(target=wait, args=[number], daemon=True))
            threads[-1].start()
            until_waiting(pool, number + 1)
        held.release()
        for thread in threads:
            thread.join(LONG)
        assert served == list(range(8))

    def test_nobody_overtakes_the_queue(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=1)
        held = pool.acquire()
        with waiting(pool) as became:
            held.release()
            with pytest.raises(PoolTimeout):
                pool.acquire(timeout=0)
        _release(became)

    # -- giving back and discarding ------------------------------------------------

    def test_an_open_transaction_is_rolled_back(
        self, table: str, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=1)
        with pool.acquire() as lease:
            self.begin(lease.connection)
            self.execute(lease.connection, f"INSERT INTO {table} VALUES (1)")
        with pool.acquire() as lease:
            assert self.execute(lease.connection, f"SELECT n FROM {table}") == []
        assert pool.stats().opened_total == 1

    def test_autocommit_is_on_again(self, table: str, make_pool: MakePool) -> None:
        pool = make_pool(max_size=2)
        with pool.acquire() as lease:
            self.set_manual(lease.connection)
            self.execute(lease.connection, f"INSERT INTO {table} VALUES (1)")
        with pool.acquire() as lease:
            self.execute(lease.connection, f"INSERT INTO {table} VALUES (2)")
            with pool.acquire() as other:
                rows = self.execute(other.connection, f"SELECT n FROM {table}")
                assert [tuple(row) for row in rows] == [(2,)]

    def test_a_failed_transaction_is_no_burden_for_the_next(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool(max_size=1)
        with pool.acquire() as lease:
            self.begin(lease.connection)
            with _any_error():
                self.execute(lease.connection, "SELECT nonsense FROM nowhere")
        with pool.acquire() as lease:
            self._ask(lease)

    def test_a_session_that_was_changed_is_restored_or_closed(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool()
        with pool.acquire() as lease:
            self.execute(lease.connection, self.select)
            lease.changed(Change.SETTINGS)
        stats = pool.stats()
        assert stats.resets_total + stats.closed_total["reset"] == 1
        assert stats.in_use == 0
        with pool.acquire() as lease:
            assert self.execute(lease.connection, self.select)

    def test_a_query_changes_no_session(self, driver: Driver) -> None:
        assert driver.changes(self.select) == 0

    def test_a_discarded_connection_is_closed(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool()
        with pool.acquire() as kept:
            lease = pool.acquire()
            lease.discard()
            assert watch.open == [kept.connection]
            assert pool.stats().size == 1

    def test_its_place_is_given_away_after_it_is_closed(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        """So that the server never sees more than max_size."""
        pool = make_pool(max_size=1)
        held = pool.acquire()
        with waiting(pool) as became:
            held.discard()
        _release(became)
        assert watch.most == 1

    def test_a_forgotten_lease_is_taken_back(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=1)
        self.begin(pool.acquire().connection)  # nobody refers to the lease any more
        gc.collect()
        with pool.acquire(timeout=LONG) as lease:
            self._ask(lease)
        assert pool.stats().reclaimed_total == 1

    # -- broken connections --------------------------------------------------------

    def test_a_dead_idle_connection_is_not_lent(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool()
        pool.acquire().release()
        self._kill(watch)
        with pool.acquire() as lease:
            self._ask(lease)
        assert pool.stats().closed_total["broken"] == 1

    def test_after_one_dead_connection_no_caller_finds_the_next(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool(max_size=3)
        _release([pool.acquire() for _ in range(3)])
        self._kill(watch)
        for _ in range(3):
            with pool.acquire() as lease:
                self._ask(lease)
        stats = pool.stats()
        assert stats.closed_total["broken"] == 3
        assert stats.opened_total == 4

    def test_after_a_rest_it_is_pinged_and_kept(
        self, make_pool: MakePool, clock: Clock
    ) -> None:
        pool = make_pool(check="auto", check_after=30, max_idle=None)
        pool.acquire().release()
        clock.pass_(31)
        with pool.acquire() as lease:
            self._ask(lease)
        stats = pool.stats()
        assert (stats.checks_total, stats.check_failures_total) == (1, 0)
        assert stats.opened_total == 1

    def test_a_ping_leaves_nothing_behind(
        self, table: str, make_pool: MakePool
    ) -> None:
        """No transaction, above all, in which the next statement would run."""
        pool = make_pool(check=True, max_size=2)
        pool.acquire().release()
        with pool.acquire() as lease, pool.acquire() as other:
            self.execute(lease.connection, f"INSERT INTO {table} VALUES (1)")
            assert len(self.execute(other.connection, f"SELECT n FROM {table}")) == 1

    def test_one_that_dies_in_use_is_not_lent_again(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool()
        with pool.acquire():
            self._kill(watch)
        with pool.acquire() as lease:
            self._ask(lease)
        assert pool.stats().closed_total["broken"] == 1

    def test_one_that_dies_in_a_transaction_is_given_back_without_an_error(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool()
        with pool.acquire() as lease:
            self.begin(lease.connection)
            self.execute(lease.connection, self.select)
            self._kill(watch)
        with pool.acquire() as lease:
            self._ask(lease)
        assert pool.stats().closed_total["broken"] == 1

    def test_one_that_its_borrower_closed_is_replaced(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool()
        with pool.acquire() as lease:
            lease.connection.close()
        with pool.acquire() as lease:
            self._ask(lease)
        assert pool.stats().closed_total["broken"] == 1

    # -- expiry and upkeep ---------------------------------------------------------

    def test_an_expired_connection_is_not_lent(
        self, make_pool: MakePool, clock: Clock
    ) -> None:
        pool = make_pool(max_lifetime=100)
        pool.acquire().release()
        clock.pass_(101)
        with pool.acquire() as lease:
            self._ask(lease)
        assert pool.stats().closed_total["lifetime"] == 1

    def test_one_that_expires_in_use_is_closed_on_return(
        self, make_pool: MakePool, watch: Watch, clock: Clock
    ) -> None:
        pool = make_pool(max_lifetime=100)
        with pool.acquire() as lease:
            clock.pass_(101)
            self._ask(lease)
        assert watch.open == []

    def test_what_nobody_used_for_max_idle_is_closed_above_min_size(
        self, make_pool: MakePool, watch: Watch, clock: Clock
    ) -> None:
        pool = make_pool(min_size=1, max_size=3, max_idle=60, max_lifetime=None)
        _release([pool.acquire() for _ in range(3)])
        clock.pass_(61)
        pool.maintain()
        assert len(watch.open) == pool.stats().idle == 1
        assert pool.stats().closed_total["idle"] == 2

    def test_min_size_connections_are_opened_and_kept(
        self, make_pool: MakePool, watch: Watch, clock: Clock
    ) -> None:
        pool = make_pool(min_size=2, max_idle=60, max_lifetime=None)
        pool.maintain()
        assert pool.stats().idle == 2
        clock.pass_(1000)
        pool.maintain()
        assert pool.stats().idle == len(watch.open) == len(watch.timeouts) == 2

    # -- control -------------------------------------------------------------------

    def test_a_larger_max_size_lets_waiters_in(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=1)
        held = pool.acquire()
        with waiting(pool) as became:
            pool.resize(max_size=2)
        _release([held, *became])

    def test_a_smaller_max_size_closes_what_is_surplus(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool(max_size=3)
        leases = [pool.acquire() for _ in range(3)]
        leases.pop().release()
        pool.resize(max_size=1)
        assert pool.stats().size == len(watch.open) == 2
        _release(leases)
        assert pool.stats().size == len(watch.open) == 1

    def test_a_resize_out_of_bounds_is_refused(self, make_pool: MakePool) -> None:
        pool = make_pool(max_size=2)
        with pytest.raises(OptionsError, match="max_size must be 1 or more, not 0"):
            pool.resize(max_size=0)
        assert pool.stats().max_size == 2

    def test_drain_replaces_idle_ones_at_once_and_others_when_they_come_back(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool()
        used, idle = pool.acquire(), pool.acquire()
        idle.release()
        pool.drain()
        assert pool.stats().size == 1
        with pool.acquire() as fresh:
            self._ask(fresh)
            used.release()
        assert pool.stats().closed_total["evicted"] == 2
        assert pool.stats().opened_total == 3

    def test_a_suspended_pool_takes_back_and_lends_nothing(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool()
        held = pool.acquire()
        pool.suspend()
        held.release()
        with pytest.raises(PoolTimeout, match="the pool is suspended"):
            pool.acquire(timeout=0)
        with waiting(pool, 2) as became:
            pool.resume()
        _release(became)

    def test_a_closed_pool_sends_everybody_away(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool(max_size=2)
        held, idle = pool.acquire(), pool.acquire()
        with waiting(pool, 2) as became:
            pool.resize(max_size=1)
            idle.release()
            pool.close()
        assert [type(each) for each in became] == [PoolClosed, PoolClosed]
        assert len(watch.open) == 1
        self._ask(held)
        held.release()
        assert watch.open == []
        pool.close()
        with pytest.raises(PoolClosed):
            pool.acquire()

    # -- statistics and limits -----------------------------------------------------

    def test_statistics_add_up(self, make_pool: MakePool, clock: Clock) -> None:
        pool = make_pool(name="shop")
        with pool.acquire():
            clock.pass_(0.25)
            with pool.acquire():
                clock.pass_(0.5)
        pool.acquire().discard()
        stats = pool.stats()
        assert (stats.name, stats.implementation) == ("shop", self.implementation)
        assert stats.acquired_total == stats.wait_seconds.count == 3
        assert stats.use_seconds.count == 3
        assert stats.use_seconds_total == pytest.approx(1.25)
        assert stats.opened_total == stats.open_seconds.count == 2
        assert stats.closed_total["broken"] == 1
        assert (stats.size, stats.idle, stats.in_use) == (1, 1, 0)

    def test_the_native_pool_is_there_where_it_is_used(
        self, make_pool: MakePool
    ) -> None:
        pool = make_pool()
        with pool.acquire():
            assert (pool.native is not None) is (self.implementation == "native")

    def test_many_threads_never_have_more_than_max_size(
        self, make_pool: MakePool, watch: Watch
    ) -> None:
        pool = make_pool(max_size=3)
        used: set[int] = set()
        wrong: list[BaseException] = []

        def work() -> None:
            try:
                for turn in range(8):
                    with pool.acquire(timeout=LONG) as lease:
                        number = id(lease.connection)
                        assert number not in used, "a connection has two users"
                        used.add(number)
                        self._ask(lease)
                        used.remove(number)
                        if turn == 4:
                            lease.discard()
            except BaseException as error:  # noqa: BLE001 (shown at the end)
                wrong.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert wrong == []
        assert watch.most <= 3
        assert pool.stats().acquired_total == 48


def _any_error() -> Any:
    return pytest.raises(Exception)  # noqa: PT011 (each driver has its own)


def _release(leases: list[Any]) -> None:
    assert all(isinstance(lease, Lease) for lease in leases), leases
    for lease in leases:
        lease.release()
