"""A ping has an end, whatever comes of the answer and when."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.backends.engines import OTHER_DRIVERS
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer
    from tests.servers.proxy import Proxy

# A process of its own: what blocks inside libpq blocks every thread of its process.
PROGRAM = """
import json, sys
import psycopg
from djpool.adapters.psycopg import PsycopgDriver
from djpool.core.adapter import Connector
parameters = json.loads(sys.argv[1])
connection = psycopg.connect(**parameters, autocommit=True)
driver = PsycopgDriver(Connector(lambda timeout: connection, autocommit=True))
driver.ping(connection, 30)
print("ready", flush=True)
sys.stdin.readline()
try:
    driver.ping(connection, 0.5)
except TimeoutError as error:
    print(error, flush=True)
"""
# What PostgreSQL says of an empty query; "ready for the next" follows.
EMPTY_QUERY = b"I\0\0\0\x04"


@pytest.mark.skipif(OTHER_DRIVERS, reason="psycopg2 waits elsewhere")
def test_half_an_answer_of_postgresqls_is_none_in_time(
    postgres: PostgresServer, proxy: Callable[[str, int], Proxy]
) -> None:
    between = proxy(postgres.host, postgres.port)
    parameters = postgres.connection_parameters(host=between.host, port=between.port)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(parameters)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as pinging:
        try:
            assert pinging.stdout is not None
            assert pinging.stdout.readline() == "ready\n"
            between.pause_after(EMPTY_QUERY)
            said, _ = pinging.communicate("go\n", timeout=60)
            assert said.startswith("no answer")
        finally:
            pinging.kill()
            between.resume()
    wait_until(lambda: between.connections == 0, "the connection to end")
