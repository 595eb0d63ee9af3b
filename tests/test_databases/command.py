"""The project's manage.py, which tells of threads that its end does not end.

Under another name, because pytest-django puts a folder with a manage.py on the path.
"""

import atexit
import sys
import threading
import time

from django.core.management import execute_from_command_line


def tell_of_threads() -> None:
    """Say which of djpool's threads, and of its native pools', still run."""
    deadline = time.monotonic() + 10
    while left := [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("djpool")
    ]:
        if time.monotonic() > deadline:
            sys.exit(f"Warning: still running: {', '.join(left)}")
        time.sleep(0.01)


if __name__ == "__main__":
    # What is registered first runs last: after djpool has closed its pools.
    atexit.register(tell_of_threads)
    execute_from_command_line(sys.argv)
