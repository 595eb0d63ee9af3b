"""A driver in memory, with switches for everything that can go wrong."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from djpool.core import Driver, Pool, PoolOptions
from djpool.core.session import Change


class Connection:
    """Counts itself on its server; knows whether two threads use it at once."""

    numbers = itertools.count(1)

    def __init__(self, server: Server) -> None:
        self.server = server
        self.number = next(self.numbers)
        self.closed = False
        self.dead = False
        self.in_transaction = False
        self.state: str | None = (
            None  # what a session holds that was not there at first
        )
        self.users = 0
        server.opened(self)

    def use(self) -> None:
        """Be used by somebody; two at once are a failure of the pool."""
        self.users += 1
        assert self.users == 1, f"connection {self.number} has two users"
        assert not self.closed, f"connection {self.number} is closed"
        self.users -= 1

    def close(self) -> None:
        """Be closed; a second time is a failure of the pool."""
        assert not self.closed, f"connection {self.number} was closed twice"
        self.closed = True
        self.server.closed(self)


class Server:
    """What the pool connects to. Remembers how many connections there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.connections: set[Connection] = set()
        self.most = 0
        self.up = True
        self.full = False
        self.before_connect: Callable[[], None] = lambda: None

    def connect(self, timeout: float) -> Connection:
        del timeout
        self.before_connect()
        if not self.up:
            raise ConnectionRefusedError("the server is down")
        if self.full:
            raise BlockingIOError("the server is full")
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        with self._lock:
            self.connections.add(connection)
            self.most = max(self.most, len(self.connections))

    def closed(self, connection: Connection) -> None:
        with self._lock:
            self.connections.discard(connection)

    def kill(self) -> None:
        """Every session is gone; the clients do not know yet."""
        for connection in list(self.connections):
            connection.dead = True


class PlainDriver(Driver):
    """A driver that can say nothing but ping."""

    vendor = "fake"

    def __init__(self, server: Server) -> None:
        super().__init__(server.connect)
        self.pings = 0

    def ping(self, connection: Any, timeout: float) -> None:
        self.pings += 1
        if connection.dead:
            raise ConnectionResetError("the server closed it")


class FakeDriver(PlainDriver):
    """A driver that can say everything."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.tidied = 0
        self.before_restore: Callable[[], None] = lambda: None

    def peek(self, connection: Any) -> bool:
        return not connection.dead

    def at_rest(self, connection: Any) -> bool:
        return not connection.in_transaction

    def refuses_login(self, error: BaseException) -> bool:
        return isinstance(error, PermissionError)

    def is_full(self, error: BaseException) -> bool:
        return isinstance(error, BlockingIOError)

    def stepped_down(self, error: BaseException) -> bool:
        return isinstance(error, InterruptedError)

    def tidy(self, connection: Any, timeout: float) -> None:
        self.tidied += 1
        if connection.dead:
            raise ConnectionResetError("the server closed it")
        connection.in_transaction = False

    def changes(self, statement: Any) -> int:
        return int(Change.SETTINGS) if str(statement).startswith("SET") else 0

    def restore(self, connection: Any, change: Change, timeout: float) -> None:
        assert not connection.in_transaction
        self.before_restore()
        if connection.dead:
            raise ConnectionResetError("the server closed it")
        connection.state = None


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def make_pool(server: Server, clock: Clock | None = None, **options: Any) -> Pool:
    """A pool on `server`; its time stands still if it is given a clock."""
    driver = FakeDriver(server)
    if clock is None:
        return Pool(PoolOptions(**options), driver)
    return Pool(PoolOptions(**options), driver, clock=clock)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Run `work` in a thread of its own, and return it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def assert_capacity(pool: Pool, server: Server) -> None:
    """Exactly `max_size` leases can be had again, and the books balance."""
    stats = pool.stats()
    assert stats.in_use == stats.opening == stats.waiting == 0, stats
    leases = [pool.acquire(timeout=5) for _ in range(stats.max_size)]
    assert len({id(lease.connection) for lease in leases}) == stats.max_size
    assert pool.stats().in_use == stats.max_size == len(server.connections)
    for lease in leases:
        lease.release()
    after = pool.stats()
    assert after.idle == after.size == after.max_size
    assert server.most <= stats.max_size
    total = after.opened_total - sum(after.closed_total.values())
    assert total == after.size == len(server.connections)
