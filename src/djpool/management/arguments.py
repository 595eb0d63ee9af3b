"""What djpool's commands take to say which pools they mean, and how they check it."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.management.base import CommandError
from django.db import connections

from djpool import channel
from djpool.core.options import is_on


def is_pooled(alias: str) -> bool:
    """Whether the settings give this database a pool."""
    return is_on(connections.settings[alias]["OPTIONS"].get("pool"))


def check_database(alias: str | None) -> None:
    """Refuse a `--database` that is none, or has no pool; None is any.

    Raises:
        CommandError: It names those that there are.
    """
    if alias is None:
        return
    aliases = list(connections.settings)
    if alias not in aliases:
        known = ", ".join(aliases)
        raise CommandError(f"--database {alias!r} is unknown; known: {known}")
    if not is_pooled(alias):
        pooled = ", ".join(filter(is_pooled, aliases)) or "none"
        raise CommandError(
            f'--database {alias!r} has no pool: its OPTIONS["pool"] is not set. '
            f"Databases with a pool: {pooled}"
        )


def check_pid(pid: int | None) -> None:
    """Refuse a `--pid` that cannot be one; None is any.

    Raises:
        CommandError: It is less than 1.
    """
    if pid is not None and pid < 1:
        raise CommandError(f"--pid must be 1 or more, not {pid}")


def no_such_process(pid: int, notes: Iterable[str]) -> str:
    """Say that a process does not answer, which ones do, and what is known of it."""
    others = channel.readings().processes
    there = ", ".join(str(process.pid) for process in others) or "none"
    said = "".join(f" {note}" for note in notes if str(pid) in note)
    return f"--pid {pid}: no such process with pools; there are: {there}.{said}"
