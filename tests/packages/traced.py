"""A process with a tracer: what each engine does in it, stock and pooled.

    python -m tests.packages.traced TRACER first|second RESULTS

`PACKAGES_DATABASES` has the servers' `DATABASES` entries as JSON, by engine. A line
"kill ENGINE" or "restart" on standard output asks the test to do that to its servers,
and a line on standard input says that it is done.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.packages.drivers import DRIVERS, choose
from tests.packages.tracers import TRACERS, Record
from tests.servers.proxy import Proxy

WAYS = ("stock", "request", "transaction")

#: How each vendor is asked, and what changes its session in a way that can be seen.
SELECT = {"oracle": "SELECT {} FROM DUAL"}
SET = {
    "sqlite": "PRAGMA cache_size = 77",
    "postgresql": "SET statement_timeout = 77000",
    "mysql": "SET @djpool_mine = 77",
    "oracle": "ALTER SESSION SET NLS_SORT = GERMAN",
}
SEE = {
    "sqlite": "PRAGMA cache_size",
    "postgresql": "SHOW statement_timeout",
    "mysql": "SELECT @djpool_mine",
    "oracle": "SELECT VALUE FROM NLS_SESSION_PARAMETERS WHERE PARAMETER = 'NLS_SORT'",
}


def settings(databases: dict[str, Any]) -> dict[str, Any]:
    """Give `DATABASES` with three aliases for each engine: one for each way."""
    from djpool.backends import STOCK
    from tests.backends.engines import engine_of

    made: dict[str, Any] = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
    for engine, described in databases.items():
        backend = engine_of(engine).backend
        for way in WAYS:
            if way == "stock":
                changes: dict[str, Any] = {
                    "ENGINE": STOCK[backend],
                    # As a pool, it connects once.
                    "CONN_MAX_AGE": None,
                }
            else:
                pool = engine_of(engine).pool | {"max_size": 2, "release": way}
                changes = {
                    "ENGINE": f"djpool.backends.{backend}",
                    "OPTIONS": {"pool": pool},
                }
            made[f"{engine}/{way}"] = described | changes
    return made


class Case:
    """One engine in one way: its steps, and what is seen in each."""

    def __init__(self, alias: str, record: Record, between: Proxy | None) -> None:
        from django.db import connections

        self.alias = alias
        self.engine, _, self.way = alias.partition("/")
        self.wrapper: Any = connections[alias]
        self.table = "traced_" + re.sub(r"\W", "_", self.engine)
        self.spans: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self._record = record
        self._between = between
        self._broken = ""

    def step(self, name: str, work: Callable[[], Any]) -> None:
        """Note what a step gives, or its error, and the spans it makes."""
        if self._broken:
            return
        with self._record() as spans:
            try:
                self.values[name] = work()
            except Exception:  # noqa: BLE001 (shown by the test)
                self._broken = traceback.format_exc()
                self.values["broken"] = f"{name}: {self._broken}"
        self.spans[name] = spans

    def run(self, sql: str, params: Any = None, *, many: bool = False) -> Any:
        """Run a statement on a cursor of its own; return its rows."""
        with self.wrapper.cursor() as cursor:
            if many:
                cursor.executemany(sql, params)
            else:
                cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else None

    def select(self, number: int) -> Any:
        return self.run(SELECT.get(self.wrapper.vendor, "SELECT {}").format(number))

    def fail(self, work: Callable[[], Any]) -> str:
        """Return the name of the error: Django's, or the driver's own."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 (named)
            return f"{type(error).__module__}.{type(error).__name__}"
        return "no error"

    def bytes(self) -> int:
        """Return how many have gone either way; none where there is no server."""
        if self._between is None:
            return 0
        return self._between.bytes_to_server + self._between.bytes_to_client

    def leave(self) -> None:
        """End the request. A stock connection that lives is kept."""
        if self.way == "stock":
            self.wrapper.close_if_unusable_or_obsolete()
        else:
            self.wrapper.close()
            self.settle()

    def settle(self) -> None:
        """Wait until the pool has restored what this request changed."""
        import djpool

        deadline = time.monotonic() + 10
        while djpool.stats(self.alias).in_use and time.monotonic() < deadline:
            time.sleep(0.002)

    # -- the steps --------------------------------------------------------------

    def connect(self) -> None:
        self.wrapper.ensure_connection()
        self.leave()

    def query(self) -> Any:
        with self.wrapper.cursor() as cursor:
            cursor.execute(
                SELECT.get(self.wrapper.vendor, "SELECT {}").format("%s"), [7]
            )
            first = cursor.fetchone()
            rest = cursor.fetchall()
        self.leave()
        return first, rest

    def make_table(self) -> None:
        from django.db import DatabaseError

        with suppress(DatabaseError):
            self.run(f"DROP TABLE {self.table}")
        self.leave()
        self.run(f"CREATE TABLE {self.table} (a integer)")
        self.leave()

    def transaction(self) -> Any:
        from django.db import transaction

        with transaction.atomic(using=self.alias):
            self.run(f"INSERT INTO {self.table} VALUES (%s)", [1])
            with transaction.atomic(using=self.alias):
                self.run(
                    f"INSERT INTO {self.table} VALUES (%s)", [(2,), (3,)], many=True
                )
        with transaction.atomic(using=self.alias):
            self.run(f"INSERT INTO {self.table} VALUES (4)")
            transaction.set_rollback(True, using=self.alias)
        rows = self.run(f"SELECT a FROM {self.table} ORDER BY a")
        self.leave()
        return rows

    def chunks(self) -> Any:
        from django.db import transaction

        with (
            transaction.atomic(using=self.alias),
            self.wrapper.chunked_cursor() as cursor,
        ):
            cursor.execute(f"SELECT a FROM {self.table} ORDER BY a")
            rows = [cursor.fetchone(), *cursor]
        self.leave()
        return rows

    def error(self) -> str:
        from django.db import transaction

        def wrong() -> None:
            with transaction.atomic(using=self.alias):
                self.run("SELECT nonsense FROM nowhere")

        said = self.fail(wrong)
        self.leave()
        return said

    def set(self) -> None:
        self.run(SET[self.wrapper.vendor])
        self.leave()

    def see(self) -> Any:
        seen = self.run(SEE[self.wrapper.vendor])
        self.leave()
        return seen

    def killed(self) -> str:
        from django.db import transaction

        def go_on() -> None:
            with transaction.atomic(using=self.alias):
                self.select(1)
                ask(f"kill {self.engine}")
                self.select(2)

        said = self.fail(go_on)
        self.leave()
        return said

    def killed_while_idle(self) -> Any:
        if self.way == "stock":
            self.wrapper.close()
        else:
            self.select(1)
            self.leave()
            ask(f"kill {self.engine}")
            time.sleep(0.02)
        return self.again()

    def again(self) -> Any:
        rows = self.select(5)
        self.leave()
        return rows

    def all_before_the_restart(self) -> None:
        """Everything but the restart, which is one for all engines."""
        self.step("connect", self.connect)
        self.step("query", self.query)
        self.step("table", self.make_table)
        self.step("transaction", self.transaction)
        self.step("chunks", self.chunks)
        self.step("error", self.error)
        self.step("see", self.see)
        self.step("set", self.set)
        if self.way == "stock":
            self.wrapper.close()
            self.connect()
        self.step("seen", self.see)
        if self.way != "stock":
            import djpool

            self.values["stats"] = djpool.stats(self.alias).as_dict()
        self.select(0)
        self.leave()
        before = self.bytes()
        for number in range(10, 20):
            self.select(number)
            if self.way != "stock":
                self.leave()
        self.values["bytes"] = self.bytes() - before
        if self.wrapper.vendor != "sqlite":
            self.step("killed", self.killed)
            self.step("after", self.again)
            self.step("idle", self.killed_while_idle)

    def after_the_restart(self) -> None:
        if self.way == "stock":
            self.wrapper.close()
        self.step("restarted", self.again)

    def told(self) -> dict[str, Any]:
        return {"spans": self.spans, "values": self.values}


