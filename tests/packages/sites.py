"""The site under a real server: one package, every engine, with and without a pool."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import djpool
from djpool.backends import STOCK
from tests.acceptance.commands import PYTHON
from tests.backends.engines import engine_of, server_database
from tests.servers.process import ServerProcess, own_account, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
ENGINES = ["sqlite3", "postgresql-native", "mysql@mariadb", "mysql_connector-native"]
WAYS = ["stock", "request", "transaction"]
# Older releases that are tested, too: each is installed for its site alone.
OLDER = {"debug-toolbar-7": "django-debug-toolbar==7.1.1"}
# Connections of each pool; more callers than that ask for pages at once.
MAX_SIZE = 2


def alias_of(engine: str, way: str) -> str:
    """Give the name of an alias, as it can stand in an address."""
    return f"{re.sub(r'[^a-z0-9]', '_', engine)}_{way}"


def databases(servers: Mapping[str, Any], folder: Path, default: str) -> dict[str, Any]:
    """Give `DATABASES`: an alias for each engine and way; `default` is one of them."""
    made: dict[str, Any] = {}
    for engine, server in servers.items():
        backend = engine_of(engine).backend
        described: dict[str, Any] = {"NAME": str(folder / "database.sqlite3")}
        if server is not None:
            described = server_database(server)
        for way in WAYS:
            changes: dict[str, Any] = {"ENGINE": STOCK[backend]}
            if way != "stock":
                pool = {"max_size": MAX_SIZE, "release": way, "timeout": 20}
                changes = {
                    "ENGINE": f"djpool.backends.{backend}",
                    "OPTIONS": {"pool": engine_of(engine).pool | pool},
                }
            made[alias_of(engine, way)] = described | changes
    return {"default": made[default], **made}


class Site(ServerProcess):
    """The site on a server of its own."""

    def __init__(self, package: str, described: Mapping[str, Any]) -> None:
        """Make the tables. `start()` starts the server."""
        super().__init__("site", own_account())
        self._package = package
        self._databases = described
        self._older = self.directory / "older"
        try:
            if package in OLDER:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                # With the caller's environment, which says where packages come from.
                subprocess.run(
                    [*pip, f"--target={self._older}", OLDER[package]], check=True
                )
            self.run([sys.executable, "-m", "tests.packages.site.prepare"])
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: It did not start; the message has its log.
        """
        command: Sequence[str] = [
            *PYTHON,
            "uvicorn",
            f"--host={self.host}",
            f"--port={self.port}",
            "--lifespan=off",
            "--log-level=warning",
            "--no-access-log",
            "tests.packages.site.asgi:application",
        ]
        self.spawn(command, self._answers)

    def get(self, path: str) -> str:
        """Return the text of an answer, also of one that says that it went wrong."""
        address = f"http://{self.host}:{self.port}/{path}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                text: str = answer.read().decode()
        except urllib.error.HTTPError as error:
            text = f"{error.code}: {error.read().decode()}"
        return text

    def page(self, path: str) -> Any:
        """Return what a page of the site's own found."""
        text = self.get(path)
        found = re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)
        assert found is not None, text[:2000]
        try:
            return json.loads(html.unescape(found[1]))
        except ValueError:
            raise AssertionError(html.unescape(text)[:4000]) from None

    def pages(self, paths: Sequence[str], *, at_once: int = 6) -> list[Any]:
        """Return what pages found that were asked for by several clients at once."""
        with ThreadPoolExecutor(at_once) as clients:
            return list(clients.map(self.page, paths))

    def stats(self, alias: str) -> djpool.PoolStats:
        """Return what `djpool.stats()` says in the server."""
        return djpool.PoolStats.from_dict(json.loads(self.get("stats/"))[alias])

    def wait_until_at_rest(self, alias: str) -> djpool.PoolStats:
        """Return a pool's statistics as soon as it has no lease out."""
        wait_until(lambda: not self.stats(alias).in_use, f"{alias} to have no lease")
        return self.stats(alias)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.host}:{self.port}/stats/").close()
        except OSError:
            return False
        return True

    def _environment(self) -> Mapping[str, str]:
        return {
            **super()._environment(),
            "PYTHONPATH": os.pathsep.join([str(self._older), str(ROOT), *sys.path]),
            "DJANGO_SETTINGS_MODULE": "tests.packages.site.settings",
            "DJPOOL_STATS_DIR": str(self.directory / "stats"),
            "SITE_PACKAGE": self._package,
            "SITE_DATABASES": json.dumps(self._databases),
        }
