"""Who leases."""

from __future__ import annotations

import pytest

from djpool.core import owner
from tests.core.fakes import in_thread


def test_an_owner_asked_for_while_it_is_made_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the garbage collector closes a cursor at that very moment."""
    seen: list[owner.Owner] = []

    class Asking(owner.Owner):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            if not seen:
                seen.append(self)
                seen.append(owner.current_owner())

    monkeypatch.setattr(owner, "Owner", Asking)
    in_thread(lambda: seen.append(owner.current_owner())).join(30)
    assert len(seen) == 3
    assert seen[1] is seen[2]
    assert seen[2].ended  # with its thread, and not before
