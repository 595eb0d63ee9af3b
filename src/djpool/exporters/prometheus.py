"""Figures in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Literal

from djpool.core.stats import Histogram, PoolStats, total

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]
# What is added to a metric's name, the labels and the value.
Sample = tuple[str, Mapping[str, str], float]

_STATES = ("in_use", "idle", "opening")

_GAUGES = {
    "djpool_connections_min": ("min_size", "Connections that the pool keeps open."),
    "djpool_connections_max": ("max_size", "Connections that the pool may open."),
    "djpool_waiting_callers": ("waiting", "Callers that wait for a connection now."),
}

_COUNTERS = {
    "acquired_total": "Leases that callers got.",
    "waited_total": "Leases that callers had to wait for.",
    "timeouts_total": "Callers that got no connection in time.",
    "rejected_total": "Callers turned away because too many were waiting.",
    "opened_total": "Connections opened.",
    "open_errors_total": "Attempts to open a connection that failed.",
    "checks_total": "Pings of connections before they were lent.",
    "check_failures_total": "Connections found dead before they were lent.",
    "resets_total": "Sessions restored after a lease.",
    "reclaimed_total": "Leases taken back from owners that were gone.",
    "leaks_total": "Leases held longer than leak_threshold.",
}

_HISTOGRAMS = {
    "wait_seconds": "Seconds until a caller had its lease.",
    "use_seconds": "Seconds that leases were held.",
    "open_seconds": "Seconds that opening a connection took.",
}


def render(stats: Iterable[PoolStats]) -> str:
    """Return the figures of pools, of one process or of several, for a scrape.

    Every metric is there once, with one sample or more for each pool; the labels
    `alias name vendor implementation pid` tell pools apart. Without any pool, the
    text is empty.
    """
    pools = _merge(stats)
    if not pools:
        return ""
    families = [
        family(
            "djpool_connections",
            "gauge",
            "Open connections, and those that are being opened, by state.",
            (
                ("", {**labels, "state": state}, getattr(pool, state))
                for labels, pool in pools
                for state in _STATES
            ),
        )
    ]
    for name, (field, words) in _GAUGES.items():
        families.append(family(name, "gauge", words, _values(pools, field)))
    for field, words in _COUNTERS.items():
        values = _values(pools, field)
        families.append(family(f"djpool_{field}", "counter", words, values))
    families.append(
        family(
            "djpool_closed_total",
            "counter",
            "Connections closed, by cause.",
            (
                ("", {**labels, "cause": cause}, count)
                for labels, pool in pools
                for cause, count in pool.closed_total.items()
            ),
        )
    )
    for field, words in _HISTOGRAMS.items():
        values = _histograms(pools, field)
        families.append(family(f"djpool_{field}", "histogram", words, values))
    return "".join(families)


def family(name: str, kind: Kind, words: str, samples: Iterable[Sample]) -> str:
    """Return one metric: what it is, and its samples."""
    described = words.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {described}\n", f"# TYPE {name} {kind}\n"]
    for suffix, labels, value in samples:
        pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        lines.append(f"{name}{suffix}{{{pairs}}} {_number(value)}\n")
    return "".join(lines)


_Pools = list[tuple[dict[str, str], PoolStats]]


def _merge(stats: Iterable[PoolStats]) -> _Pools:
    """Give each pool its labels. A scrape with the same labels twice is refused whole.

    Processes in different containers can have one number; their figures are added.
    """
    same: dict[tuple[str, ...], list[PoolStats]] = {}
    names = ("alias", "name", "vendor", "implementation", "pid")
    for pool in stats:
        same.setdefault(tuple(map(str, attrgetter(*names)(pool))), []).append(pool)
    return [
        (
            dict(zip(names, values, strict=True)),
            pools[0] if len(pools) == 1 else replace(total(pools), pid=pools[0].pid),
        )
        for values, pools in same.items()
    ]


def _values(pools: _Pools, field: str) -> Iterator[Sample]:
    for labels, pool in pools:
        yield "", labels, getattr(pool, field)


def _histograms(pools: _Pools, field: str) -> Iterator[Sample]:
    for labels, pool in pools:
        histogram: Histogram = getattr(pool, field)
        seen = 0
        bounds = (*histogram.bounds, math.inf)
        for bound, count in zip(bounds, histogram.counts, strict=True):
            seen += count
            yield "_bucket", {**labels, "le": _number(float(bound))}, seen
        yield "_sum", labels, histogram.sum
        yield "_count", labels, seen


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(value)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
