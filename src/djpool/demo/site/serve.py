"""The site in a process of its own, under uvicorn. Started by the demo.

It reads one line of JSON, its order, from its standard input, answers with one line
of JSON (the port, or what went wrong), and serves until that input ends: when the
demo wants it to, and also when the demo is no more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any

import django
import uvicorn
from django.core.asgi import get_asgi_application
from django.db import connection

import djpool
from djpool.demo.site import DATABASE_VARIABLE, TABLE_VARIABLE

ITEMS = 100
# Seconds for requests that are under way when the end comes.
LAST_REQUESTS = 5


def main() -> int:
    """Serve; return the exit status."""
    order = json.loads(sys.stdin.readline())
    os.environ["DJANGO_SETTINGS_MODULE"] = "djpool.demo.site.settings"
    os.environ[DATABASE_VARIABLE] = json.dumps(order["database"])
    os.environ[TABLE_VARIABLE] = order["table"]
    try:
        django.setup()
        _prepare(wal=order["wal"])
    except Exception as error:  # noqa: BLE001 (whatever it is, the demo tells it)
        _answer({"error": " ".join(str(error).split()) or type(error).__name__})
        return 1
    try:
        _serve()
    finally:
        _tidy()
    return 0


def _prepare(*, wal: bool) -> None:
    from djpool.demo.site.models import Item

    if wal:  # lasts as long as the file: not for somebody's own
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    with connection.schema_editor() as editor:
        editor.create_model(Item)
    Item.objects.bulk_create(Item(name=f"item {number}") for number in range(ITEMS))
    connection.close()


def _tidy() -> None:
    from djpool.demo.site.models import Item

    with connection.schema_editor() as editor:
        editor.delete_model(Item)
    connection.close()
    djpool.close_all()


def _serve() -> None:
    # TCP by name: asyncio turns off Nagle's delays of 40 ms only where it is told so.
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with tcp as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(
            uvicorn.Config(
                get_asgi_application(),
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=LAST_REQUESTS,
            )
        )

        def wait_for_the_end() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=wait_for_the_end, daemon=True).start()
        _answer({"port": listener.getsockname()[1]})
        server.run([listener])


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
