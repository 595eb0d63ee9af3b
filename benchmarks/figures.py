"""What the benchmarks share: rounds, statistics, tables, a server."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.servers.mysql import MySQLFamilyServer
    from tests.servers.oracle import OracleServer
    from tests.servers.postgres import PostgresServer

Subject = TypeVar("Subject", bound=Hashable)
Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Spread:
    """The same thing measured in several rounds.

    `least` is what it takes when nothing else runs; only the measured program can
    make it worse. `median` is what it took on this machine at that time.
    """

    rounds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The best round."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The round in the middle."""
        return statistics.median(self.rounds)

    def ratio(self, other: Spread) -> float:
        """How many times `other` this is: the best round of each."""
        return self.least / other.least


def interleave(
    subjects: Iterable[Subject], rounds: int, measure: Callable[[Subject], Measured]
) -> dict[Subject, list[Measured]]:
    """Measure every subject once, then every subject again: A B C, A B C, ...

    So whatever else the machine does falls on all of them alike.
    """
    found: dict[Subject, list[Measured]] = {each: [] for each in subjects}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for subject, results in found.items():
            results.append(measure(subject))
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The least of `values` that is not below `share` (0 to 1) of them."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


# -- output --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading. The first column is text, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def render(self, *, markdown: bool) -> str:
        """The table as text; the columns are in line either way."""
        widths = [
            max(map(len, column))
            for column in zip(self.header, *self.rows, strict=True)
        ]
        first, *others = widths
        rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
        lines = [
            "| " + " | ".join(_aligned(cells, widths)) + " |"
            for cells in (self.header, tuple(rule), *self.rows)
        ]
        title = f"### {self.title}" if markdown else self.title
        return "\n".join([title, "", *lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True, slots=True)
class Target:
    """What djpool wants to reach, and what it did."""

    what: str
    wanted: str
    measured: str
    met: bool


def targets_table(subject: str, targets: Iterable[Target]) -> Table:
    """The targets as a table. Nothing fails if one is missed."""
    rows = tuple(
        (each.what, each.wanted, each.measured, "yes" if each.met else "NO")
        for each in targets
    )
    return Table(f"Targets: {subject}", ("target", "wanted", "measured", "met"), rows)


def conditions(*distributions: str) -> str:
    """A sentence on what the numbers were measured with."""
    installed = []
    for name in distributions:
        with suppress(PackageNotFoundError):
            installed.append(f"{name} {version(name)}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {os.cpu_count()} CPUs; {', '.join(installed)}."


def progress(text: str) -> None:
    """Say on the terminal how far it is; the tables go to standard output."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def show(parts: Iterable[Table | str], *, markdown: bool) -> None:
    """Print tables and paragraphs."""
    progress("")
    for part in parts:
        print(part if isinstance(part, str) else part.render(markdown=markdown))
        print()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    yield cells[0].ljust(widths[0])
    for cell, width in zip(cells[1:], widths[1:], strict=True):
        yield cell.rjust(width)


# -- what every script does ----------------------------------------------------


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that it works"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="headings for docs/benchmarks.md"
    )
    return parser


def postgres_server() -> PostgresServer:
    """The tests' PostgreSQL, not started yet."""
    _find_tests()
    from tests.servers.postgres import PostgresServer

    return PostgresServer()


def mysql_server(kind: str) -> MySQLFamilyServer:
    """The tests' MariaDB or MySQL ("mariadb", "mysql"), not started yet."""
    _find_tests()
    from tests.servers.mariadb import MariaDBServer
    from tests.servers.mysql import MySQLServer

    return MariaDBServer() if kind == "mariadb" else MySQLServer()


def oracle_server() -> OracleServer:
    """The tests' Oracle Database, an emulator, not started yet."""
    _find_tests()
    from tests.servers.oracle import OracleServer

    return OracleServer()


def _find_tests() -> None:
    root = str(Path(__file__).resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
