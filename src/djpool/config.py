"""From `DATABASES` to checked options and to the pool that they mean."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections

from djpool import channel, control, credentials, errors
from djpool.core.adapter import Adapter, Connector
from djpool.core.driver import Driver, NativePool
from djpool.core.errors import OptionsError
from djpool.core.keeper import Keeper
from djpool.core.lease import Lease
from djpool.core.options import Offer, PoolOptions, Problem, is_on, parse
from djpool.core.pool import Pool
from djpool.core.registry import Registry
from djpool.core.telling import teller
from djpool.opener import Opener
from djpool.uwsgi import call_in_workers

if TYPE_CHECKING:
    from djpool.wrapper import PooledWrapper


def _publish() -> None:
    channel.publish(figures, control.orders(_controlled), _suspended)


registry = Registry(_publish)
call_in_workers(registry.after_fork_in_child)
teller.give_back = connections.close_all

# The settings that say what a connection is. Not the alias's other ones: tests
# change these without meaning another database.
_KEYS = (
    *("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS", "AUTOCOMMIT", "TIME_ZONE"),
)
_WHAT_IT_IS = operator.itemgetter(*_KEYS)


def place_of(alias: str) -> str:
    """Where a project says so, for messages."""
    return f"DATABASES[{alias!r}]['OPTIONS']['pool']"


#: The same where nobody knows of which alias.
PLACE = "OPTIONS['pool']"


def read_options(
    alias: str, options: Mapping[str, Any], offer: Offer
) -> tuple[PoolOptions | None, list[Problem]]:
    """Check an alias's `OPTIONS["pool"]`, which is on."""
    return parse(options["pool"], name=alias, offer=offer)


def max_age_problem(alias: str, described: Mapping[str, Any]) -> str | None:
    """What is wrong with an alias's CONN_MAX_AGE, where its pool is on."""
    age = described["CONN_MAX_AGE"]
    if age == 0:
        return None
    return f"DATABASES[{alias!r}]: CONN_MAX_AGE must be 0 with a pool, not {age!r}."


def twice_problem(
    alias: str, described: Mapping[str, Any], adapter: Adapter
) -> str | None:
    """What in an alias's OPTIONS would have the driver pool as well."""
    twice = [key for key in adapter.pooling if key in described["OPTIONS"]]
    if not twice:
        return None
    place = _beside(alias, twice)
    return f"{place}: not beside 'pool': the driver would pool connections as well."


def credentials_problem(alias: str, options: PoolOptions) -> str | None:
    """What is wrong with an alias's `credentials`, which are not called."""
    if options.credentials is None:
        return None
    try:
        credentials.find(options.credentials, place_of(alias))
    except errors.OptionsError as error:
        return f"{error}."
    return None


def misplaced_problem(
    alias: str, described: Mapping[str, Any], adapter: Adapter
) -> str | None:
    """What in an alias's OPTIONS is the pool's, and stands beside it."""
    misplaced = [key for key in described["OPTIONS"] if key in adapter.of_pools]
    if not misplaced:
        return None
    return (
        f"{_beside(alias, misplaced)}: an option of the pool, which has its place in "
        f"{place_of(alias)}."
    )


def _beside(alias: str, keys: Sequence[str]) -> str:
    """Where a project says these, beside the pool."""
    return " and ".join(f"DATABASES[{alias!r}]['OPTIONS'][{key!r}]" for key in keys)


def given_for(described: Mapping[str, Any], place: str) -> credentials.Given | None:
    """What the `credentials` of some settings give, asked anew; None without any."""
    pool = described["OPTIONS"].get("pool")
    source = pool.get("credentials") if isinstance(pool, Mapping) else None
    if source is None:
        return None
    return credentials.Credentials(credentials.find(source, place), place).get()


@contextlib.contextmanager
def credentials_beside_the_pool(wrapper: PooledWrapper) -> Iterator[None]:
    """Have a Django connection describe itself with its alias's `credentials`.

    That is for whoever connects without the pool: to make the test database, or with a
    driver of one's own.
    """
    place = place_of(wrapper.alias)
    given = given_for(wrapper.settings_dict, place)
    if given is None:
        yield
        return
    with wrapper.djpool_with(given, place):
        yield


def native_problem(
    alias: str, described: Mapping[str, Any], adapter: Adapter, options: PoolOptions
) -> str | None:
    """What the driver's own pool has against these options."""
    connector = Connector(lambda _timeout: None, autocommit=described["AUTOCOMMIT"])
    try:
        _build(alias, adapter, options, connector)
    except errors.OptionsError as error:
        return f"{error}."
    return None


