"""What each package wants in a project's settings, and what it has seen of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connections


def _nothing(_alias: str) -> Any:
    return None


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package: its lines in the settings, and its eyes."""

    apps: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Where its own pages are: a prefix, and the module of its paths.
    urls: tuple[str, str] | None = None
    #: Called with the settings' module, for packages that are called there.
    start: Callable[[], object] = lambda: None
    #: What it has seen of the page that is under way, on an alias.
    seen: Callable[[str], Any] = _nothing


def logged(alias: str) -> list[str]:
    """The statements in `connection.queries`."""
    return [query["sql"] for query in connections[alias].queries]


def _start_sentry() -> None:
    import sentry_sdk
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):  # type: ignore[misc]
        def capture_envelope(self, envelope: Any) -> None:
            """Sends nothing."""

    sentry_sdk.init(
        dsn="http://tests@127.0.0.1:9/1",
        transport=Nowhere,
        integrations=[DjangoIntegration()],
        default_integrations=False,
        traces_sample_rate=1.0,
    )


def _sentry(_alias: str) -> list[str]:
    """Its spans of statements so far."""
    import sentry_sdk

    transaction = sentry_sdk.get_current_scope().transaction
    assert transaction is not None
    recorder = transaction._span_recorder
    assert recorder is not None
    return [span.description or "" for span in recorder.spans if span.op == "db"]


def _scout(_alias: str) -> list[str]:
    """Its spans of statements so far."""
    from scout_apm.core.tracked_request import TrackedRequest

    spans = TrackedRequest.instance().complete_spans
    return [span.tags["db.statement"] for span in spans if "db.statement" in span.tags]


def _silk(_alias: str) -> list[str]:
    """Its notes of statements so far."""
    from silk.collector import DataCollector

    return [query["query"] for query in DataCollector().queries.values()]


def _zeal(alias: str) -> list[str]:
    """What it says of a loop that asks for one row each time."""
    from zeal.errors import NPlusOneError

    from tests.acceptance.shop.models import Item

    try:
        for item in Item.objects.using(alias).defer("name")[:4]:
            str(item)
    except NPlusOneError as error:
        return [str(error).split(" at ")[0]]
    return []


def _django_mysql(alias: str) -> list[str]:
    """A query with a label, as the server is sent it."""
    from django_mysql.models import add_QuerySetMixin

    from tests.acceptance.shop.models import Item

    if connections[alias].vendor == "mysql":
        add_QuerySetMixin(Item.objects.using(alias)).label("mine").first()
    return [sql for sql in logged(alias) if "mine" in sql]


def _read_only(alias: str) -> list[str]:
    """What it says when a page writes."""
    from django_read_only import DjangoReadOnlyError

    from tests.acceptance.shop.models import Item

    try:
        Item(name="refused").save(using=alias)
    except DjangoReadOnlyError as error:
        return [str(error)]
    return []


def _cachalot(alias: str) -> list[str]:
    """How many statements an ORM query needs that was made before."""
    from tests.acceptance.shop.models import Item

    list(Item.objects.using(alias).filter(name="item 3"))
    before = len(logged(alias))
    list(Item.objects.using(alias).filter(name="item 3"))
    return logged(alias)[before:]


_TOOLBAR = Package(
    apps=("django.contrib.staticfiles", "debug_toolbar"),
    middleware=("debug_toolbar.middleware.DebugToolbarMiddleware",),
    settings={
        "STATIC_URL": "/static/",
        "DEBUG_TOOLBAR_CONFIG": {"SHOW_TOOLBAR_CALLBACK": lambda _request: True},
    },
    urls=("__debug__/", "debug_toolbar.urls"),
    seen=logged,
)

PACKAGES = {
    "debug-toolbar": _TOOLBAR,
    "debug-toolbar-7": _TOOLBAR,
    "silk": Package(
        apps=("silk",),
        middleware=("silk.middleware.SilkyMiddleware",),
        urls=("silk/", "silk.urls"),
        seen=_silk,
    ),
    "querycount": Package(
        middleware=("querycount.middleware.QueryCountMiddleware",), seen=logged
    ),
    "zeal": Package(
        apps=("django.contrib.contenttypes", "zeal"),
        middleware=("zeal.middleware.zeal_middleware",),
        seen=_zeal,
    ),
    "cachalot": Package(apps=("cachalot",), seen=_cachalot),
    "sentry": Package(start=_start_sentry, seen=_sentry),
    "scout": Package(
        apps=("scout_apm.django",),
        settings={
            "SCOUT_MONITOR": True,
            "SCOUT_NAME": "tests",
            "SCOUT_CORE_AGENT_LAUNCH": False,
            "SCOUT_CORE_AGENT_DOWNLOAD": False,
        },
        seen=_scout,
    ),
    "django-mysql": Package(
        apps=("django_mysql",),
        settings={"DJANGO_MYSQL_REWRITE_QUERIES": True},
        seen=_django_mysql,
    ),
    "read-only": Package(
        apps=("django_read_only",),
        settings={"DJANGO_READ_ONLY": True},
        seen=_read_only,
    ),
}
