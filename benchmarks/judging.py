"""What it costs to judge a statement by its text: short ones, long ones, hostile ones.

Nothing runs but the judges, and SQLite beside its own. No server is needed.

    python benchmarks/judging.py [--quick] [--markdown]
"""

from __future__ import annotations

import sqlite3
import tempfile
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from figures import Spread, Table, Target, arguments, conditions, show, targets_table

from djpool.adapters import libpq, mysql_session, oracledb_session, sqlite3_session
from djpool.core.session import Statements, any_database

JUDGES: Mapping[str, Statements] = {
    "PostgreSQL": libpq.statements,
    "MySQL": mysql_session.statements,
    "SQLite": sqlite3_session.statements,
    "Oracle": oracledb_session.statements,
    "any": any_database(),
}
QUOTES = {"MySQL": "`"}

# -- short statements ----------------------------------------------------------------

COLUMNS = ("id", "name", "total", "customer_id", "created", "status", "paid")
ORM = (
    "SELECT "
    + ", ".join(f'"shop_order"."{column}"' for column in COLUMNS)
    + ' FROM "shop_order" INNER JOIN "shop_customer" ON ("shop_order"."customer_id" ='
    ' "shop_customer"."id") WHERE "shop_customer"."name" = %s LIMIT 21'
)
SHORT = {
    "a query of the ORM's": ORM,
    "the same with COUNT and IN": ORM.replace("SELECT ", "SELECT COUNT(*), ").replace(
        "= %s", "IN (%s, %s)"
    ),
    "the same with a literal": ORM.replace("= %s", "= 'abc'"),
    "the same with a comment behind it": f"{ORM} /*route='shop',id='7'*/",
    "INSERT": 'INSERT INTO "shop_order" ("name", "total") VALUES (%s, %s)',
    "SAVEPOINT": 'SAVEPOINT "s140172_x7"',
}


def microseconds(work: Callable[[], Any], number: int) -> float:
    return (
        Spread(tuple(timeit.repeat(work, number=number, repeat=7))).least / number * 1e6
    )


def new(judge: Statements, text: str) -> Callable[[], Any]:
    """Judge it as if it had never been seen."""
    return lambda: judge._learn(text)  # noqa: SLF001


def short_costs(number: int) -> Mapping[tuple[str, str], float]:
    """What it takes to judge statements anew, by statement and database, in µs."""
    return {
        (name, database): microseconds(
            new(judge, text.replace('"', QUOTES.get(database, '"'))), number
        )
        for name, text in SHORT.items()
        for database, judge in JUDGES.items()
    }


def short_table(costs: Mapping[tuple[str, str], float], number: int) -> Table:
    rows = tuple(
        (
            name,
            str(len(text)),
            *(f"{costs[name, database]:.2f}" for database in JUDGES),
        )
        for name, text in SHORT.items()
    )
    judge = JUDGES["PostgreSQL"]
    judge(ORM)
    seen = microseconds(lambda: judge(ORM), number)
    return Table(
        "A statement that was not seen before: minimum, µs",
        ("statement", "characters", *JUDGES),
        rows,
        f"One that was seen before: {seen:.2f} µs, of any length up to 4,096.",
    )


# -- hostile texts -------------------------------------------------------------------

PAGE = '<p class="a" style="b: c;">It\'\'s a page &amp; $a$ of /* it */ -- {}</p>\n'
FUNCTION = (
    "CREATE FUNCTION f{0}() RETURNS int LANGUAGE plpgsql AS $$\nDECLARE n int;\nBEGIN\n"
    "  SELECT count(*) INTO n FROM t WHERE a = {0};\n  RETURN n;\nEND $$;\n"
)
# So many times as long as they are in the table's first column of numbers.
HOSTILE: Mapping[str, Callable[[int], str]] = {
    "comments": lambda n: ";" + "/**/" * (100 * n),
    "openings of comments": lambda n: "/*" * (100 * n),
    "quotes in a literal": lambda n: "SELECT '" + "''" * (100 * n) + "'",
    "escaped quotes": lambda n: "SELECT '" + "\\'" * (100 * n) + "'",
    "HTML": lambda n: "INSERT INTO a VALUES ('" + PAGE * (2 * n) + "')",
    "functions": lambda n: "".join(FUNCTION.format(number) for number in range(n)),
    "rows of literals": lambda n: (
        "INSERT INTO a VALUES "
        + ", ".join(f"({number}, 'load', 'flush {number}')" for number in range(3 * n))
    ),
    "rows of parameters": lambda n: (
        "INSERT INTO a (type, template) VALUES " + ", ".join(["(%s, %s)"] * (10 * n))
    ),
    "spaces": lambda n: "SELECT @@" + " " * (200 * n),
    "parentheses": lambda n: "SELECT set_config" + "(" * (200 * n),
}
TIMES = (1, 10, 100)


