"""One view of each kind that there is under ASGI. Each asks the database twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from django.db.models import Max
from django.http import (
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)

import djpool
from djpool.demo.site import counting
from djpool.demo.site.models import Item


def in_a_thread(_request: HttpRequest) -> HttpResponse:
    """A plain view, which Django runs in a thread."""
    last = Item.objects.aggregate(last=Max("pk"))["last"]
    return HttpResponse(f"{Item.objects.count()} items up to {last}\n")


async def in_the_loop(_request: HttpRequest) -> HttpResponse:
    """An asynchronous view."""
    names = [item.name async for item in Item.objects.order_by("-pk")[:10]]
    return HttpResponse(f"{await Item.objects.acount()} items: {names}\n")


async def gathered(_request: HttpRequest) -> HttpResponse:
    """An asynchronous view that asks two things at once."""
    count, last = await asyncio.gather(
        Item.objects.acount(), Item.objects.aaggregate(last=Max("pk"))
    )
    return HttpResponse(f"{count} items up to {last['last']}\n")


async def streamed(_request: HttpRequest) -> StreamingHttpResponse:
    """An answer that is made while it is sent."""

    async def parts() -> AsyncIterator[str]:
        yield f"{await Item.objects.acount()} items\n"
        async for item in Item.objects.order_by("pk")[:10]:
            yield f"{item.name}\n"

    return StreamingHttpResponse(parts())


async def figures(_request: HttpRequest) -> JsonResponse:
    """What the demo shows; this asks no database."""
    pools = {alias: pool.as_dict() for alias, pool in djpool.stats().items()}
    return JsonResponse({"pools": pools, "connections": counting.connections.figures()})
