"""A Django request with nothing in it but the database.

One cycle is the signal request_started, one ORM get() by primary key, and the signal
request_finished, in one thread; each configuration has a process of its own. Time and
round trips are taken in separate passes, so that counting disturbs no clock.

    python benchmarks/request.py [--quick] [--markdown] [database ...]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cycle import Subject
from databases import (
    DATABASES,
    KEPT,
    OURS,
    OURS_NATIVE,
    STOCK,
    Configuration,
    Database,
    Site,
)
from figures import (
    Spread,
    Table,
    Target,
    arguments,
    conditions,
    interleave,
    progress,
    show,
    targets_table,
)
from turns import TurnCounter

# Whether each request has a Django connection of its own, as under ASGI.
MODES = {False: "the thread's own wrapper", True: "a new wrapper for each request"}


# -- measuring -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What one cycle takes: seconds, and what goes over the network."""

    seconds: Spread
    round_trips: float | None = None
    statements: float | None = None


# By configuration, and whether each request has a new wrapper.
Costs = Mapping[tuple[str, bool], Cost]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    cycles: int
    counted: int


def measure(database: Database, effort: Effort) -> Costs:
    with ExitStack() as stack:
        directory, site = stack.enter_context(prepared(database))
        counts = {}
        if site.log is not None:
            counts = count_all(database, site, directory, effort.counted)
            site.log.end()
        subjects = {
            each.name: stack.enter_context(
                closing(Subject(each.entry(site.place), directory))
            )
            for each in database.possible
        }
        found = interleave(
            list(product(subjects, MODES)),
            effort.rounds,
            lambda run: subjects[run[0]].run(effort.cycles, new_wrapper=run[1]),
        )
    return {
        run: Cost(Spread(tuple(rounds)), *counts.get(run, ()))
        for run, rounds in found.items()
    }


@contextmanager
def prepared(database: Database) -> Iterator[tuple[str, Site]]:
    """A folder, and the database with what the cycle reads."""
    with (
        tempfile.TemporaryDirectory() as directory,
        database.open(Path(directory)) as site,
    ):
        entry = database.possible[0].entry(site.place)
        with closing(Subject(entry, directory)) as maker:
            maker.make_tables(migrate=database.real)
        yield directory, site


def count_all(
    database: Database, site: Site, directory: str, cycles: int
) -> dict[tuple[str, bool], tuple[float, float]]:
    """Round trips and statements of a cycle, by configuration and mode."""
    counts = {}
    for each, new in product(database.possible, MODES):
        progress(f"counting: {each.name}, {MODES[new]}")
        counts[each.name, new] = count(each, site, directory, cycles, new=new)
    return counts


def count(
    configuration: Configuration,
    site: Site,
    directory: str,
    cycles: int,
    *,
    new: bool,
) -> tuple[float, float]:
    """Round trips and statements of one cycle, once all connections are open."""
    assert site.log is not None
    with TurnCounter(site.place["HOST"], site.place["PORT"]) as proxy:
        place = {**site.place, "HOST": proxy.host, "PORT": proxy.port}
        with closing(Subject(configuration.entry(place), directory)) as subject:
            subject.run(cycles, new_wrapper=new)
            time.sleep(0.5)  # some pools open connections in the background
            turns, statements = proxy.turns, site.log.statements()
            subject.run(cycles, new_wrapper=new)
            turns = proxy.turns - turns
            statements = site.log.statements() - statements
    return turns / cycles, statements / cycles


# -- tables --------------------------------------------------------------------


def cost_table(database: Database, costs: Costs, new: bool) -> Table:
    base = costs[KEPT, False]
    counted = base.round_trips is not None
    header = ["configuration"]
    if counted:
        header += ["round trips", "statements"]
    if database.real:  # how fast an emulator is says nothing
        header += ["minimum, µs", "median, µs", "of the base (minima)"]
    rows = []
    for (name, is_new), cost in costs.items():
        if is_new is not new:
            continue
        row = [name]
        if counted:
            row += [f"{cost.round_trips:g}", f"{cost.statements:g}"]
        if database.real:
            row += [
                f"{seconds * 1e6:,.0f}"
                for seconds in (cost.seconds.least, cost.seconds.median)
            ]
            row.append(f"{cost.seconds.ratio(base.seconds):.2f}")
        rows.append(tuple(row))
    return Table(f"{database.name}: {MODES[new]}", tuple(header), tuple(rows))


def targets(results: Mapping[str, Costs]) -> Iterator[Target]:
    for database, costs in results.items():
        for name in dict.fromkeys(
            name for name, _new in costs if name.startswith(OURS)
        ):
            trips = [costs[name, new].round_trips for new in MODES]
            if None in trips:
                continue
            yield Target(
                f"{database}, {name}: round trips, own and new wrapper",
                "1, 1",
                ", ".join(f"{each:g}" for each in trips if each is not None),
                trips == [1, 1],
            )
    for costs in filter(None, [results.get("PostgreSQL")]):
        for name in (OURS_NATIVE, OURS):
            ratio = costs[name, False].seconds.ratio(costs[KEPT, False].seconds)
            yield Target(
                f"PostgreSQL, {name}: time / {KEPT}, own wrapper",
                "≤ 1.100",
                f"{ratio:.3f}",
                ratio <= 1.10,
            )
    for costs in filter(None, [results.get("SQLite")]):
        ratio = costs[STOCK, True].seconds.ratio(costs[OURS, True].seconds)
        yield Target(
            f"SQLite, djpool: {STOCK} / time, new wrapper",
            "≥ 3.00",
            f"{ratio:.2f}",
            ratio >= 3.0,
        )


def main() -> None:
    parser = arguments("A Django request with nothing in it but the database.")
    names = [each.name.lower() for each in DATABASES]
    parser.add_argument("database", nargs="*", help=f"of {', '.join(names)}; or all")
    options = parser.parse_args()
    if unknown := set(options.database) - set(names):
        parser.error(f"no such database: {', '.join(sorted(unknown))}")
    effort = Effort(5, 5, 5) if options.quick else Effort(150, 10, 20)
    results = {
        each.name: (each, measure(each, effort))
        for each in DATABASES
        if each.name.lower() in (options.database or names)
    }
    used = {name for each, _costs in results.values() for name in each.distributions}
    parts: list[Table | str] = [
        conditions("Django", *sorted(used))
        + f" The base is {KEPT} with {MODES[False]}."
    ]
    for database, costs in results.values():
        parts += [cost_table(database, costs, new) for new in MODES]
    costs_of = {name: costs for name, (_database, costs) in results.items()}
    parts.append(targets_table("a request", targets(costs_of)))
    show(parts, markdown=options.markdown)


if __name__ == "__main__":
    main()
