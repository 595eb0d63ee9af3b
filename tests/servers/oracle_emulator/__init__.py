"""A small server that speaks enough of Oracle's wire protocol to be taken for one.

With it, the real python-oracledb (in thin mode) and the real Django are tested
without an Oracle Database. The SQL is executed by sqlite, after a translation that
covers what Django and these tests say.

What the driver reads and writes is certain. What a real database does where the
driver would accept several things is an assumption: which statements open a
transaction, what is said of request boundaries, codes and texts of errors.
"""

from tests.servers.oracle_emulator.server import OracleEmulator, Stats
from tests.servers.oracle_emulator.session import Session
from tests.servers.oracle_emulator.ttc import (
    ORACLE_19,
    ORACLE_19_BOUNDARIES,
    ORACLE_23,
    Dialect,
)

__all__ = [
    "ORACLE_19",
    "ORACLE_19_BOUNDARIES",
    "ORACLE_23",
    "Dialect",
    "OracleEmulator",
    "Session",
    "Stats",
]
