"""A process with pools, as far as others can tell. Started by its path.

It prints its pid and its socket's path, a line for each process, when it has begun
to answer, and ends when its standard input does. Its first argument is JSON:
`folder` and `project` of the socket, or neither for those of the Django settings;
`pools`, the changes to `make_stats()` by alias; `fork`: also begin as a forked child.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from djpool.core.stats import BOUNDS, Histogram, PoolStats
from djpool.monitor.place import Place
from djpool.monitor.publish import Publisher


def make_stats(**changes: Any) -> PoolStats:
    """Return the figures of a pool with three connections, one in use."""
    waits = (5, 3, *[0] * (len(BOUNDS) - 2), 1)
    figures: dict[str, Any] = {
        "name": "default",
        "alias": "default",
        "vendor": "sqlite",
        "implementation": "fallback",
        "pid": os.getpid(),
        "min_size": 0,
        "max_size": 10,
        "size": 3,
        "idle": 2,
        "in_use": 1,
        "opening": 0,
        "waiting": 0,
        "acquired_total": 8,
        "waited_total": 3,
        "timeouts_total": 1,
        "rejected_total": 0,
        "opened_total": 4,
        "open_errors_total": 0,
        "checks_total": 0,
        "check_failures_total": 0,
        "resets_total": 0,
        "reclaimed_total": 0,
        "leaks_total": 0,
        "closed_total": {"lifetime": 0, "idle": 1},
        "wait_seconds_total": 61.5,
        "use_seconds_total": 0.0,
        "open_seconds_total": 0.0,
        "wait_seconds": Histogram(counts=waits, sum=61.5),
        "use_seconds": Histogram(),
        "open_seconds": Histogram(),
    }
    return PoolStats(**{**figures, **changes})


def main(order: dict[str, Any]) -> None:
    """Answer until the end of standard input."""
    # Some Pythons warn of a thread that begins right after the fork as well.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")

    def snapshot() -> dict[str, PoolStats]:
        pools: dict[str, dict[str, Any]] = order["pools"]
        return {
            alias: make_stats(**{"alias": alias, "name": alias, **changes})
            for alias, changes in pools.items()
        }

    if "folder" in order:
        publisher = Publisher(Place(Path(order["folder"])), order["project"], snapshot)
        publisher.start()
        if order.get("fork"):
            publisher.before_fork()
            if os.fork():
                publisher.after_fork_in_parent()
            else:
                publisher.after_fork_in_child()
                publisher.start()
        path = publisher.path
    else:
        from djpool import channel

        channel.publish(snapshot)
        if order.get("fork") and not os.fork():
            assert channel.publisher is None
            channel.publish(snapshot)
        assert channel.publisher is not None
        path = channel.publisher.path
    sys.stdout.write(f"{os.getpid()} {path}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
