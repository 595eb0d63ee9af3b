"""Round trips of a Django request: counted, and so the same on any machine.

The cycle, and the ways to set Django up, are those of request.py.

    python benchmarks/round_trips.py [--quick] [--markdown]
"""

from __future__ import annotations

from databases import DATABASES, Database
from figures import Table, arguments, conditions, show
from request import MODES, count_all, prepared


def trips_table(database: Database, cycles: int) -> Table:
    with prepared(database) as (directory, site):
        counts = count_all(database, site, directory, cycles)
    rows = [
        (each.name, *(f"{counts[each.name, new][0]:g}" for new in MODES))
        for each in database.possible
    ]
    return Table(database.name, ("configuration", *MODES.values()), tuple(rows))


def main() -> None:
    options = arguments("Round trips of a Django request.").parse_args()
    counted = [each for each in DATABASES if each.name != "SQLite"]
    used = {name for each in counted for name in each.distributions}
    tables = [trips_table(each, 5 if options.quick else 20) for each in counted]
    show([conditions("Django", *sorted(used)), *tables], markdown=options.markdown)


if __name__ == "__main__":
    main()
