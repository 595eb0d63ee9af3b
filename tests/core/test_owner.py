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
    _first, asked_for_meanwhile, asked_for_then = seen
    assert asked_for_meanwhile is asked_for_then
    assert asked_for_then.ended  # with its thread, and not before
