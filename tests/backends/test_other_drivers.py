"""The drivers that are second choice, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    *("test_leases", "test_cursors", "test_errors", "test_round_trips", "test_mysql"),
    *("test_sessions", "test_sessions_postgresql", "test_transaction_mode"),
    "test_pgbouncer",
]


@pytest.mark.timeout(600)
def test_psycopg2_and_pymysql_and_the_connector_in_c() -> None:
    """What the first ones do on every engine, these do."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.backends.other_drivers"),
            *(f"tests/backends/{name}.py" for name in FILES),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
