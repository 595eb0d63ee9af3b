"""Values for ENGINE. Each names a Django backend, the mixin and an adapter.

Packages import a backend's other modules by ENGINE, as in `import_module(ENGINE +
".schema")`. Under each name here they find the module of the backend that is pooled:
the same object, so its classes are the same, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The backends that are pooled, by djpool's names for them.
STOCK = {
    "sqlite3": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
    "oracle": "django.db.backends.oracle",
    "mysql_connector": "mysql.connector.django",
    "spatialite": "django.contrib.gis.db.backends.spatialite",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "gis_mysql": "django.contrib.gis.db.backends.mysql",
    "gis_oracle": "django.contrib.gis.db.backends.oracle",
}


class _Stock(MetaPathFinder, Loader):
    """Finds the modules that djpool's backends do not have and Django's do.

    Python asks it last, so a module of djpool's own comes first.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to load a module; None if it is not one of those."""
        package, _, name = fullname.rpartition(".")
        parent, _, backend = package.rpartition(".")
        if parent != __name__ or backend not in STOCK:
            return None
        stock = f"{STOCK[backend]}.{name}"
        if importlib.util.find_spec(stock) is None:
            return None
        return ModuleSpec(fullname, self, origin=stock)

    def create_module(self, spec: ModuleSpec) -> None:
        """Have Python make a module, in whose place the other is put."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the backend's own module there."""
        spec = module.__spec__
        assert spec is not None
        assert spec.origin is not None, "find_spec() has set it"
        # Django's modules import each other, and its base first.
        importlib.import_module(f"{spec.origin.rpartition('.')[0]}.base")
        sys.modules[spec.name] = importlib.import_module(spec.origin)


sys.meta_path.append(_Stock())
