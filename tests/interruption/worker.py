"""Runs interrupted requests on one database. Started as a program.

Its argument is the plan as JSON: see `tests.interruption.conftest.make_plan()`. It
prints the report as JSON: see `tests.interruption.requests.Counts`.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

# Seconds that a worker may need in addition to `seconds`, to look at what is there.
EXTRA = 80


def main() -> None:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    from tests.interruption import drivers

    drivers.choose(plan["driver"])  # before all other imports

    import faulthandler
    import logging

    import django
    from django.conf import settings

    # For a driver in C that waits for ever, and lets no signal handler run.
    faulthandler.dump_traceback_later(plan["seconds"] + EXTRA, exit=True)
    logging.disable(logging.CRITICAL)
    # Python drops an exception that strikes in a finaliser, and says so on stderr.
    sys.unraisablehook = lambda _what: None
    options = plan["database"]["OPTIONS"]
    if plan["unbuffered"]:
        module = drivers.DRIVERS[plan["driver"]].cursors
        assert module is not None
        options["cursorclass"] = importlib.import_module(module).SSCursor
    if plan["converter"]:
        options |= refusing_converter(plan["driver"])
    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["djpool"],
        DATABASES={"default": plan["database"]},
    )
    django.setup()
    from tests.interruption.ways import run

    print(json.dumps(run(plan)))  # noqa: T201 (the report)


def refusing_converter(driver: str) -> dict[str, Any]:
    """Return the driver's option for a converter that refuses one date."""

    def refuse(value: Any) -> None:
        if value in ("1999-09-09", b"1999-09-09"):
            raise ValueError("not that day")

    if driver.startswith("Connector"):
        from mysql.connector.django.base import DjangoMySQLConverter

        class Converter(DjangoMySQLConverter):
            @staticmethod
            def _date_to_python(value: bytes, dsc: Any = None) -> Any:
                refuse(value)
                return DjangoMySQLConverter._date_to_python(value, dsc)

        return {"converter_class": Converter}

    from django.db.backends.mysql.base import django_conversions
    from MySQLdb.constants import FIELD_TYPE

    def convert(value: Any) -> Any:
        refuse(value)
        return value

    return {"conv": {**django_conversions, FIELD_TYPE.DATE: convert}}


if __name__ == "__main__":
    main()
