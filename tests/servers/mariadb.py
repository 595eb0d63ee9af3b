"""A MariaDB server of the tests' own."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.servers.mysql import MySQLFamilyServer
from tests.servers.process import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Where servers are, though the PATH of a plain user may not say so.
SYSTEM = "/usr/local/sbin:/usr/sbin"


def find_program(name: str) -> str:
    """Return the path of one of MariaDB's programs.

    Raises:
        ServerError: There is none. Many machines have only the client.
    """
    places = f"{os.environ['PATH']}:{SYSTEM}"
    program = shutil.which(name, path=places)
    if program is None:
        raise ServerError(f"the tests need a MariaDB server: no {name} in {places}")
    return program


class MariaDBServer(MySQLFamilyServer):
    """The MariaDB that is installed; see `MySQLFamilyServer`."""

    extra_configuration = """
innodb_log_file_size = 16M
sync_frm = OFF
"""

    def __init__(self) -> None:
        self._mariadbd = find_program("mariadbd")
        self._install_db = find_program("mariadb-install-db")
        super().__init__("mariadb")

    def _command(self) -> Sequence[str | Path]:
        return [self._mariadbd]

    def _initialise(self) -> None:
        # Without the test database come no anonymous accounts either.
        self.run(
            [
                self._install_db,
                f"--defaults-file={self.configuration}",
                "--skip-test-db",
            ]
        )
