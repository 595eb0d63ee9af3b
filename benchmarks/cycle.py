"""A process that runs Django's request cycle with one database configuration.

One process for each, because Django's signals visit every alias of a project: the
one that is measured must be the only one.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any


class Subject:
    """The process of one configuration, seen from the one that measures."""

    def __init__(self, database: Mapping[str, Any], directory: str) -> None:
        """Start it, with this entry of DATABASES and a directory for its files."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=[database, directory, theirs], daemon=True
        )
        self._process.start()
        theirs.close()  # else we would wait for a dead process for ever

    def make_tables(self, *, migrate: bool) -> None:
        """Make what the cycle reads, in a database that is empty.

        With `migrate` also the tables of a new project.
        """
        self._order("make_tables", migrate)

    def run(
        self, cycles: int, *, new_wrapper: bool, queries: int = 1, first: str = ""
    ) -> float:
        """Run so many cycles; the median of the seconds that they took.

        Each makes so many queries, and `first` runs a statement.
        """
        return float(self._order("run", cycles, new_wrapper, queries, first))

    def statement(self, count: int, *, ends: bool) -> float:
        """Run a statement so many times; the CPU seconds of the process for one.

        With `ends` the request ends after each.
        """
        return float(self._order("statement", count, ends))

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)
        self._process.kill()

    def _order(self, *order: Any) -> Any:
        self._pipe.send(order)
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(database: Mapping[str, Any], directory: str, pipe: Connection) -> None:
    site = _Site(database, directory)
    while (order := pipe.recv()) is not None:
        name, *arguments = order
        try:
            pipe.send(getattr(site, name)(*arguments))
        except Exception as error:  # noqa: BLE001 (raised again at the other end)
            pipe.send(RuntimeError(f"{database['ENGINE']}: {error!r}"))


class _Site:
    """A new Django project, as a process has it."""

    def __init__(self, database: Mapping[str, Any], directory: str) -> None:
        import django
        from django.conf import settings

        settings.configure(
            DATABASES={"default": database},
            INSTALLED_APPS=[
                "django.contrib.admin",
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "django.contrib.sessions",
            ],
            USE_TZ=True,
            TIME_ZONE="UTC",
            DJPOOL_STATS_DIR=directory,
        )
        django.setup()
        from django.db import models

        class Item(models.Model):  # noqa: DJ008 (nobody reads it)
            name: models.CharField[str, str] = models.CharField(max_length=20)

            class Meta:
                app_label = "benchmarks"

        self._item = Item
        # Of connections that nobody closed, as CONN_MAX_AGE leaves them under ASGI.
        warnings.simplefilter("ignore", ResourceWarning)

    def make_tables(self, migrate: bool) -> None:
        from django.core.management import call_command
        from django.db import connection

        if migrate:
            call_command("migrate", verbosity=0)
        with connection.schema_editor() as editor:
            editor.create_model(self._item)
        self._item.objects.create(pk=1, name="the only one")

    def run(self, cycles: int, new_wrapper: bool, queries: int, first: str) -> float:
        return statistics.median(
            self._cycle(new_wrapper, queries, first) for _ in range(cycles)
        )

    def statement(self, count: int, ends: bool) -> float:
        from django.db import close_old_connections, connection

        began = time.process_time()
        for _ in range(count):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
            if ends:
                close_old_connections()
        return (time.process_time() - began) / count

    def _cycle(self, new_wrapper: bool, queries: int, first: str) -> float:
        from django.core.signals import request_finished, request_started
        from django.db import connections

        get, last = self._item.objects.get, connections["default"]
        started = time.perf_counter()
        if new_wrapper:
            # Under ASGI a request begins with none; Django makes it when it is used.
            del connections["default"]
        request_started.send(sender=self)
        if first:
            with connections["default"].cursor() as cursor:
                cursor.execute(first)
        for _ in range(queries):
            get(pk=1)
        request_finished.send(sender=self)
        seconds = time.perf_counter() - started
        if new_wrapper:
            # What the cycle before left open. Under ASGI that is for the garbage
            # collector; here the server would run out of connections first.
            last.close()
        return seconds
