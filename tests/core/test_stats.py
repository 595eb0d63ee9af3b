"""Figures: snapshots, sums, and the way through JSON and back."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from djpool.core import Histogram, PoolStats, PoolTimeout, total
from djpool.core.stats import BOUNDS, Durations
from tests.core.fakes import Server, make_pool


@pytest.fixture
def stats() -> PoolStats:
    pool = make_pool(Server(), name="shop")
    pool.acquire().release()
    return pool.stats()


def test_a_histogram_counts_up_to_and_including_each_bound() -> None:
    durations = Durations()
    for seconds in (0, BOUNDS[0], BOUNDS[0] * 1.01, 60, 61):
        durations.add(seconds)
    histogram = durations.snapshot()
    assert histogram.counts[:2] == (2, 1)
    assert histogram.counts[-2:] == (1, 1)
    assert histogram.count == 5
    assert histogram.sum == pytest.approx(121 + BOUNDS[0] * 2.01)


def test_a_quantile_is_a_bound_that_was_kept() -> None:
    durations = Durations()
    assert durations.snapshot().quantile(0.5) is None
    for _ in range(99):
        durations.add(0.002)
    durations.add(1000)
    histogram = durations.snapshot()
    assert histogram.quantile(0.5) == histogram.quantile(0.99) == 0.0025
    assert histogram.quantile(1) == float("inf")


def test_figures_cannot_be_changed(stats: PoolStats) -> None:
    with pytest.raises(FrozenInstanceError):
        stats.size = 3  # type: ignore[misc]


def test_figures_go_through_json_and_back(stats: PoolStats) -> None:
    assert PoolStats.from_dict(json.loads(json.dumps(stats.as_dict()))) == stats


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": None}, "size"),
        ({"size": "3"}, "size"),
        ({"name": 3}, "name"),
        ({"wait_seconds": 3}, "wait_seconds"),
        ({"wait_seconds": {"bounds": [1], "counts": [1], "sum": 0}}, "one more count"),
        ({"closed_total": {"idle": "x"}}, "closed_total"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_are_no_figures_is_refused_by_field(
    stats: PoolStats, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        PoolStats.from_dict(stats.as_dict() | change)


def test_a_missing_field_is_refused(stats: PoolStats) -> None:
    values = stats.as_dict()
    del values["idle"]
    with pytest.raises(ValueError, match="fields missing or unknown: idle"):
        PoolStats.from_dict(values)


def test_figures_of_several_processes_add_up(stats: PoolStats) -> None:
    summed = total([stats, replace(stats, pid=7, in_use=2)])
    assert summed.pid == 0
    assert summed.name == "shop"
    assert summed.max_size == 2 * stats.max_size
    assert summed.in_use == 2
    assert summed.acquired_total == 2
    assert summed.wait_seconds.count == 2
    assert summed.closed_total == dict.fromkeys(stats.closed_total, 0)
    assert total([stats]) == replace(stats, pid=0)
    with pytest.raises(ValueError, match="at least one"):
        total([])


def test_histograms_with_other_bounds_do_not_add_up(stats: PoolStats) -> None:
    other = replace(stats, wait_seconds=Histogram(bounds=(1.0,), counts=(0, 0)))
    with pytest.raises(ValueError, match="other bounds"):
        total([stats, other])


def test_an_error_keeps_its_figures_between_processes(stats: PoolStats) -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PoolTimeout("too late", stats)))
    assert str(error) == "too late"
    assert error.stats == stats
