"""Django's test runner, writing down what came of each test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner


class RecordingRunner(DiscoverRunner):
    """Writes a record as JSON to the file that the environment names."""

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        # Now, because a suite forgets its tests while it runs them.
        found = sorted(test.id() for test in _each(suite))
        result: Any = super().run_suite(suite, **kwargs)
        failures = [test for test, _why in result.failures] + result.unexpectedSuccesses
        errors = [test for test, _why in result.errors]
        record = {
            "found": found,
            "failed": sorted({_label(test) for test in failures + errors}),
            "skipped": sorted({_label(test) for test, _why in result.skipped}),
            "counts": {
                "ran": result.testsRun,
                "failures": len(failures),
                "errors": len(errors),
                "skipped": len(result.skipped),
            },
        }
        Path(os.environ["DJPOOL_SUITE_RECORD"]).write_text(json.dumps(record))
        return result


def _each(suite: Iterable[Any]) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, Iterable):
            yield from _each(test)
        else:
            yield test


def _label(test: Any) -> str:
    """What runs this test again: of a subtest its test, of a fixture its class."""
    name: str = getattr(test, "test_case", test).id()
    if name.endswith(")"):  # "setUpClass (module.Class)"
        return name.partition("(")[2].rstrip(")")
    return name.removeprefix("unittest.loader._FailedTest.")
