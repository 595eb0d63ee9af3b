"""What it costs to keep sessions clean, and to give connections back between queries.

The cycle is that of request.py, with twenty queries; each configuration has a process
of its own, and all take turns.

    python benchmarks/sessions.py [--quick] [--markdown]
"""

from __future__ import annotations

import timeit
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace

from cycle import Subject
from databases import DATABASES, KEPT, Configuration, Database, pool
from figures import (
    Spread,
    Table,
    Target,
    arguments,
    conditions,
    interleave,
    show,
    targets_table,
)
from request import prepared

QUERIES = 20
NEVER, AUTO, ALWAYS = 'reset: "never"', 'reset: "auto"', 'reset: "always"'
EARLY = 'release: "transaction"'
# Runs first in each request, where the session is to be changed.
CHANGES = {
    "PostgreSQL": ("djpool.backends.postgresql", "SET statement_timeout = '55s'"),
    "MariaDB": ("djpool.backends.mysql", "SET @mine = 1"),
    "SQLite": ("djpool.backends.sqlite3", "PRAGMA cache_size = 55"),
}
# By configuration, and whether the session is changed.
Costs = Mapping[tuple[str, bool], Spread]


def configurations(engine: str) -> tuple[Configuration, ...]:
    return (
        Configuration(NEVER, engine, pool(reset="never")),
        Configuration(AUTO, engine, pool()),
        Configuration(ALWAYS, engine, pool(reset="always")),
        Configuration(EARLY, engine, pool(release="transaction")),
    )


def measure(database: Database, rounds: int, cycles: int) -> Costs:
    engine, change = CHANGES[database.name]
    with ExitStack() as stack:
        directory, site = stack.enter_context(prepared(database))
        if site.log is not None:
            site.log.end()
        subjects = {
            each.name: stack.enter_context(
                closing(Subject(each.entry(site.place), directory))
            )
            for each in configurations(engine)
        }
        found = interleave(
            [(name, changed) for name in subjects for changed in (False, True)],
            rounds,
            lambda run: subjects[run[0]].run(
                cycles, new_wrapper=True, queries=QUERIES, first=change * run[1]
            ),
        )
    return {run: Spread(tuple(each)) for run, each in found.items()}


def cost_table(database: Database, costs: Costs) -> Table:
    rows = []
    for name in dict.fromkeys(name for name, _changed in costs):
        row = [name]
        for changed in (False, True):
            cost, base = costs[name, changed], costs[NEVER, changed]
            row += [f"{cost.least * 1e6:,.0f}", f"{cost.ratio(base):.3f}"]
        rows.append(tuple(row))
    header = (
        *("configuration", "clean: minimum, µs", "of the first"),
        *("changed: minimum, µs", "of the first"),
    )
    return Table(f"{database.name}: {QUERIES} queries", header, tuple(rows))


def statements_table() -> Table:
    """What a statement costs to judge, in one thread."""
    from djpool.adapters.libpq import statements

    text = (
        'SELECT "shop_item"."id", "shop_item"."name", "shop_item"."price" FROM '
        '"shop_item" WHERE ("shop_item"."id" = %s AND "shop_item"."name" = %s) LIMIT 21'
    )
    copies = [f"{text} -- {number}" for number in range(200)]

    def known() -> None:
        for each in copies:
            statements(each)

    def unknown() -> None:
        statements._known.clear()  # noqa: SLF001 (its memory)
        for each in copies:
            statements(each)

    rows = []
    for name, work in (("seen before", known), ("new", unknown)):
        work()
        best = min(timeit.repeat(work, number=20, repeat=20)) / 20 / len(copies)
        rows.append((name, f"{best * 1e6:.2f}"))
    return Table("Judging a statement", ("statement", "minimum, µs"), tuple(rows))


def targets(results: Mapping[str, Costs]) -> Iterator[Target]:
    for database, costs in results.items():
        tracking = costs[AUTO, False].ratio(costs[NEVER, False])
        if database == "PostgreSQL":
            yield Target(
                f"{database}: tracking, of a request that tracks nothing",
                "≤ 1.030",
                f"{tracking:.3f}",
                tracking <= 1.03,
            )
        early = costs[EARLY, False].ratio(costs[AUTO, False])
        yield Target(
            f'{database}: {EARLY} / release: "request"',
            "≤ 1.100",
            f"{early:.3f}",
            early <= 1.10,
        )


def main() -> None:
    options = arguments("What clean sessions and early release cost.").parse_args()
    rounds, cycles = (5, 3) if options.quick else (150, 5)
    measured = [
        # The configurations of request.py make the tables, and are not measured.
        replace(each, configurations=each.configurations[:1])
        for each in DATABASES
        if each.name in CHANGES
    ]
    results = {each.name: measure(each, rounds, cycles) for each in measured}
    parts: list[Table | str] = [
        conditions("Django", "psycopg", "psycopg-pool", "mysqlclient")
        + f" Each request has a new wrapper; the tables were made with {KEPT}."
    ]
    parts += [cost_table(each, results[each.name]) for each in measured]
    parts += [statements_table(), targets_table("sessions", targets(results))]
    show(parts, markdown=options.markdown)


if __name__ == "__main__":
    main()
