"""`python -m djpool`: the demo, and `poolstats` without a `manage.py`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

PROGRAM = "python -m djpool"
SETTINGS = "DJANGO_SETTINGS_MODULE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    from djpool.demo import command

    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Connection pooling for every Django database."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command.add_arguments(commands.add_parser("demo", help=command.SUMMARY))
    # Its arguments, --help among them, are for the management command.
    commands.add_parser(
        "poolstats",
        help=f"the pools of a project's running processes; {SETTINGS} names its "
        "settings, which need not have djpool in INSTALLED_APPS",
        add_help=False,
    )
    options, rest = parser.parse_known_args(arguments)
    if options.command == "poolstats":
        return _poolstats(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return command.run(options)


def _poolstats(arguments: list[str]) -> int:
    """Run the management command. It ends the process itself where it fails."""
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management.base import (
        CommandParser,
        handle_default_options,
    )

    # These two say which settings are to be read, so they are read first.
    early = CommandParser(add_help=False, allow_abbrev=False)
    early.add_argument("--settings")
    early.add_argument("--pythonpath")
    handle_default_options(early.parse_known_args(arguments)[0])
    if not os.environ.get(SETTINGS):
        sys.stderr.write(
            f"{PROGRAM} poolstats: set {SETTINGS} to the project's settings module, "
            "or give --settings; or put djpool into INSTALLED_APPS and run "
            "manage.py poolstats\n"
        )
        return 2
    try:
        django.setup()
    except (ImportError, ImproperlyConfigured) as error:
        named = os.environ[SETTINGS]
        sys.stderr.write(f"{PROGRAM} poolstats: cannot set up {named}: {error}\n")
        return 2
    from djpool.management.commands.poolstats import Command

    Command().run_from_argv([PROGRAM, "poolstats", *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main())
