"""gevent's greenlets own connections as threads do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.backends.engines import server_database

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer


def test_what_a_greenlet_leaves_behind_comes_back(postgres: PostgresServer) -> None:
    database = {
        "ENGINE": "djpool.backends.postgresql",
        **server_database(postgres),
        "OPTIONS": {"pool": {"max_size": 3}},
    }
    run = subprocess.run(
        [sys.executable, "-m", "tests.workers.greenlets", json.dumps(database)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("never given back") >= 20
    assert "Traceback" not in run.stderr
