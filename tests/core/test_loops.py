"""No exception of a signal's handler gets out of a block by a hole in its protection.

See `djpool.core.slot`. Python 3.12 and later leave such holes where a loop goes round.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import djpool.core

CORE = Path(djpool.core.__file__).parent

HELD = """
def hold(lock, things):
    with lock:
        return [each for each in things if each]
"""
APART = """
def hold(lock, things):
    with lock:
        return find(things)

def find(things):
    return [each for each in things if each]
"""


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Give a code object, and those of the functions within."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from codes_in(each)


def find_holes(code: CodeType) -> list[int]:
    """Return the offsets of jumps back that a block around the loop leaves out."""
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    instructions = list(dis.get_instructions(code))
    names = {each.offset: each.opname for each in instructions}
    after = dict(zip(names, list(names)[1:], strict=False))

    def handlers(offset: int) -> set[int]:
        found: set[int] = set()
        while True:
            more = [each.target for each in entries if each.start <= offset < each.end]
            if not more or more[0] in found:
                break
            found.add(offset := more[0])
        return {each for each in found if names[after[each]] == "WITH_EXCEPT_START"}

    return [
        each.offset
        for each in instructions
        if each.opname == "JUMP_BACKWARD"
        and handlers(each.argval) - handlers(each.offset)
    ]


def holes_of(source: str, name: str) -> list[str]:
    """Return the places of all holes in a module."""
    return [
        f"{name}, {code.co_name}(), at offset {offset}"
        for code in codes_in(compile(source, name, "exec"))
        for offset in find_holes(code)
    ]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none")
def test_no_lock_stays_locked_when_a_loop_goes_round() -> None:
    found: list[str] = []
    for path in sorted(CORE.glob("*.py")):
        found += holes_of(path.read_text(encoding="utf-8"), path.name)
    assert not found


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none")
def test_a_hole_is_found() -> None:
    """Once Python leaves none, neither these tests nor such functions are needed."""
    assert holes_of(HELD, "held")
    assert not holes_of(APART, "apart")
