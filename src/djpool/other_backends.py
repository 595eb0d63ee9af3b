"""`djpool.pooled()`: a pool for any backend, by its dotted path."""

from __future__ import annotations

import copy
import enum
import importlib
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from djpool.adapters import dbapi
from djpool.hooks import is_ours
from djpool.wrapper import PooledWrapper

if TYPE_CHECKING:
    from djpool.core.adapter import Adapter
    from djpool.core.lease import Lease

# Where the backends are that others build on, and djpool's own part for each. It
# imports the driver, as the backend has done by then.
FAMILIES = {
    "django.db.backends.sqlite3.base": "djpool.backends.sqlite3.base.SQLitePooling",
    "django.db.backends.postgresql.base": (
        "djpool.backends.postgresql.base.PostgreSQLPooling"
    ),
    "django.db.backends.mysql.base": "djpool.backends.mysql.base.MySQLPooling",
    "django.db.backends.oracle.base": "djpool.backends.oracle.base.OraclePooling",
    "mysql.connector.django.base": (
        "djpool.backends.mysql_connector.base.MySQLConnectorPooling"
    ),
}
# What known backends remember of the session: see `OtherPooling.djpool_session`.
REMEMBERED = {"django_tenants.postgresql_backend.base": ("search_path_set_schemas",)}

# Values that are the same for every connection. Others (a cursor, a cache that
# grows) may belong to the one on which they were made.
CONSTANT = (
    type(None), bool, int, float, str, bytes, enum.Enum,
    type, ModuleType, FunctionType, BuiltinFunctionType,
)  # fmt: skip


class OtherPooling(PooledWrapper):
    """For a backend of which djpool does not know what it writes on itself."""

    #: Attributes in which the backend remembers something of the session. At each
    #: lease they are again as they were when the Django connection was made.
    djpool_session: ClassVar[tuple[str, ...]] = ()

    # The values that those had, if any.
    _djpool_fresh: dict[str, Any]
    # What the backend wrote on this object while connecting.
    _djpool_written: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attributes = vars(self)
        self._djpool_fresh = {
            name: copy.copy(attributes[name])
            for name in self.djpool_session
            if name in attributes
        }

    def djpool_open(self, timeout: float, changes: Callable[[Any], int]) -> Any:
        self._djpool_written = dict(vars(self))  # less what was there before
        return super().djpool_open(timeout, changes)

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if self._djpool_connect_timeout is None:
            return
        # Now, before receivers of connection_created write on this object: what
        # they choose (a tenant, say) is for one request, and not for the pool.
        before = self._djpool_written
        self._djpool_written = {
            name: value
            for name, value in vars(self).items()
            if not is_ours(name)
            and not (name in before and before[name] is value)
            and _is_constant(value)
        }

    def djpool_facts(self) -> dict[str, Any]:
        return self._djpool_written | super().djpool_facts()

    def _djpool_begin(self, lease: Lease) -> bool:
        if not super()._djpool_begin(lease):
            return False
        attributes = vars(self)
        for name in self.djpool_session:
            attributes.pop(name, None)
        attributes.update(copy.deepcopy(self._djpool_fresh))
        return True


def _is_constant(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_constant, value))
    return isinstance(value, CONSTANT)


def pooled(
    backend: str, *, adapter: Adapter | None = None, session: Iterable[str] = ()
) -> type[BaseDatabaseWrapper]:
    """The `DatabaseWrapper` of a backend, with a pool.

    Args:
        backend: Its dotted path, as in `ENGINE`.
        adapter: How its driver is spoken to. If None: djpool's own adapter where
            the backend builds on one of Django's, else one that works with any
            driver, at the price of two or three round trips a lease.
        session: See `OtherPooling.djpool_session`.

    Raises:
        ImproperlyConfigured: There is no such backend, or it is pooled already.
    """
    base = _load(backend)
    families = [FAMILIES[name] for name in _modules(base) if name in FAMILIES]
    family = import_string(families[0]) if families else PooledWrapper
    known = [name for module in _modules(base) for name in REMEMBERED.get(module, ())]
    attributes: dict[str, Any] = {"djpool_session": (*known, *session)}
    if adapter is not None:
        attributes["djpool_adapter"] = adapter
    elif not families:
        attributes["djpool_adapter"] = dbapi.adapter(base.vendor)
    return type("DatabaseWrapper", (OtherPooling, family, base), attributes)


def _modules(wrapper: type[BaseDatabaseWrapper]) -> list[str]:
    return [each.__module__ for each in wrapper.__mro__]


def _load(backend: str) -> type[BaseDatabaseWrapper]:
    try:
        module = importlib.import_module(f"{backend}.base")
    except ImportError as error:
        raise ImproperlyConfigured(
            f"djpool.pooled({backend!r}): {backend}.base cannot be imported: {error}. "
            "It takes a backend's dotted path, as ENGINE does"
        ) from error
    wrapper = getattr(module, "DatabaseWrapper", None)
    if not (isinstance(wrapper, type) and issubclass(wrapper, BaseDatabaseWrapper)):
        raise ImproperlyConfigured(
            f"djpool.pooled({backend!r}): {backend}.base has no DatabaseWrapper"
        )
    if issubclass(wrapper, PooledWrapper):
        raise ImproperlyConfigured(
            f"djpool.pooled({backend!r}): its DatabaseWrapper has a pool already"
        )
    return wrapper
