"""What code outside of Django gets in place of the driver's connection.

Error reporters and tracers ask each cursor for its connection, to see where it leads.
That is a look, and a look is no change. So they get a stand-in, which passes on what
only looks. Anything else that is asked of it may change the session unseen, and counts
as such before it happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import InterfaceError

from djpool.core.session import Change

if TYPE_CHECKING:
    from djpool.wrapper import PooledWrapper

# Of the exception classes that a driver's connection has as attributes, by PEP 249.
_ERRORS = ("Error", "Warning")
_OWN = frozenset({"_djpool_raw", "_djpool_wrapper", "_djpool_lease"})


class StandIn:
    """Passes everything on to a driver's object, and notes what is more than a look.

    `isinstance()` and `==` see the object itself. After the lease it raises: by then
    the connection is another's.
    """

    __slots__ = tuple(_OWN)

    def __init__(self, raw: Any, wrapper: PooledWrapper) -> None:
        object.__setattr__(self, "_djpool_raw", raw)
        object.__setattr__(self, "_djpool_wrapper", wrapper)
        object.__setattr__(self, "_djpool_lease", wrapper.djpool_lease)

    @property  # type: ignore[misc]  # what isinstance() asks for
    def __class__(self) -> Any:
        return self._djpool_raw.__class__

    def __getattr__(self, name: str) -> Any:
        lease = self._djpool_lease
        if name == "close" and self._djpool_wrapper.djpool_lease is not lease:
            return _nothing  # it is closed already for who has this
        found = getattr(self._djpool_raw, name)
        if name not in lease.pool.looks and not name.endswith(_ERRORS):
            self._djpool_touch(name)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        self._djpool_touch(name)
        setattr(self._djpool_raw, name, value)

    def __delattr__(self, name: str) -> None:
        self._djpool_touch(name)
        delattr(self._djpool_raw, name)

    def __enter__(self) -> Any:
        self._djpool_touch("__enter__")
        self._djpool_raw.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> Any:
        return self._djpool_raw.__exit__(*exc_info)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._djpool_touch("__call__")
        return self._djpool_raw(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return bool(self._djpool_raw == driver_s_object(other))

    def __hash__(self) -> int:
        return hash(self._djpool_raw)

    def __repr__(self) -> str:
        return repr(self._djpool_raw)

    def __dir__(self) -> list[str]:
        return dir(self._djpool_raw)

    def _djpool_touch(self, name: str) -> None:
        wrapper: PooledWrapper = self._djpool_wrapper
        if wrapper.djpool_lease is not self._djpool_lease:
            raise InterfaceError(
                f"connection.{name}: this connection has gone back to the pool"
            )
        wrapper.djpool_changed(Change.UNKNOWN, name)


def _nothing() -> None:
    pass


def driver_s_object(seen: Any) -> Any:
    """Return the driver's object itself, for what has a stand-in of it."""
    return seen._djpool_raw if type(seen) is StandIn else seen  # noqa: SLF001
