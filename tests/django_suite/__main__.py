"""Runs Django's test suite with djpool's engines, and judges what failed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.backends.engines import engine_of
from tests.django_suite.engines import ENGINES, place
from tests.django_suite.known import known
from tests.django_suite.source import tests_directory
from tests.django_suite.suite import LABELS, Crashed, Run, Suite

# The runs of engines that stand in for one backend, and that backend's own.
Group = tuple[dict[str, Run], Run | None]


def main() -> int:
    """Run the suite with the engines asked for; 1 if djpool broke something."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        suite = Suite(tests_directory(), folder, options.parallel, options.outputs)
        places = {
            server: stack.enter_context(place(server, folder))
            for server in {engine_of(engine).server for engine in options.engine}
        }
        workers = stack.enter_context(ThreadPoolExecutor(options.jobs))

        def run_group(engines: list[str]) -> Group:
            """Each of them, and then without djpool what failed, in one run for all."""
            where = places[engine_of(engines[0]).server]
            labels = [] if options.all else suite.labels(engines[0], options.labels)
            runs = {engine: suite.run(engine, where, labels) for engine in engines}
            again = _labels_again(runs)
            stock = suite.run(engines[0], where, again, stock=True) if again else None
            return runs, stock

        try:
            groups = list(workers.map(run_group, _groups(options.engine)))
        except Crashed as crash:
            print(crash)
            return 1
    verdicts = [
        _judge(engine, run, stock)
        for runs, stock in groups
        for engine, run in runs.items()
    ]
    return 0 if all(verdicts) else 1


def _groups(engines: Iterable[str]) -> list[list[str]]:
    """Engines that stand in for the same backend, on the same server."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for engine in engines:
        parts = engine_of(engine)
        groups.setdefault((parts.backend, parts.server), []).append(engine)
    return list(groups.values())


def _labels_again(runs: dict[str, Run]) -> list[str]:
    """What to run without djpool: the labels of what failed, and is not known to.

    Whole labels, because what a test meets, others have left behind.
    """
    failed = {
        test for engine, run in runs.items() for test in run.failed - known(engine)
    }
    return sorted({test.partition(".")[0] for test in failed})


def _judge(engine: str, run: Run, stock: Run | None) -> bool:
    """Print what came of an engine's run, and whether djpool is all right."""
    print(f"{engine}: {run}")
    expected = known(engine)
    failed = run.failed - expected
    shared = failed & stock.failed if stock is not None else set()
    passed = run.found - run.failed - run.skipped
    for what, tests in (
        ("failed, as known", run.failed & expected),
        ("failed, as without djpool", shared),
        ("PASSED, but is known to fail", passed & expected),
        ("FAILED, with djpool only", failed - shared),
    ):
        for test in sorted(tests):
            print(f"    {what}: {test}")
    if failed - shared:
        print(run.output)
    return failed == shared and not passed & expected


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.django_suite")
    parser.add_argument("--labels", nargs="+", default=LABELS, help="of Django's tests")
    parser.add_argument("--all", action="store_true", help="every label there is")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--jobs", type=int, default=2, help="engines at a time")
    parser.add_argument("--parallel", type=int, default=1, help="processes for each")
    parser.add_argument(
        "--outputs", type=Path, metavar="FOLDER", help="what each run printed goes here"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
