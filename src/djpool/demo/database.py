"""From a URL to a Django database, with a pool and without."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from djpool.demo.errors import DemoError

EXAMPLES = (
    "postgresql://user:password@host:5432/name, sqlite:///file (from this folder) "
    "or sqlite:////folder/file"
)
CONN_MAX_AGE = 600


@dataclass(frozen=True, slots=True)
class Database:
    """A database that the demo can use. `label` is for people: no password in it."""

    vendor: str
    label: str
    # Its entry in DATABASES, but for what makes it pooled or not.
    settings: Mapping[str, Any]

    def named(self, name: str) -> Mapping[str, Any]:
        """The settings of connections that the server knows by this name."""
        options = dict(self.settings["OPTIONS"])
        if self.vendor == "postgresql":
            options["application_name"] = name
        return {**self.settings, "OPTIONS": options}

    def pooled(self, name: str, max_size: int) -> Mapping[str, Any]:
        """The settings with a pool."""
        settings = self.named(name)
        return {
            **settings,
            "ENGINE": f"djpool.backends.{self._engine}",
            "OPTIONS": {**settings["OPTIONS"], "pool": {"max_size": max_size}},
        }

    def stock(self, name: str) -> Mapping[str, Any]:
        """The settings of Django's own backend, which is to keep connections."""
        return {
            **self.named(name),
            "ENGINE": f"django.db.backends.{self._engine}",
            "CONN_MAX_AGE": CONN_MAX_AGE,
        }

    @property
    def _engine(self) -> str:
        return "sqlite3" if self.vendor == "sqlite" else self.vendor


def sqlite(path: Path, label: str) -> Database:
    """The database in an SQLite file, which is made if it is not there."""
    # Who finds the file locked waits, as he does for a server.
    options = {"timeout": 30}
    return Database("sqlite", label, {"NAME": str(path), "OPTIONS": options})


def parse(url: str) -> Database:
    """The database that a URL means.

    Raises:
        DemoError: The URL is wrong, or its driver is missing. The message names
            the part that is wrong, and no password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise DemoError(f"--database wants a URL like {EXAMPLES}; this has no '://'")
    match scheme.lower():
        case "postgresql" | "postgres":
            return _postgresql(url)
        case "sqlite" | "sqlite3":
            return _sqlite(rest)
        case _:
            raise DemoError(
                f"--database: the demo cannot use {scheme!r}; it can use {EXAMPLES}"
            )


def _postgresql(url: str) -> Database:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DemoError(f"--database: {error}") from None
    try:
        port = parts.port
    except ValueError:
        # Not shown: what follows a "/" in a password is taken for a port.
        raise DemoError(
            "--database: the port must be a number from 0 to 65535. Special "
            "characters in a password are written as %2F and so on"
        ) from None
    name = unquote(parts.path.removeprefix("/"))
    if not name or "/" in name:
        raise DemoError(
            "--database: one database name must follow the host, as in "
            "postgresql://user:password@host:5432/name"
        )
    if parts.fragment:
        raise DemoError("--database: '#' must be written as %23")
    if importlib.util.find_spec("psycopg") is None:
        raise DemoError(
            "--database: PostgreSQL needs psycopg, which is not installed here. "
            "Install it:  pip install 'djpool[postgres]'"
        )
    user, host = unquote(parts.username or ""), unquote(parts.hostname or "")
    settings = {
        "NAME": name,
        "USER": user,
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        # What else there is to say to the driver, such as sslmode.
        "OPTIONS": dict(parse_qsl(parts.query)),
    }
    who = f"{user}@" if user else ""
    where = f"{host}:{port}" if port else host
    return Database("postgresql", f"postgresql://{who}{where}/{name}", settings)


def _sqlite(rest: str) -> Database:
    if not rest.startswith("/"):
        raise DemoError(
            "--database: three slashes go before a file of this folder "
            f"(sqlite:///{rest or 'file'}), four before one given from the root"
        )
    name = unquote(rest.removeprefix("/"))
    if not name or name == ":memory:":
        raise DemoError(
            "--database: a file must follow sqlite:///. A database in memory is "
            "another one for each connection, and cannot be pooled"
        )
    path = Path(name).absolute()
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise DemoError(f"--database: {path} {what}")
    return sqlite(path, str(path))
