"""`manage.py poolctl`: orders to the pools of this project's running processes."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)

from djpool import channel
from djpool.management.arguments import check_database, check_pid, no_such_process
from djpool.monitor.place import PlaceError
from djpool.monitor.read import Outcomes, ProcessReading

# What a process did, for the line about it.
DONE = {
    "resize": "resized",
    "drain": "drained",
    "suspend": "suspended",
    "resume": "resumed",
}


class _Formatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Django's, which leaves the lines of the description as they are."""


class Command(BaseCommand):
    """Sends one order to running processes; it has no pools itself."""

    help = """\
Tell the connection pools of this project's running processes on this machine what to
do, and print what each process answered:

  resize   change min_size, max_size or both; what is then too many is closed, idle
           connections at once and others when they come back
  drain    replace every connection: idle ones at once, others when they come back
  suspend  lend nothing; callers wait, up to their timeout
  resume   lend again, first to those who waited

Processes that start later have what the settings say. The exit status is not 0 if any
process did not do it, or if there is none."""
    # A project that cannot start just now is when one wants to steer those that run.
    requires_system_checks = []  # noqa: RUF012 (as Django spells it)

    def create_parser(
        self, prog_name: str, subcommand: str, **kwargs: Any
    ) -> CommandParser:
        """Keep the list of orders in --help a list."""
        return super().create_parser(
            prog_name, subcommand, formatter_class=_Formatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options; their bounds are checked in `handle()`."""
        parser.add_argument("order", choices=tuple(DONE), help="What to do.")
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            required=True,
            help="The database whose pools are meant.",
        )
        parser.add_argument(
            "--pid", type=int, help="Only this process (default: every running one)."
        )
        parser.add_argument(
            "--min-size",
            type=int,
            metavar="N",
            help="resize: connections kept open in each process, from 0 to max_size.",
        )
        parser.add_argument(
            "--max-size",
            type=int,
            metavar="N",
            help="resize: connections at most in each process, 1 or more.",
        )

    def handle(
        self,
        *,
        order: str,
        database: str,
        pid: int | None,
        min_size: int | None,
        max_size: int | None,
        **_options: Any,
    ) -> None:
        """Send the order, and say what became of it."""
        check_database(database)
        check_pid(pid)
        _check_sizes(order, database, min_size, max_size)
        request: dict[str, Any] = {"verb": order, "alias": database}
        if order == "resize":
            request |= {"min_size": min_size, "max_size": max_size}
        try:
            outcomes = channel.order(request, pid)
        except PlaceError as error:
            raise CommandError(str(error)) from error
        for process in outcomes.done:
            self.stdout.write(_sentence(order, database, process))
        for note in outcomes.notes:
            self.stdout.write(f"note: {note}")
        self.stdout.flush()
        _judge(outcomes, order, pid)


def _check_sizes(
    order: str, database: str, min_size: int | None, max_size: int | None
) -> None:
    """Refuse sizes that no pool can have; those of each process are checked there.

    Raises:
        CommandError: It names the option, the bounds and the value.
    """
    given = {
        f"--{name}": size
        for name, size in (("min-size", min_size), ("max-size", max_size))
        if size is not None
    }
    if order != "resize":
        if given:
            raise CommandError(f"{' and '.join(given)}: only with resize, not {order}")
        return
    if not given:
        raise CommandError("resize needs --min-size, --max-size or both")
    for option, size in given.items():
        least = 1 if option == "--max-size" else 0
        if size < least:
            raise CommandError(
                f"{option} for {database!r} must be {least} or more, not {size}"
            )
    if min_size is not None and max_size is not None and min_size > max_size:
        raise CommandError(
            f"--min-size for {database!r} must be from 0 to --max-size ({max_size}), "
            f"not {min_size}"
        )


def _sentence(order: str, alias: str, process: ProcessReading) -> str:
    stats = process.pools[alias]
    waiting = f", {stats.waiting} waiting" if stats.waiting else ""
    # Of what it was before, and stays until it is resumed.
    still = order != "suspend" and alias in process.suspended
    return (
        f"Process {process.pid}: {alias} {DONE[order]}{', still suspended' * still}; "
        f"{stats.size} of at most {stats.max_size} open (min_size {stats.min_size}), "
        f"{stats.in_use} in use{waiting}"
    )


def _judge(outcomes: Outcomes, order: str, pid: int | None) -> None:
    """Raise unless every process there is did it.

    Raises:
        CommandError: It says which ones did not, or that there is none.
    """
    if outcomes.failed:
        there = len(outcomes.done) + len(outcomes.failed)
        told = "\n".join(outcomes.failed)
        raise CommandError(
            f"{order}: {len(outcomes.failed)} of {there} processes did not:\n{told}"
        )
    if not outcomes.done:
        if pid is not None:
            raise CommandError(no_such_process(pid, outcomes.notes))
        raise CommandError(f"{order}: no running process has pools that can be told")
