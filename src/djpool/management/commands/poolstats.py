"""`manage.py poolstats`: the pools of this project's running processes."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from djpool import channel
from djpool.core.stats import PoolStats, total
from djpool.exporters import prometheus
from djpool.management.arguments import (
    check_database,
    check_pid,
    is_pooled,
    no_such_process,
)
from djpool.management.server import ServerFigures, Servers
from djpool.management.table import draw
from djpool.monitor.place import PlaceError
from djpool.monitor.read import ProcessReading

_CLEAR = "\x1b[H\x1b[2J"
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one look at the pools gave. `server` is by alias."""

    processes: list[ProcessReading]
    totals: dict[str, PoolStats]
    server: dict[str, ServerFigures | None]
    notes: list[str]

    def pools(self) -> Iterator[tuple[ProcessReading, PoolStats]]:
        """Give every pool, with its process."""
        for process in self.processes:
            for stats in process.pools.values():
                yield process, stats

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and strings, fit for JSON."""
        return {
            "processes": [process.as_dict() for process in self.processes],
            "totals": {alias: stats.as_dict() for alias, stats in self.totals.items()},
            "server": {
                alias: figures and figures.as_dict()
                for alias, figures in self.server.items()
            },
            "notes": self.notes,
        }


class Command(BaseCommand):
    """Shows what other processes say of their pools; it has none itself."""

    help = (
        "Show the connection pools of this project's running processes on this "
        "machine, their sum, and what the database servers say within 5 seconds."
    )
    # A project that cannot start just now is when one wants to look at those that run.
    requires_system_checks = []  # noqa: RUF012 (as Django spells it)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; their bounds are checked in `handle()`."""
        parser.add_argument(
            "--database", metavar="ALIAS", help="Only the pools of this database."
        )
        parser.add_argument("--pid", type=int, help="Only this process.")
        parser.add_argument(
            "--format",
            choices=("table", "json", "prometheus"),
            default="table",
            help="How to show it (default: table).",
        )
        parser.add_argument(
            "--watch",
            nargs="?",
            type=float,
            const=2.0,
            metavar="SECONDS",
            help="Show it again every SECONDS (default: 2) until ^C.",
        )
        parser.add_argument(
            "--fail-above",
            type=float,
            metavar="PERCENT",
            help=(
                "Exit with status 1 if in any process more than this share of a "
                "pool's max_size is in use."
            ),
        )

    def handle(
        self,
        *,
        database: str | None,
        pid: int | None,
        format: str,  # noqa: A002 (the option's name)
        watch: float | None,
        fail_above: float | None,
        **_options: Any,
    ) -> None:
        """Show the pools once, or again and again."""
        _check(database, pid, watch, fail_above)
        show = {
            "table": self._show_table,
            "json": self._show_json,
            "prometheus": self._show_prometheus,
        }[format]
        servers = Servers()
        try:
            while True:
                report = _look(database, pid, servers)
                if watch and format == "table" and self.stdout.isatty():
                    self.stdout.write(_CLEAR, ending="")
                show(report, watched=bool(watch))
                self.stdout.flush()
                if fail_above is not None:
                    _judge(report, fail_above)
                if not watch:
                    break
                time.sleep(watch)
        except KeyboardInterrupt:
            if not watch:
                raise

    def _show_table(self, report: Report, *, watched: bool) -> None:
        pools = list(report.pools())
        if pools:
            self.stdout.write(draw(pools, report.totals))
        else:
            self.stdout.write("No running process shows pools.")
        for alias, figures in report.server.items():
            if figures:
                self.stdout.write(f"server of {alias}: {_sentence(figures)}")
        for note in report.notes:
            self.stdout.write(f"note: {note}")
        if watched:
            self.stdout.write("")

    def _show_json(self, report: Report, *, watched: bool) -> None:
        # One document a line, if there are many.
        text = json.dumps(report.as_dict(), indent=None if watched else 2)
        self.stdout.write(text)

    def _show_prometheus(self, report: Report, *, watched: bool) -> None:
        text = prometheus.render(stats for _process, stats in report.pools())
        self.stdout.write(text + _server_families(report.server), ending="")
        for note in report.notes:
            self.stderr.write(f"note: {note}")


