"""The demo's command line."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from djpool.demo.database import EXAMPLES, parse
from djpool.demo.errors import DemoError

SUMMARY = "a site under load, and its connections counted"
DESCRIPTION = """\
Start a small Django site on a real ASGI server (uvicorn), with a pool, put it under
the load of many HTTP clients at once, and count its database connections from outside.
In the end there is a verdict, and the exit status is 0 if there were no errors, never
more connections than the pool's max_size, and every lease was returned; otherwise 1.
"""
MOST_REQUESTS, MOST_CLIENTS, MOST_CONNECTIONS = 1_000_000, 1000, 1000
# As shells say it of a program that ^C has ended.
INTERRUPTED = 130
CANNOT = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"where (default: SQLite in a temporary file): {EXAMPLES}. The demo "
        "makes a table of its own there and removes it",
    )
    parser.add_argument(
        "--requests",
        type=_number(MOST_REQUESTS),
        default=2000,
        metavar="N",
        help="HTTP requests in all (default: %(default)s)",
    )
    parser.add_argument(
        "--clients",
        type=_number(MOST_CLIENTS),
        default=64,
        metavar="N",
        help="HTTP clients at once (default: %(default)s)",
    )
    parser.add_argument(
        "--max-size",
        type=_number(MOST_CONNECTIONS),
        default=4,
        metavar="N",
        help="the pool's max_size (default: %(default)s)",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="the same load, at the same time, on a second server with Django's own "
        "backend and CONN_MAX_AGE=600, which leaks connections. It is stopped before "
        "it takes more than half of those that a database server has to spare",
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    # Whoever ends the demo ends the server with it, and the server's table.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _look_for_dependencies()
        database = parse(options.database) if options.database is not None else None
        from djpool.demo.run import Plan, run
        from djpool.demo.screen import Screen

        plan = Plan(
            database=database,
            requests=options.requests,
            clients=options.clients,
            max_size=options.max_size,
            compare=options.compare,
        )
        return 0 if run(plan, Screen(sys.stdout)) else 1
    except DemoError as error:
        print(f"djpool demo: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("\ndjpool demo: interrupted; the server has ended", file=sys.stderr)
        return INTERRUPTED


def _number(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = 0
        if not 1 <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from 1 to {most}, not {text!r}"
            )
        return number

    return read


def _look_for_dependencies() -> None:
    missing = []
    for name in ("uvicorn", "httpx"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise DemoError(
            f"the demo needs {' and '.join(missing)}, not installed here. "
            "Install what it needs:  pip install 'djpool[demo]'"
        )
