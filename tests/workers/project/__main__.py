"""The project's `manage.py`."""

from __future__ import annotations

import sys

if "greenlet" in sys.argv:
    # Huey leaves this to who starts it, and it has to come before everything else.
    from gevent import monkey

    monkey.patch_all()

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
