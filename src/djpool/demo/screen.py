"""The figures in the terminal: a table drawn again and again, or lines one by one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

# Seconds between two drawings on a terminal, and between two lines elsewhere.
REDRAW, LINE = 0.2, 2.0

HEAD = (
    "",
    "requests",
    "errors",
    "p50",
    "p99",
    "open",
    "most",
    "leased",
    "waiting",
)
# To the beginning of the line so many lines up, and everything from there removed.
BACK = "\x1b[{}F\x1b[J"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One server's figures. Durations are seconds; None is "none yet" or "no pool".

    `open` and `most` are database connections: now, and the most at once so far.
    """

    name: str
    answered: int
    requests: int
    errors: int
    p50: float | None
    p99: float | None
    open: int
    most: int
    leased: int | None
    waiting: int | None

    def cells(self) -> tuple[str, ...]:
        """The figures in the order of the table's head."""
        return (
            self.name,
            f"{self.answered}/{self.requests}",
            str(self.errors),
            milliseconds(self.p50),
            milliseconds(self.p99),
            str(self.open),
            str(self.most),
            "-" if self.leased is None else str(self.leased),
            "-" if self.waiting is None else str(self.waiting),
        )

    def line(self) -> str:
        """The figures with their names, where there is no table."""
        named = zip(HEAD[1:], self.cells()[1:], strict=True)
        return f"{self.name}: " + ", ".join(f"{name} {cell}" for name, cell in named)


def milliseconds(seconds: float | None) -> str:
    """A duration, for people."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def table(rows: Sequence[Row]) -> list[str]:
    """A line of heads and a line for each row, in columns."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(line[1:], widths[1:], strict=True)
            ]
        )
        for line in cells
    ]


class Screen:
    """Shows rows while they change. For one thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._drawn = 0  # lines of the last table, which the next one replaces
        self._next = 0.0

    def say(self, text: str = "") -> None:
        """Write some lines that stay."""
        self._drawn = 0
        print(text, file=self._stream, flush=True)

    @property
    def due(self) -> bool:
        """Whether it is time to show how things are."""
        return time.monotonic() >= self._next

    def show(self, rows: Sequence[Row]) -> None:
        """Draw the rows, in place of those before."""
        if self._redraws:
            self._draw(rows)
            self._next = time.monotonic() + REDRAW
        else:
            for row in rows:
                self.say(row.line())
            self._next = time.monotonic() + LINE

    def end(self, rows: Sequence[Row]) -> None:
        """Draw the rows for the last time, as a table in any case."""
        self._draw(rows)
        self._drawn = 0

    def _draw(self, rows: Sequence[Row]) -> None:
        lines = table(rows)
        if self._redraws:
            # A line that is broken into two would be two lines to go back.
            width = shutil.get_terminal_size().columns - 1
            lines = [line[:width] for line in lines]
        back = BACK.format(self._drawn) if self._drawn else ""
        print(back + "\n".join(lines), file=self._stream, flush=True)
        self._drawn = len(lines) if self._redraws else 0
