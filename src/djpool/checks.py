"""System checks of `OPTIONS["pool"]`: every mistake at once, each with its id.

They connect to nothing, but for one that `check --database` runs.

Django calls them in one of two ways. They are registered by the app where
"djpool" is in INSTALLED_APPS, or by the first of djpool's backends that is
loaded while Django sets itself up, as it is for the default alias as soon as
there is a model. Where neither happened, `check --database` finds them through
the backend's validation. So a project that changed nothing but ENGINE has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from djpool import config, poolers
from djpool.core.options import Problem, ProblemKind, is_on

if TYPE_CHECKING:
    from django.db.backends.base.validation import BaseDatabaseValidation

    from djpool.wrapper import PooledWrapper

    _Base = BaseDatabaseValidation
else:
    _Base = object

IDS = {
    ProblemKind.UNKNOWN: "djpool.E001",
    ProblemKind.TYPE: "djpool.E002",
    ProblemKind.BOUNDS: "djpool.E003",
    ProblemKind.REFUSED: "djpool.E005",
}


def check_pools(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check every alias whose ENGINE is one of djpool's."""
    del app_configs, kwargs
    messages: list[CheckMessage] = []
    for alias in connections:
        try:
            wrapper = connections[alias]
        except ImproperlyConfigured as error:
            messages += _unloadable(alias, error)
        else:
            if hasattr(type(wrapper), "djpool_adapter"):
                messages += check_alias(wrapper)  # type: ignore[arg-type]
    return messages


def check_alias(wrapper: PooledWrapper) -> list[CheckMessage]:
    """Check the pool settings of one alias; connects to nothing."""
    alias, described = wrapper.alias, wrapper.settings_dict
    if not is_on(described["OPTIONS"].get("pool")):
        return []
    adapter = wrapper.djpool_adapter
    options, problems = config.read_options(alias, described["OPTIONS"], adapter.offer)
    messages: list[CheckMessage] = [_message(alias, problem) for problem in problems]
    if problem := config.max_age_problem(alias, described):
        hint = "Remove CONN_MAX_AGE; max_lifetime says how long connections live."
        messages.append(Error(problem, hint=hint, id="djpool.E006"))
    if problem := config.twice_problem(alias, described, adapter):
        hint = "Remove it; OPTIONS['pool'] takes max_size and name."
        messages.append(Error(problem, hint=hint, id="djpool.E005"))
    if problem := config.misplaced_problem(alias, described, adapter):
        hint = "Move it there; what djpool does not take is refused there by name."
        messages.append(Error(problem, hint=hint, id="djpool.E005"))
    if options is not None and not messages:
        if missing := adapter.missing(options):
            messages.append(
                Error(f"{config.place_of(alias)}: {missing}.", id="djpool.E007")
            )
        elif problem := config.credentials_problem(alias, options):
            messages.append(Error(problem, id="djpool.E002"))
        elif problem := config.native_problem(alias, described, adapter, options):
            messages.append(Error(problem, id="djpool.E008"))
    if not wrapper.djpool_poolable() and not _is_of_tests(wrapper):
        messages.append(
            CheckWarning(
                f"DATABASES[{alias!r}] is not pooled: each connection to an "
                "in-memory database is another database.",
                hint="Turn the pool off, or use a file.",
                id="djpool.W001",
            )
        )
    return messages


def _is_of_tests(wrapper: PooledWrapper) -> bool:
    """Whether its database is one that Django's test runner has made in memory."""
    creation: Any = wrapper.creation
    return bool(wrapper.settings_dict["NAME"] == creation._get_test_db_name())  # noqa: SLF001 (no public name)


def check_twice(wrapper: PooledWrapper) -> list[CheckMessage]:
    """Check that nobody else lends by transaction what djpool does; connects.

    Only where djpool is to do so. Whatever goes wrong with the server is no message.
    """
    alias, described = wrapper.alias, wrapper.settings_dict
    if wrapper.vendor != "postgresql" or not is_on(described["OPTIONS"].get("pool")):
        return []
    offer = wrapper.djpool_adapter.offer
    options, _problems = config.read_options(alias, described["OPTIONS"], offer)
    if options is None or options.release != "transaction":
        return []
    if not poolers.pools_by_transaction(alias):
        return []
    return [
        CheckWarning(
            f"{config.place_of(alias)}: release: 'transaction' is behind a pooler that "
            "lends its connections by transaction, too, as PgBouncer does. Callers "
            "queue twice, and what djpool keeps of a session is another's.",
            hint='Set release to "request": connections to the pooler are cheap.',
            id="djpool.W002",
        )
    ]


def _message(alias: str, problem: Problem) -> Error:
    return Error(
        f"{config.place_of(alias)}: {problem.message}.",
        hint=problem.hint,
        id=IDS[problem.kind],
    )


def _unloadable(alias: str, error: ImproperlyConfigured) -> list[CheckMessage]:
    engine = settings.DATABASES[alias]["ENGINE"]
    if not engine.startswith("djpool."):
        return []  # Django, or that backend's author, has a word for it
    cause = error.__cause__ or error
    return [
        Error(
            f"DATABASES[{alias!r}]: ENGINE {engine!r} cannot be loaded: {cause}",
            hint="Install its driver; djpool has an extra for each database.",
            id="djpool.E007",
        )
    ]


class PooledValidation(_Base):
    """Mixed into a backend's `DatabaseValidation`, before it."""

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        wrapper: PooledWrapper = self.connection  # type: ignore[assignment]  # which this is mixed in for
        own = check_alias(wrapper)
        registered: set[Any] = set(registry.registered_checks)
        messages = [] if check_pools in registered else own
        if any(each.is_serious() for each in own):
            return messages  # those of Django may connect, which would raise the same
        return [*super().check(**kwargs), *messages, *check_twice(wrapper)]


def pooled_validation(
    base: type[BaseDatabaseValidation],
) -> type[BaseDatabaseValidation]:
    """`base` with the checks; itself if it has them already."""
    if issubclass(base, PooledValidation):
        return base
    return type(base.__name__, (PooledValidation, base), {"__module__": __name__})


def register_checks() -> None:
    """Have Django run `check_pools()`, whatever it checks. Once is enough."""
    register(check_pools)


if not apps.ready:
    # Later, a run of the checks may be under way, that would not see this one.
    register_checks()