def pool_of(wrapper: PooledWrapper) -> Pool | None:
    """The pool that this Django connection leases from; None if it does not.

    Raises:
        OptionsError: The settings of its alias are wrong.
    """
    described = wrapper.settings_dict
    if not is_on(described["OPTIONS"].get("pool")) or not wrapper.djpool_poolable():
        return None
    identity = (
        type(wrapper),
        _WHAT_IT_IS(described),
        *(getattr(settings, name) for name in wrapper.djpool_settings),
    )
    pool = registry.find(wrapper.alias, identity)
    if pool is not None:
        if pool.former:
            registry.review(wrapper.alias)  # its settings may be back
            if pool.gone:
                return pool_of(wrapper)
        return pool
    copied = _copy(described)
    identity = (type(wrapper), _WHAT_IT_IS(copied), *identity[2:])

    def make(keeper: Keeper) -> Pool:
        return _make(
            type(wrapper),
            copied,
            wrapper.alias,
            keeper,
            functools.partial(_is_said, wrapper.alias, copied.get("ENGINE"), identity),
        )

    pool = registry.make(wrapper.alias, identity, make)
    _publish()
    return pool


def lease_anew(wrapper: PooledWrapper, closed: Pool) -> Lease:
    """Lease after a pool was found closed, if that is because its settings were left.

    Such a pool goes when it is empty, perhaps just when somebody comes.

    Must be called while PoolClosed is handled, which is raised again otherwise.
    """
    pool: Pool | None = closed
    while pool is not None and pool.gone:
        pool = pool_of(wrapper)
        with contextlib.suppress(errors.PoolClosed):
            if pool is not None:
                return pool.acquire()
    raise  # noqa: PLE0704 (see above)


def _is_said(alias: str, engine: Any, identity: tuple[Any, ...]) -> bool | None:
    """Whether an alias's settings are those of a pool; None if there is no such alias.

    What counts is what a new Django connection would have. Others may have settings of
    their own, or those of before.
    """
    described = connections.settings.get(alias)
    if described is None:
        return None
    # The class is not compared: it is what ENGINE means.
    wrapper_class, what_it_is, *others = identity
    return (
        described.get("ENGINE") == engine
        and all(key in described for key in _KEYS)
        and _WHAT_IT_IS(described) == what_it_is
        and others
        == [getattr(settings, name) for name in wrapper_class.djpool_settings]
    )


def figures() -> dict[str, Any]:
    """The figures of this process's pools, for whoever asks from outside."""
    return {alias: pool.stats() for alias, pool in registry.current().items()}


def _suspended() -> list[str]:
    return [alias for alias, pool in registry.current().items() if pool.suspended]


def _controlled(alias: str) -> Pool | None:
    """The pool that an order from outside is for, made now if it is not yet."""
    pool = registry.current().get(alias)
    if pool is not None:
        return pool
    wrapper = connections[alias]
    return pool_of(wrapper) if hasattr(wrapper, "djpool_adapter") else None  # type: ignore[arg-type]


def _make(
    wrapper_class: type[PooledWrapper],
    described: dict[str, Any],
    alias: str,
    keeper: Keeper,
    wanted: Callable[[], bool | None],
) -> Pool:
    adapter: Adapter = wrapper_class.djpool_adapter
    options, problems = read_options(alias, described["OPTIONS"], adapter.offer)
    if problem := (
        max_age_problem(alias, described)
        or twice_problem(alias, described, adapter)
        or misplaced_problem(alias, described, adapter)
    ):
        raise errors.OptionsError(problem)
    if options is None:
        told = "; ".join(
            each.message + (f" ({each.hint})" if each.hint else "") for each in problems
        )
        raise errors.OptionsError(f"{place_of(alias)}: {told}")
    if missing := adapter.missing(options):
        raise errors.OptionsError(f"{place_of(alias)}: {missing}")
    source: credentials.Credentials | None = None
    if options.credentials is not None:
        place = place_of(alias)
        source = credentials.Credentials(
            credentials.find(options.credentials, place), place
        )
    opener = Opener(wrapper_class, described, alias, source)
    connector = Connector(
        # A method: no signal is handled just when it has returned, as it is after the
        # call of an object.
        opener.connect,
        autocommit=described["AUTOCOMMIT"],
        open=opener.open,
        setup=opener.setup,
    )
    driver, native = _build(alias, adapter, options, connector)
    opener.changes = driver.changes
    return Pool(
        options,
        driver,
        native,
        alias=alias,
        errors=errors.KINDS,
        keeper=keeper,
        facts=opener.facts,
        introduce=opener.put_hooks_on,
        renew=None if source is None else source.forget,
        family=registry.family(alias),
        wanted=wanted,
    )


def _build(
    alias: str, adapter: Adapter, options: PoolOptions, connector: Connector
) -> tuple[Driver, NativePool | None]:
    try:
        return adapter.build(options, connector)
    except OptionsError as error:
        raise errors.OptionsError(f"{place_of(alias)}: {error}") from error


def _copy(described: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are now. Tests change theirs in place."""
    copied = {**described, "OPTIONS": dict(described["OPTIONS"])}
    if isinstance(pool := copied["OPTIONS"]["pool"], Mapping):
        copied["OPTIONS"]["pool"] = dict(pool)
    return copied
