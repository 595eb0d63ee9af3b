"""A process with open pools ends as fast as one without, and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.backends.engines import server_database
from tests.servers.postgres import PostgresServer

SCRIPT = """
    import sys, threading, time
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={{"default": {database!r}}})
    django.setup()
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    {ending}
    sys.stdout.write(repr(time.time()))
    sys.stdout.flush()
"""

ENDINGS = {
    "lease given back": "connection.close()",
    "lease out": "",
    "in a transaction": "connection.set_autocommit(False)",
    "a module keeps a cursor": "django.kept = connection.cursor()",
    "the script keeps a cursor": "kept = connection.cursor()",
    "a thread has one": (
        "t = threading.Thread(target=lambda: (connection.copy().ensure_connection(),"
        " time.sleep(60)), daemon=True); t.start(); time.sleep(0.2)"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("engine", ["sqlite3", "native", "fallback"])
def test_exit(
    engine: str, ending: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    """psycopg_pool's own threads take 20 s of it on Python 3.13.0."""
    database = {"ENGINE": "djpool.backends.sqlite3", "NAME": str(tmp_path / "db")}
    pool: dict[str, object] = {"max_size": 4, "min_size": 2}
    if engine != "sqlite3":
        database = {
            "ENGINE": "djpool.backends.postgresql",
            **server_database(postgres),
        }
        pool["implementation"] = engine
    script = textwrap.dedent(SCRIPT).format(
        database={**database, "OPTIONS": {"pool": pool}}, ending=ENDINGS[ending]
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    took = time.time() - float(run.stdout)
    assert run.stderr == ""
    # Half a second is what a pool may cost; a busy machine needs more for any
    # process. psycopg_pool's threads would cost ten.
    assert took < 5