def ask(what: str) -> None:
    """Have the test do something to its servers."""
    print(what, flush=True)  # noqa: T201
    sys.stdin.readline()


def main(tracer: str, which: str, results: str) -> None:
    """Run all cases, and write down what they saw."""
    choose(which)
    record = TRACERS[tracer](DRIVERS[which].values())
    databases: dict[str, Any] = json.loads(os.environ["PACKAGES_DATABASES"])

    import django
    from django.conf import settings as django_settings

    with ExitStack() as stack:
        proxies: dict[str, Proxy] = {}
        for engine, described in databases.items():
            if "PORT" in described:
                proxies[engine] = stack.enter_context(
                    Proxy(described["HOST"], int(described["PORT"]))
                )
                described["HOST"] = proxies[engine].host
                described["PORT"] = str(proxies[engine].port)
        django_settings.configure(
            SECRET_KEY="tests",
            USE_TZ=True,
            INSTALLED_APPS=["djpool"],
            DATABASES=settings(databases),
        )
        django.setup()
        from django.db import connections

        import djpool

        cases = [
            Case(f"{engine}/{way}", record, proxies.get(engine))
            for engine in databases
            for way in WAYS
        ]
        for case in cases:
            case.all_before_the_restart()
        ask("restart")
        for case in cases:
            case.after_the_restart()
        told = {case.alias: case.told() for case in cases}
        Path(results).write_text(json.dumps(told, default=str))
        connections.close_all()
        djpool.close_all()


if __name__ == "__main__":
    assert sys.argv[2] in DRIVERS
    if sys.argv[2] == "second":
        # The part of Connector/Python that is written in C loads only before anything
        # imports Python's own OpenSSL.
        import _mysql_connector  # noqa: F401
    main(*sys.argv[1:])
    # Some tracers keep threads that outlive the interpreter's end.
    sys.stdout.flush()
    os._exit(0)
