"""The ways in which a view can use a database under ASGI.

Each answers with the number of items, in full or in parts, so that a client knows
what is right. Each pauses for `?pause=` seconds while it holds what it has, for
clients that do not wait for the end.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse

import djpool
from tests.acceptance.shop import ITEMS
from tests.acceptance.shop.models import Item

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

PARTS = 2


def _pause(request: HttpRequest) -> float:
    return float(request.GET.get("pause", 0))


def sync(request: HttpRequest) -> HttpResponse:
    count = Item.objects.count()
    time.sleep(_pause(request))
    assert Item.objects.filter(pk__gt=0).exists()
    return HttpResponse(f"{count}\n")


def atomic(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        count = Item.objects.count()
        time.sleep(_pause(request))
        assert Item.objects.filter(pk__gt=0).exists()
    return HttpResponse(f"{count}\n")


async def acount(request: HttpRequest) -> HttpResponse:
    count = await Item.objects.acount()
    await asyncio.sleep(_pause(request))
    assert count == await Item.objects.acount()
    return HttpResponse(f"{count}\n")


async def lone(request: HttpRequest) -> HttpResponse:
    """One query, then something else; `?close` gives the connection back by hand."""
    count = await Item.objects.acount()
    if "close" in request.GET:
        await sync_to_async(lambda: connection.close())()  # noqa: PLW0108 (in its thread)
    await asyncio.sleep(_pause(request))
    return HttpResponse(f"{count}\n")


def lone_sync(request: HttpRequest) -> HttpResponse:
    """The same in a thread."""
    count = Item.objects.count()
    if "close" in request.GET:
        connection.close()
    time.sleep(_pause(request))
    return HttpResponse(f"{count}\n")


async def gathered(request: HttpRequest) -> HttpResponse:
    async def one() -> str:
        count = await Item.objects.acount()
        await asyncio.sleep(_pause(request))
        return f"{count}\n"

    counts = await asyncio.gather(*(one() for _ in range(3)))
    assert len(set(counts)) == 1
    return HttpResponse(counts[0])


async def async_for(request: HttpRequest) -> HttpResponse:
    found = [item.name async for item in Item.objects.order_by("pk")]
    await asyncio.sleep(_pause(request))
    return HttpResponse(f"{len(found)}\n")


async def aiterator(request: HttpRequest) -> HttpResponse:
    found = 0
    async for _item in Item.objects.order_by("pk").aiterator(chunk_size=10):
        found += 1
        if found == 1:
            await asyncio.sleep(_pause(request))
    return HttpResponse(f"{found}\n")


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for _ in range(PARTS):
            yield f"{await Item.objects.acount()}\n"
            await asyncio.sleep(_pause(request))

    return StreamingHttpResponse(parts())


async def aiterator_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        found = 0
        async for _item in Item.objects.order_by("pk").aiterator(chunk_size=10):
            found += 1
            if found % 10 == 0:
                yield f"{found}\n"
                await asyncio.sleep(_pause(request))

    return StreamingHttpResponse(parts())


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for _ in range(PARTS):
            yield f"{Item.objects.count()}\n"
            time.sleep(_pause(request))

    return StreamingHttpResponse(parts())


async def broken_stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Django neither closes such a response nor says that the request has finished."""

    async def parts() -> AsyncIterator[str]:
        yield f"{await Item.objects.acount()}\n"
        raise RuntimeError("in the middle of a stream")

    return StreamingHttpResponse(parts())


_background: set[asyncio.Task[None]] = set()


async def background(_request: HttpRequest) -> HttpResponse:
    """Leave a task behind that uses the database when the request has finished."""

    async def later() -> None:
        await asyncio.sleep(0.05)
        await Item.objects.acount()

    task = asyncio.create_task(later())
    _background.add(task)  # asyncio itself does not keep it
    task.add_done_callback(_background.discard)
    return HttpResponse(f"{await Item.objects.acount()}\n")


def _count(request: HttpRequest) -> int:
    count: int = Item.objects.count()
    time.sleep(_pause(request))
    return count


async def other_thread(request: HttpRequest) -> HttpResponse:
    count = await sync_to_async(_count, thread_sensitive=False)(request)
    return HttpResponse(f"{count}\n")


async def to_thread(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{await asyncio.to_thread(_count, request)}\n")


def thread_that_ends(request: HttpRequest) -> HttpResponse:
    """Leave a connection to a thread that ends and does not close it."""
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(_count(request)))
    thread.start()
    thread.join()
    return HttpResponse(f"{counts[0]}\n")


def _impatience() -> float:
    return random.uniform(0.0, 0.004)


async def cancelled(request: HttpRequest) -> HttpResponse:
    """Give up on a query now and then, and ask again."""
    for _ in range(4):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(Item.objects.acount(), _impatience())
    await asyncio.sleep(_pause(request))
    return HttpResponse(f"{await Item.objects.acount()}\n")


async def cancelled_thread(request: HttpRequest) -> HttpResponse:
    """Give up on a thread, which then goes on when the request is over."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(_count, request), _impatience())
    return HttpResponse(f"{ITEMS}\n")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    """Server-sent events."""

    async def parts() -> AsyncIterator[str]:
        for _ in range(PARTS):
            yield f"data: {await Item.objects.acount()}\n\n"
            await asyncio.sleep(_pause(request))

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


async def missing(_request: HttpRequest) -> HttpResponse:
    """Find nothing, after a query."""
    raise Http404(f"{await Item.objects.acount()}")


def missing_sync(_request: HttpRequest) -> HttpResponse:
    """Find nothing, after a query."""
    raise Http404(f"{Item.objects.count()}")


async def failing(_request: HttpRequest) -> HttpResponse:
    """Fail, after a query."""
    raise RuntimeError(f"{await Item.objects.acount()}")


def failing_sync(_request: HttpRequest) -> HttpResponse:
    """Fail, after a query."""
    raise RuntimeError(f"{Item.objects.count()}")


def synchronous_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Query before and after the view, as one that loads the session does."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path == "/stats/":  # which is to be no lease of its own
            return get_response(request)
        Item.objects.count()
        response = get_response(request)
        Item.objects.count()
        return response

    return middleware


def page_not_found(_request: HttpRequest, exception: Exception) -> HttpResponse:
    """Query for the error page: Django's ticket 36027."""
    return HttpResponse(f"{Item.objects.count()}\n", status=404)


def server_error(_request: HttpRequest) -> HttpResponse:
    """Query for the error page."""
    return HttpResponse(f"{Item.objects.count()}\n", status=500)


def echo(request: HttpRequest) -> HttpResponse:
    """Have the database say what the client said."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {int(request.GET['number'])}")
        (said,) = cursor.fetchone()
    answer = f"{said}\n"
    # uWSGI sends what it gets, and no length of its own.
    return HttpResponse(answer, headers={"Content-Length": str(len(answer))})


async def stats(_request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {alias: figures.as_dict() for alias, figures in djpool.stats().items()}
    )