def _check(
    database: str | None,
    pid: int | None,
    watch: float | None,
    fail_above: float | None,
) -> None:
    """Refuse what cannot be meant.

    Raises:
        CommandError: It names the option, the value and what is possible.
    """
    check_database(database)
    check_pid(pid)
    if watch is not None and not _LEAST_SECONDS <= watch <= _MOST_SECONDS:
        bounds = f"from {_LEAST_SECONDS:g} to {_MOST_SECONDS:g}"
        raise CommandError(f"--watch must be {bounds} (seconds), not {watch:g}")
    if fail_above is not None and not 0 <= fail_above <= 100:  # noqa: PLR2004
        raise CommandError(
            f"--fail-above must be from 0 to 100 (percent), not {fail_above:g}"
        )


def _look(database: str | None, pid: int | None, servers: Servers) -> Report:
    """Ask the processes, then the servers, these side by side.

    Raises:
        CommandError: There is no such process, or no place to look for any.
    """
    try:
        readings = channel.readings(pid)
    except PlaceError as error:
        raise CommandError(str(error)) from error
    if pid is not None and not readings.processes:
        raise CommandError(no_such_process(pid, readings.notes))
    processes, notes = readings.processes, list(readings.notes)
    if database is not None:
        processes = [
            replace(
                process,
                pools={database: process.pools[database]},
                suspended=tuple(set(process.suspended) & {database}),
            )
            for process in processes
            if database in process.pools
        ]
    aliases = [database] if database else list(filter(is_pooled, connections.settings))
    if not aliases:
        notes.append('No database of these settings has OPTIONS["pool"].')
    notes += [
        f"{alias} of process {process.pid} is suspended: it lends nothing until it is "
        "resumed."
        for process in processes
        for alias in process.suspended
    ]
    totals = {}
    for alias, stats in _by_alias(processes).items():
        try:
            totals[alias] = total(stats)
        except ValueError as error:
            notes.append(f"The figures of {alias!r} cannot be added: {error}.")
    server, why = servers.ask(aliases)
    notes += why
    return Report(processes=processes, totals=totals, server=server, notes=notes)


def _by_alias(processes: Iterable[ProcessReading]) -> dict[str, list[PoolStats]]:
    found: dict[str, list[PoolStats]] = {}
    for process in processes:
        for alias, stats in process.pools.items():
            found.setdefault(alias, []).append(stats)
    return found


def _judge(report: Report, percent: float) -> None:
    """Raise if a pool is fuller than it may be.

    Raises:
        CommandError: It names every such pool with its figures; exit status 1.
    """
    full = [
        f"{alias} of process {process.pid}: {stats.in_use} of {stats.max_size} in use"
        for process in report.processes
        for alias, stats in process.pools.items()
        if stats.in_use * 100 > percent * stats.max_size
    ]
    if full:
        raise CommandError(f"Above {percent:g} %: {'; '.join(full)}", returncode=1)


def _sentence(figures: ServerFigures) -> str:
    here = figures.in_database
    inside = f" ({here} to this database)" if here is not None else ""
    kept = figures.reserved and f", {figures.reserved} of them for administrators"
    return (
        f"{figures.connections} connections{inside} "
        f"of at most {figures.max_connections}{kept or ''}"
    )


def _server_families(server: dict[str, ServerFigures | None]) -> str:
    told = {alias: figures for alias, figures in server.items() if figures}
    if not told:
        return ""
    fields = {
        "connections": "Connections to the database server, whoever has opened them.",
        "max_connections": "Connections that the database server allows.",
    }
    names = {
        "connections": "djpool_server_connections",
        "max_connections": "djpool_server_connections_max",
    }
    return "".join(
        prometheus.family(
            names[field],
            "gauge",
            words,
            (
                (
                    "",
                    {"alias": alias, "vendor": figures.vendor},
                    getattr(figures, field),
                )
                for alias, figures in told.items()
            ),
        )
        for field, words in fields.items()
    )
