"""Django's test suite: which of its labels to run, and one run of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.engines import engine_of
from tests.django_suite.engines import Place

# What a backend can break, of all that Django tests.
LABELS = (
    *("backends", "transactions", "transaction_hooks", "select_for_update"),
    *("test_utils", "test_runner", "handlers", "asgi", "async", "servers"),
    *("schema", "introspection", "inspectdb", "migrations"),
    *("basic", "delete", "queries", "aggregation", "postgres_tests"),
)
# Labels that make sense on one kind of database only.
ONLY_ON = {"postgres_tests": "postgresql"}
# Labels whose tables a backend cannot make, with djpool or without: Connector/Python's
# writes a comment with a quote in it, as theirs have, in a way that MySQL refuses.
IMPOSSIBLE = {"mysql_connector": {"introspection", "inspectdb"}}


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run."""

    found: set[str]
    failed: set[str]
    skipped: set[str]
    counts: dict[str, int]
    output: str
    seconds: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return f"{counts}; {self.seconds:.0f} s"


class Crashed(Exception):
    """The tests did not begin, or did not come to their end; says what was printed."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Django's tests in a folder, and how they are run. Thread-safe."""

    tests: Path
    records: Path
    parallel: int = 1
    outputs: Path | None = None

    def labels(self, engine: str, wanted: Sequence[str]) -> list[str]:
        """Those labels that this release of Django has, and the engine can run."""
        return [
            label
            for label in wanted
            if (self.tests / label.partition(".")[0]).exists()
            and engine.startswith(ONLY_ON.get(label, ""))
            and label not in IMPOSSIBLE.get(engine_of(engine).backend, ())
        ]

    def run(
        self, engine: str, where: Place, labels: Sequence[str], *, stock: bool = False
    ) -> Run:
        """Run labels, or all for none, with an engine or the one it stands in for.

        Raises:
            Crashed: There is no record of what came of the tests.
        """
        name = f"{engine}-stock" if stock else engine
        record = self.records / f"{name}.json"
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.django_suite.settings",
            "DJPOOL_SUITE_DATABASES": json.dumps(where.databases(engine, stock=stock)),
            "DJPOOL_SUITE_RECORD": str(record),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        started = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "runtests.py", "--noinput"),
                *(f"--parallel={self.parallel}", *labels),
            ],
            cwd=self.tests,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if self.outputs is not None:
            (self.outputs / f"{name}.log").write_text(done.stdout)
        if not record.exists():
            raise Crashed(f"{name} ended with {done.returncode}:\n{done.stdout}")
        recorded: dict[str, Any] = json.loads(record.read_text())
        return Run(
            found=set(recorded["found"]),
            failed=set(recorded["failed"]),
            skipped=set(recorded["skipped"]),
            counts=recorded["counts"],
            output=done.stdout,
            seconds=time.monotonic() - started,
        )
