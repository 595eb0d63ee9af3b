"""The shop for an ASGI server, with websockets: each message is answered."""

from __future__ import annotations

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()

from tests.acceptance.shop.models import Item  # noqa: E402 (the shop is set up by now)


class Sync(WebsocketConsumer):  # type: ignore[misc]
    def receive(self, *_args: object, **_kwargs: object) -> None:
        self.send(str(Item.objects.count()))


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, *_args: object, **_kwargs: object) -> None:
        await self.send(str(await Item.objects.acount()))


class Threads(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, *_args: object, **_kwargs: object) -> None:
        count = database_sync_to_async(Item.objects.count, thread_sensitive=False)
        await self.send(str(await count()))


application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": URLRouter(
            [
                path("ws/sync/", Sync.as_asgi()),
                path("ws/async/", Async.as_asgi()),
                path("ws/threads/", Threads.as_asgi()),
            ]
        ),
    }
)
