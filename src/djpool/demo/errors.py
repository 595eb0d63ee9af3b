"""What keeps the demo from running."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot run, or not go on. The message says why, and a way out."""
