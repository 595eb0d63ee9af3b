"""A pool's figures: what `PoolStats` says, and the counters it is made from."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

# Upper bounds in seconds. From a tenth of a millisecond, a warm query on
# loopback, to the default deadline of a caller and twice that.
BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


class CloseCause(enum.Enum):
    """Why a connection was closed."""

    LIFETIME = "lifetime"  # older than max_lifetime
    IDLE = "idle"  # unused for max_idle, or above a max_size made smaller
    BROKEN = "broken"  # found dead, or returned in a state beyond repair
    RESET = "reset"  # its session could not be brought back to how it began
    EVICTED = "evicted"  # drain() was called while it was open
    SHUTDOWN = "shutdown"  # the pool was closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many durations fell between which bounds.

    `counts[i]` counts durations up to and including `bounds[i]` seconds and
    above the bound before; the last count, one more than there are bounds,
    is of those above all bounds. `sum` is the seconds of all of them.
    """

    bounds: tuple[float, ...] = BOUNDS
    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """The bound that at least the share `q` (0 to 1) of durations kept to.

        None if there were no durations; infinity if it is above all bounds.
        """
        wanted = q * self.count
        if not wanted:
            return None
        seen = 0
        for bound, count in zip(self.bounds, self.counts):  # noqa: B905 (one more count)
            seen += count
            if seen >= wanted:
                return bound
        return float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """One consistent snapshot of one pool in one process.

    `in_use + idle + opening == size`, and `size <= max_size` unless `resize()`
    made the pool smaller than what is in use. Counters never go back, and
    every field is always there.
    """

    name: str
    alias: str
    vendor: str
    implementation: str
    pid: int
    # Gauges: connections, and callers for `waiting`.
    min_size: int
    max_size: int
    size: int
    idle: int
    in_use: int
    opening: int
    waiting: int
    # Counters.
    acquired_total: int
    waited_total: int
    timeouts_total: int
    rejected_total: int
    opened_total: int
    open_errors_total: int
    checks_total: int
    check_failures_total: int
    resets_total: int
    reclaimed_total: int
    leaks_total: int
    closed_total: Mapping[str, int]
    # Seconds, as sums and as histograms of the same durations: until a lease
    # was had, while it was held, and while a connection was being opened.
    wait_seconds_total: float
    use_seconds_total: float
    open_seconds_total: float
    wait_seconds: Histogram
    use_seconds: Histogram
    open_seconds: Histogram

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and strings, fit for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PoolStats:
        """What `as_dict()` gave, as `PoolStats` again.

        Raises:
            ValueError: A field is missing, unknown or of the wrong kind.
        """
        known = {field.name: field.type for field in fields(cls)}
        if values.keys() != known.keys():
            odd = ", ".join(sorted(values.keys() ^ known.keys()))
            raise ValueError(f"fields missing or unknown: {odd}")
        return cls(
            **{key: _read(key, kind, values[key]) for key, kind in known.items()}
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return {
            "bounds": list(value.bounds),
            "counts": list(value.counts),
            "sum": value.sum,
        }
    return dict(value) if isinstance(value, Mapping) else value


def _read(key: str, kind: Any, value: Any) -> Any:
    try:
        match kind:  # the names of types: this module's annotations are strings
            case "Histogram":
                bounds = tuple(float(bound) for bound in value["bounds"])
                counts = tuple(_count(count) for count in value["counts"])
                if len(counts) != len(bounds) + 1:
                    raise ValueError("one more count than bounds is needed")
                return Histogram(bounds=bounds, counts=counts, sum=float(value["sum"]))
            case "Mapping[str, int]":
                return {str(name): _count(count) for name, count in value.items()}
            case "int":
                return _count(value)
            case "float":
                return float(value)
            case _:
                if not isinstance(value, str):
                    raise ValueError("text is needed")
                return value
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{key}: {value!r} will not do: {error}") from error


def _count(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"a whole number is needed, not {value!r}")
    return value


# Which fields of a sum over pools are not sums.
_NAMES = frozenset({"name", "alias", "vendor", "implementation"})


def total(stats: Iterable[PoolStats]) -> PoolStats:
    """The figures of several processes' pools of one alias as one, with pid 0.

    Raises:
        ValueError: There were none.
    """
    every = list(stats)
    if not every:
        raise ValueError("a sum needs at least one PoolStats")
    sums: dict[str, Any] = {"pid": 0}
    for field in fields(PoolStats):
        values = [getattr(each, field.name) for each in every]
        if field.name in _NAMES:
            sums[field.name] = " + ".join(dict.fromkeys(values))
        elif field.name != "pid":
            sums[field.name] = _add(values)
    return PoolStats(**sums)


def _add(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Histogram):
        if any(each.bounds != first.bounds for each in values):
            raise ValueError("histograms with other bounds cannot be added")
        return Histogram(
            bounds=first.bounds,
            counts=tuple(map(sum, zip(*(each.counts for each in values), strict=True))),
            sum=sum(each.sum for each in values),
        )
    if isinstance(first, Mapping):
        names = dict.fromkeys(name for each in values for name in each)
        return {name: sum(each.get(name, 0) for each in values) for name in names}
    return sum(values)


class Durations:
    """A histogram that still grows. One thread at a time may add to it."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def copy(self) -> Durations:
        """The same counts, in an object of their own."""
        copied = Durations()
        copied.counts, copied.sum = self.counts.copy(), self.sum
        return copied

    def absorb(self, other: Durations) -> None:
        """Count everything that `other` counted."""
        self.counts = [
            mine + its for mine, its in zip(self.counts, other.counts, strict=True)
        ]
        self.sum += other.sum

    def snapshot(self, instant: int = 0) -> Histogram:
        """What was counted so far, and `instant` durations too short to measure."""
        first, *rest = self.counts
        return Histogram(counts=(first + instant, *rest), sum=self.sum)


class Counters:
    """A pool's counters. They only grow; the pool's lock guards them."""

    __slots__ = (
        "acquired",
        "check_failures",
        "checks",
        "closed",
        "leaks",
        "open_errors",
        "opened",
        "opens",
        "reclaimed",
        "rejected",
        "resets",
        "timeouts",
        "uses",
        "waited",
        "waits",
    )

    def __init__(self) -> None:
        # Leases and their uses; what an open connection's entry still counts is
        # not in here.
        self.acquired = 0
        self.waited = 0
        self.timeouts = 0
        self.rejected = 0
        self.opened = 0
        self.open_errors = 0
        self.checks = 0
        self.check_failures = 0
        self.resets = 0
        self.reclaimed = 0
        self.leaks = 0
        self.closed = dict.fromkeys((cause.value for cause in CloseCause), 0)
        self.waits = Durations()
        self.uses = Durations()
        self.opens = Durations()

    def copy(self) -> Counters:
        """The same numbers, in an object of their own."""
        copied = Counters()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(copied, name, value if isinstance(value, int) else value.copy())
        return copied

    def absorb(self, other: Counters) -> None:
        """Count everything that `other` counted."""
        for name in self.__slots__:
            mine, its = getattr(self, name), getattr(other, name)
            if isinstance(mine, Durations):
                mine.absorb(its)
            elif isinstance(mine, dict):
                for cause, count in its.items():
                    mine[cause] = mine.get(cause, 0) + count
            else:
                setattr(self, name, mine + its)