def milliseconds(work: Callable[[], Any], rounds: int) -> float:
    return Spread(tuple(timeit.repeat(work, number=1, repeat=rounds))).least * 1e3


def hostile_table(name: str, base: int, rounds: int) -> Table:
    judge = JUDGES[name]
    rows = []
    for kind, make in HOSTILE.items():
        texts = [make(base * times) for times in TIMES]
        costs = [milliseconds(new(judge, text), rounds) for text in texts]
        growth = costs[-1] / costs[-2]
        size = f"{len(texts[-1]) / 1e6:.2f}"
        rows.append((kind, size, *(f"{each:.3f}" for each in costs), f"{growth:.1f}"))
    header = ("text", "the longest, MB", *(f"{times} n, ms" for times in TIMES))
    return Table(
        f"{name}: texts made to keep it busy", (*header, "growth"), tuple(rows)
    )


# -- beside SQLite -------------------------------------------------------------------

MEGABYTE = 1_000_000
PLAIN_PAGE = PAGE.replace("''", " i")
LONG: Mapping[str, str] = {
    "a literal of HTML": "INSERT INTO a (b) VALUES ('"
    + (PLAIN_PAGE * (MEGABYTE // len(PLAIN_PAGE)))
    + "')",
    "the same with an apostrophe in each line": "INSERT INTO a (b) VALUES ('"
    + (PAGE * (MEGABYTE // len(PAGE)))
    + "')",
    "rows of two literals": "INSERT INTO a (b, c) VALUES "
    + ", ".join(f"('load {number}', 'flush {number}')" for number in range(25_000)),
    "rows of parameters (250 KB)": "INSERT INTO a (b, c) VALUES "
    + ", ".join(["(?, ?)"] * 25_000),
}


def executed(place: str, text: str, rounds: int) -> float:
    """Run it so many times, each time parsed anew; the least number of ms."""
    found = []
    values = [1] * text.count("?")
    with closing(
        sqlite3.connect(place, isolation_level=None, cached_statements=0)
    ) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS a (b, c)")
        for _ in range(rounds):
            connection.execute("DELETE FROM a")
            begun = perf_counter()
            connection.execute(text, values)
            found.append(perf_counter() - begun)
    return min(found) * 1e3


def sqlite_costs(rounds: int) -> Mapping[str, tuple[float, float, float]]:
    """What judging takes, and what running it takes in memory and in a file, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "database.sqlite3")
        return {
            name: (
                milliseconds(new(JUDGES["SQLite"], text), rounds),
                executed(":memory:", text, rounds),
                executed(place, text, rounds),
            )
            for name, text in LONG.items()
        }


def sqlite_table(costs: Mapping[str, tuple[float, float, float]]) -> Table:
    rows = tuple(
        (name, *(f"{each:.2f}" for each in cost), f"{cost[0] / cost[1]:.2f}")
        for name, cost in costs.items()
    )
    header = ("1 MB", "judged, ms", "run in memory, ms", "run in a file, ms")
    return Table("SQLite: long texts", (*header, "judged / in memory"), rows)


def targets(
    short: Mapping[tuple[str, str], float],
    long: Mapping[str, tuple[float, float, float]],
) -> Iterator[Target]:
    name = next(iter(SHORT))
    for database in JUDGES:
        cost = short[name, database]
        yield Target(f"{database}: {name}, new", "≤ 4 µs", f"{cost:.2f} µs", cost <= 4)
    for name, (judged, in_memory, _in_file) in long.items():
        share = judged / in_memory
        yield Target(f"SQLite: {name}", "≤ 0.5", f"{share:.2f}", share <= 0.5)


def main() -> None:
    options = arguments("What it costs to judge statements.").parse_args()
    number, base, rounds = (200, 5, 3) if options.quick else (2000, 40, 7)
    short, long = short_costs(number), sqlite_costs(rounds)
    parts: list[Table | str] = [
        f"{conditions('Django').removesuffix('.')}, SQLite {sqlite3.sqlite_version}.",
        short_table(short, number),
        *(hostile_table(name, base, rounds) for name in JUDGES),
        sqlite_table(long),
        targets_table("judging", targets(short, long)),
    ]
    show(parts, markdown=options.markdown)


if __name__ == "__main__":
    main()
