"""What Prometheus is given, its own parser reads, and finds all figures in."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from djpool.core.stats import BOUNDS
from djpool.exporters.prometheus import family, render
from tests.monitor.helpers import make_stats

if TYPE_CHECKING:
    from prometheus_client import Metric


def parse(text: str) -> dict[str, Metric]:
    """Return the metrics of a scrape; each is there once."""
    families = list(text_string_to_metric_families(text))
    assert len({each.name for each in families}) == len(families)
    return {each.name: each for each in families}


def test_every_figure_is_there() -> None:
    """With a kind and a description for each metric."""
    stats = make_stats(min_size=2, waiting=4)
    metrics = parse(render([stats]))
    assert {
        name: {tuple(sample.labels.values())[5:]: sample.value for sample in m.samples}
        for name, m in metrics.items()
        if m.type != "histogram"
    } == {
        "djpool_connections": {("in_use",): 1, ("idle",): 2, ("opening",): 0},
        "djpool_connections_min": {(): 2},
        "djpool_connections_max": {(): 10},
        "djpool_waiting_callers": {(): 4},
        "djpool_acquired": {(): 8},
        "djpool_waited": {(): 3},
        "djpool_timeouts": {(): 1},
        "djpool_rejected": {(): 0},
        "djpool_opened": {(): 4},
        "djpool_open_errors": {(): 0},
        "djpool_checks": {(): 0},
        "djpool_check_failures": {(): 0},
        "djpool_resets": {(): 0},
        "djpool_reclaimed": {(): 0},
        "djpool_leaks": {(): 0},
        "djpool_closed": {("lifetime",): 0, ("idle",): 1},
    }
    for metric in metrics.values():
        assert metric.documentation.endswith(".")
        if metric.type == "counter":
            assert all(sample.name.endswith("_total") for sample in metric.samples)


def test_every_sample_says_of_which_pool_it_is() -> None:
    wanted = {
        "alias": "default",
        "name": "default",
        "vendor": "sqlite",
        "implementation": "fallback",
        "pid": str(os.getpid()),
    }
    for metric in parse(render([make_stats()])).values():
        for sample in metric.samples:
            assert wanted.items() <= sample.labels.items()


def test_histograms_count_upwards() -> None:
    metric = parse(render([make_stats()]))["djpool_wait_seconds"]
    assert metric.type == "histogram"
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in metric.samples
        if sample.name == "djpool_wait_seconds_bucket"
    ]
    assert buckets[:2] == [(BOUNDS[0], 5), (BOUNDS[1], 8)]
    assert buckets[-2:] == [(BOUNDS[-1], 8), (math.inf, 9)]
    rest = {sample.name: sample.value for sample in metric.samples[len(buckets) :]}
    assert rest == {"djpool_wait_seconds_sum": 61.5, "djpool_wait_seconds_count": 9}


def test_several_pools_share_their_metrics() -> None:
    pools = [make_stats(pid=pid, alias=alias) for pid in (1, 2) for alias in "ab"]
    metric = parse(render(pools))["djpool_acquired"]
    assert [(s.labels["pid"], s.labels["alias"]) for s in metric.samples] == [
        ("1", "a"),
        ("1", "b"),
        ("2", "a"),
        ("2", "b"),
    ]


def test_pools_that_cannot_be_told_apart_are_added() -> None:
    """A scrape with the same labels twice would be refused whole."""
    metric = parse(render([make_stats(pid=7), make_stats(pid=7)]))["djpool_acquired"]
    assert [(s.labels["pid"], s.value) for s in metric.samples] == [("7", 16)]


def test_names_are_escaped() -> None:
    name = 'a "pool"\\n\nof mine'
    for metric in parse(render([make_stats(name=name)])).values():
        assert {sample.labels["name"] for sample in metric.samples} == {name}


def test_no_pools_are_an_empty_scrape() -> None:
    assert render([]) == ""


def test_a_family_of_ones_own() -> None:
    """The command adds the servers' figures with it."""
    text = family("a_b", "gauge", "Two\nlines.", [("", {"x": "1"}, 2)])
    assert text == '# HELP a_b Two\\nlines.\n# TYPE a_b gauge\na_b{x="1"} 2\n'
