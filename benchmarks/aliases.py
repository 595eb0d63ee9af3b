"""One alias that leaves work to the upkeep, alone and among 300 aliases.

A cursor that nobody closes, where leases end with each transaction; and a thread that
ends without giving its connection back. Either is told to the upkeep, which is to look
at the pool in question, and at no other. Each round is a process of its own, on SQLite.

    python benchmarks/aliases.py [--quick] [--markdown]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product

from figures import (
    Table,
    Target,
    arguments,
    conditions,
    interleave,
    show,
    targets_table,
)

SCRIPT = """
import sys, threading, time
import django
from django.conf import settings

folder, aliases, release, way, seconds = sys.argv[1:]
aliases, seconds = int(aliases), float(seconds)
settings.configure(
    DATABASES={
        f"other{number}" if number else "default": {
            "ENGINE": "djpool.backends.sqlite3",
            "NAME": f"{folder}/{number}.sqlite3",
            "OPTIONS": {"pool": {"max_size": 4, "release": release}},
        }
        for number in range(aliases)
    }
)
django.setup()
from django.db import connection, connections

for alias in connections:
    connections[alias].ensure_connection()
connections.close_all()


def cursor():
    connection.cursor().execute("SELECT 1")


def in_a_thread():
    thread = threading.Thread(target=cursor)
    thread.start()
    thread.join()


work = {"cursor": cursor, "thread": in_a_thread}[way]
for _ in range(200):
    work()
done, end = 0, time.perf_counter() + seconds
while time.perf_counter() < end:
    work()
    done += 1
print(done / seconds)
"""
MANY = 300
WAYS = {
    "a cursor that nobody closes": ("transaction", "cursor"),
    "a thread that ends with its lease": ("request", "thread"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is done again and again, in a process with so many aliases."""

    name: str
    aliases: int


def rate(case: Case, seconds: float) -> float:
    """How often a second."""
    release, way = WAYS[case.name]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(case.aliases), release, way, str(seconds)]
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(run.stdout)


def main() -> None:
    options = arguments("one alias alone, and among 300").parse_args()
    rounds, seconds = (1, 0.5) if options.quick else (5, 2.0)
    cases = [Case(name, aliases) for name, aliases in product(WAYS, (1, MANY))]
    found = interleave(cases, rounds, lambda case: rate(case, seconds))
    rows, targets = [], []
    for name in WAYS:
        alone, among = (max(found[Case(name, aliases)]) for aliases in (1, MANY))
        ratio = among / alone
        rows.append((name, f"{alone:,.0f}", f"{among:,.0f}", f"{ratio:.2f}"))
        targets.append(Target(name, "≥ 0.9", f"{ratio:.2f}", ratio >= 0.9))
    show(
        [
            Table(
                "Many aliases",
                ("times a second", "1 alias", f"{MANY} aliases", "ratio"),
                tuple(rows),
                f"The best of {rounds} rounds each.",
            ),
            targets_table(f"{MANY} aliases, of one", targets),
            conditions("Django", "djpool"),
        ],
        markdown=options.markdown,
    )


if __name__ == "__main__":
    main()
