"""Oracle Database's session state."""

from __future__ import annotations

from tests.backends.kinds import Kind

KINDS: list[Kind] = []
