"""Pages that query a database by its alias. Each says as JSON what it found."""

from __future__ import annotations

import json
import os
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.html import escape

import djpool
from tests.acceptance.shop.models import Item
from tests.packages.site.packages import PACKAGES


def page(found: Any) -> HttpResponse:
    """Toolbars want a body that they can put themselves into."""
    text = escape(json.dumps(found, default=str))
    return HttpResponse(f"<html><body><pre>{text}</pre></body></html>")


def _ask(alias: str, number: int) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT %s", [number])
        (said,) = cursor.fetchone()
    return int(said)


def read(_request: HttpRequest, alias: str, number: int) -> HttpResponse:
    said = _ask(alias, number)
    with transaction.atomic(using=alias):
        count = Item.objects.using(alias).count()
        names = [
            item.name
            for item in Item.objects.using(alias).order_by("pk").iterator(chunk_size=7)
        ]
    return page([said, count, len(names), _ask(alias, number)])


async def aread(_request: HttpRequest, alias: str, number: int) -> HttpResponse:
    count = await Item.objects.using(alias).acount()
    names = [item.name async for item in Item.objects.using(alias).order_by("pk")]
    return page([number, count, len(names), number])


def write(_request: HttpRequest, alias: str) -> HttpResponse:
    """Write and take it back, as a statement and as a transaction."""
    items = Item.objects.using(alias)
    before = items.count()
    item = items.create(name="new")
    created = items.count() - before
    item.delete()
    with transaction.atomic(using=alias):
        items.bulk_create([Item(name="a"), Item(name="b")])
        in_transaction = items.count() - before
        transaction.set_rollback(True, using=alias)
    rolled_back = items.count() - before
    with connections[alias].cursor() as cursor:
        cursor.execute(f"INSERT INTO {Item._meta.db_table} (name) VALUES ('raw')")
    raw = items.count() - before
    items.filter(name="raw").delete()
    return page([created, in_transaction, rolled_back, raw, items.count() - before])


def seen(_request: HttpRequest, alias: str) -> HttpResponse:
    """What the package has seen of a query and a transaction."""
    _ask(alias, 7)
    with transaction.atomic(using=alias):
        Item.objects.using(alias).filter(name="item 3").first()
    return page(PACKAGES[os.environ["SITE_PACKAGE"]].seen(alias))


async def stats(_request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {alias: figures.as_dict() for alias, figures in djpool.stats().items()}
    )
