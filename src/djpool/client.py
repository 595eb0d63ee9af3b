"""`manage.py dbshell`: with what `credentials` gives, as every connection is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djpool import config

if TYPE_CHECKING:
    from django.db.backends.base.client import BaseDatabaseClient

    _Base = BaseDatabaseClient
else:
    _Base = object


class PooledClient(_Base):
    """Mixed into a backend's `DatabaseClient`, before it."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Any
    ) -> Any:
        """Give the command, its arguments and its environment. Asks `credentials`.

        Raises:
            OperationalError: `credentials` raised.
            OptionsError: It returned something else than connection parameters.
        """
        described = settings_dict
        given = config.given_for(described, config.PLACE)
        if given is not None:
            described = given.described(described, config.PLACE)
            described["OPTIONS"] |= given.params
        return super().settings_to_cmd_args_env(described, parameters)


def pooled_client(base: type[BaseDatabaseClient]) -> type[BaseDatabaseClient]:
    """`base` that asks `credentials`; itself if it does so already."""
    if issubclass(base, PooledClient):
        return base
    return type(base.__name__, (PooledClient, base), {"__module__": __name__})
