"""Pools as a table for people, up to 120 columns wide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from djpool.core.stats import PoolStats
from djpool.monitor.read import ProcessReading

_HEAD = (
    "PID",
    "DATABASE",
    "POOL",
    "SIZE/MAX",
    "IN USE",
    "IDLE",
    "OPENING",
    "WAITING",
    "ACQUIRED",
    "WAITED",
    "TIMEOUTS",
    "CLOSED",
    "WAIT P99",
)
# Columns of words, and how long these may be; the others are numbers.
_WORDS = {1: 12, 2: 8}
_MILLION, _BILLION = 10**6, 10**9


def draw(
    pools: Iterable[tuple[ProcessReading, PoolStats]], totals: Mapping[str, PoolStats]
) -> str:
    """Return a row for each pool, and a sum for each database that has several."""
    every = list(pools)
    aliases = [stats.alias for _process, stats in every]
    rows = [_row(str(process.pid), stats) for process, stats in every]
    for alias, stats in totals.items():
        if aliases.count(alias) > 1:
            rows.append(_row("all", stats))
    rows.insert(0, _HEAD)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in _WORDS else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(pid: str, stats: PoolStats) -> tuple[str, ...]:
    return (
        pid,
        _short(stats.alias, _WORDS[1]),
        _short(stats.implementation, _WORDS[2]),
        f"{stats.size}/{stats.max_size}",
        str(stats.in_use),
        str(stats.idle),
        str(stats.opening),
        str(stats.waiting),
        _count(stats.acquired_total),
        _count(stats.waited_total),
        _count(stats.timeouts_total),
        _count(sum(stats.closed_total.values())),
        _duration(stats),
    )


def _duration(stats: PoolStats) -> str:
    bound = stats.wait_seconds.quantile(0.99)
    if bound is None:
        return "-"
    if bound == math.inf:
        return f">{stats.wait_seconds.bounds[-1]:g} s"
    return f"<{bound:g} s" if bound >= 1 else f"<{bound * 1000:g} ms"


def _count(number: int) -> str:
    if number < _MILLION:
        return str(number)
    if number < _BILLION:
        return f"{number / _MILLION:.1f}M"
    return f"{number / _BILLION:.1f}G"


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
