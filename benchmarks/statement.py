"""What a statement costs the process itself, with djpool and without.

One raw statement through a Django cursor, and the same with the end of the request
after it. It is the client's CPU time: on two cores the wall clock of a statement to a
server depends on where the two processes run.

    python benchmarks/statement.py [--quick] [--markdown]
"""

from __future__ import annotations

from contextlib import ExitStack, closing

from cycle import Subject
from databases import DATABASES, KEPT, Configuration, Database, pool
from figures import Spread, Table, arguments, conditions, interleave, show
from request import prepared

STOCK_ENGINES = {
    "PostgreSQL": "postgresql",
    "MariaDB": "mysql",
    "SQLite": "sqlite3",
}


def configurations(engine: str) -> tuple[Configuration, ...]:
    ours = f"djpool.backends.{engine}"
    return (
        Configuration(KEPT, f"django.db.backends.{engine}", {"CONN_MAX_AGE": 600}),
        Configuration("djpool", ours, pool()),
        Configuration('release: "transaction"', ours, pool(release="transaction")),
    )


def measure(database: Database, rounds: int, count: int) -> Table:
    with ExitStack() as stack:
        directory, site = stack.enter_context(prepared(database))
        if site.log is not None:
            site.log.end()
        subjects = {
            each.name: stack.enter_context(
                closing(Subject(each.entry(site.place), directory))
            )
            for each in configurations(STOCK_ENGINES[database.name])
        }
        found = interleave(
            [(name, ends) for name in subjects for ends in (False, True)],
            rounds,
            lambda run: subjects[run[0]].statement(count, ends=run[1]),
        )
    costs = {run: Spread(tuple(each)) for run, each in found.items()}
    rows = []
    for name in subjects:
        row = [name]
        for ends in (False, True):
            cost, base = costs[name, ends], costs[KEPT, ends]
            more = (cost.least - base.least) * 1e6
            row += [
                f"{cost.least * 1e6:.2f}",
                f"{more:+.2f}",
                f"{cost.ratio(base):.2f}",
            ]
        rows.append(tuple(row))
    header = (
        *("configuration", "statement: minimum, µs CPU", "above", "of the first"),
        *("with the request's end", "above", "of the first"),
    )
    return Table(f"{database.name}: one statement", header, tuple(rows))


def main() -> None:
    options = arguments("What a statement costs the process itself.").parse_args()
    rounds, count = (3, 200) if options.quick else (30, 2000)
    parts: list[Table | str] = [conditions("Django", "psycopg", "mysqlclient")]
    parts += [
        measure(database, rounds, count)
        for database in DATABASES
        if database.name in STOCK_ENGINES
    ]
    show(parts, markdown=options.markdown)


if __name__ == "__main__":
    main()
