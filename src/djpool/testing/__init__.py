"""What every adapter and every backend promises, as tests to inherit from.

For authors of adapters and backends. It needs pytest, which djpool does not.
"""

import pytest

# Before they are imported, or a failed promise would not show its values.
for name in ("backend", "pool", "watch"):
    pytest.register_assert_rewrite(f"djpool.testing.{name}")

from djpool.testing.backend import BackendConformance  # noqa: E402
from djpool.testing.pool import PoolConformance  # noqa: E402

__all__ = ["BackendConformance", "PoolConformance"]
