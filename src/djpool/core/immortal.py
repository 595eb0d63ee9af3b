"""Objects that are never finalised, not even when the process ends.

A forked child has its parent's connections, and some drivers say farewell to the
server, or shut the socket down, when Python lets go of one: the parent's.
"""

from __future__ import annotations

import ctypes
from typing import Any


def keep_for_ever(thing: Any) -> None:
    """Have the object, and what it refers to, outlive this process's interpreter."""
    # A reference that nobody has. Lists in modules are cleared at exit.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
