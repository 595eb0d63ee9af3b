"""Commands that start a server with the shop, in one worker process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ASGI = "tests.acceptance.shop.asgi:application"
CHANNELS = "tests.acceptance.shop.channels:application"
WSGI = "tests.acceptance.shop.wsgi:application"
PRELOADED = "tests.acceptance.shop.preloaded:application"

# Gives the command for a host and a port.
Command = Callable[[str, int], list[str]]

PYTHON = [sys.executable, "-W", "always::ResourceWarning", "-m"]


def uvicorn(application: str) -> Command:
    """Uvicorn by itself."""
    return lambda host, port: [
        *PYTHON,
        "uvicorn",
        f"--host={host}",
        f"--port={port}",
        "--lifespan=off",
        "--log-level=warning",
        "--no-access-log",
        application,
    ]


def daphne(host: str, port: int) -> list[str]:
    """Daphne."""
    quiet = ["--verbosity=0", "--no-server-name"]
    return [*PYTHON, "daphne", f"--bind={host}", f"--port={port}", *quiet, CHANNELS]


def hypercorn(host: str, port: int) -> list[str]:
    """Hypercorn, on asyncio."""
    quiet = ["--log-level=warning"]
    return [*PYTHON, "hypercorn", f"--bind={host}:{port}", *quiet, CHANNELS]


def granian(interface: str, application: str, *options: str) -> Command:
    """Granian, as an ASGI or a WSGI server."""
    return lambda host, port: [
        *PYTHON,
        "granian",
        f"--interface={interface}",
        f"--host={host}",
        f"--port={port}",
        "--log-level=warning",
        *options,
        application,
    ]


def gunicorn(worker: str, application: str, *options: str, workers: int = 1) -> Command:
    """Gunicorn with one of its kinds of workers, or somebody else's."""
    return lambda host, port: [
        *PYTHON,
        "gunicorn",
        f"--worker-class={worker}",
        f"--workers={workers}",
        f"--bind={host}:{port}",
        "--log-level=warning",
        # Longer than any pause that a client makes.
        "--keep-alive=60",
        *options,
        application,
    ]


def uwsgi(application: str, *options: str, workers: int = 1) -> Command:
    """uWSGI, which forks when it has imported the application."""
    return lambda host, port: [
        str(Path(sys.executable).with_name("uwsgi")),
        f"--http11-socket={host}:{port}",
        f"--module={application}",
        f"--processes={workers}",
        "--master",
        "--need-app",
        "--die-on-term",
        "--disable-logging",
        *options,
    ]
