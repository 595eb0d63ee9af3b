"""HTTP clients, many at once: patient ones, and such that hang up.

They speak just enough HTTP/1.1, over connections that they keep, to leave the
processor to the server; a library's clients need more of it than the server does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

# Seconds for everything that one call here does.
BOUND = 110.0

# A client's patience: so many different ones, from none to the longest, in seconds.
PATIENCES = 16
LONGEST_PATIENCE = 0.06
# Of an impatient client's requests one in so many is waited for.
WAITED_FOR = 5
# To each websocket.
MESSAGES = 4


@dataclass
class Outcome:
    """What became of the requests that were waited for, and how many were not."""

    answered: int = 0
    hung_up: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Client:
    """One client, with one connection at a time."""

    def __init__(self, host: str, port: int, outcome: Outcome) -> None:
        self._address = host, port
        self._outcome = outcome
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _send(self, path: str) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        host = self._address[0]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await writer.drain()
        return reader

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of an answer.

        Raises:
            OSError, EOFError, ValueError: There was none, or not all of it.
        """
        reader = await self._send(path)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        start, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        return int(start.split()[1]), body.decode()

    async def ask(self, path: str, right: str, status: int = 200) -> None:
        """Wait for an answer and count it, as right or as an error."""
        try:
            got, text = await self.get(path)
        except (OSError, EOFError, ValueError) as error:
            self._outcome.errors[repr(error)] += 1
            await self.close()
        else:
            self.count(f"{got}: {text}", f"{status}: {right}")

    def count(self, answer: str, right: str) -> None:
        """Count an answer, as right or as an error."""
        if answer == right:
            self._outcome.answered += 1
        else:
            self._outcome.errors[answer[:200]] += 1

    async def hang_up(self, path: str, patience: float) -> None:
        """Ask, and hang up after so many seconds, or when the answer begins."""
        reader = await self._send(path)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), patience)
        await self.close(abruptly=patience * 1000 % 2 < 1)
        self._outcome.hung_up += 1

    async def close(self, *, abruptly: bool = False) -> None:
        """End the connection, if there is one."""
        if self._streams is not None:
            _reader, writer = self._streams
            self._streams = None
            if abruptly:
                writer.transport.abort()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def drive(
    host: str,
    port: int,
    path: str,
    right: str,
    *,
    requests: int,
    clients: int,
    status: int = 200,
) -> Outcome:
    """Make so many requests with so many clients at once; each waits for its answer.

    `right` is the text of a right answer. In both, "{}" is the request's number.
    `status` is that of a right answer.
    """

    async def work(client: Client, numbers: Iterator[int]) -> None:
        for number in numbers:
            await client.ask(path.format(number), right.format(number), status)

    return asyncio.run(_all(host, port, work, requests, clients))


def hang_up(
    host: str, port: int, path: str, right: str, *, requests: int, clients: int
) -> Outcome:
    """Hang up on so many requests, sooner or later, and wait for some others."""

    async def work(client: Client, numbers: Iterator[int]) -> None:
        for number in numbers:
            step = number % PATIENCES / (PATIENCES - 1)
            await client.hang_up(path, step * LONGEST_PATIENCE)
            if number % WAITED_FOR == 0:
                await client.ask(path, right)

    return asyncio.run(_all(host, port, work, requests, clients))


def talk(
    host: str, port: int, path: str, right: str, *, messages: int, clients: int
) -> Outcome:
    """Send so many messages over websockets, each of a few; one in three hangs up.

    `right` is the text of a right answer.
    """
    address = f"ws://{host}:{port}{path}"

    async def work(client: Client, numbers: Iterator[int]) -> None:
        for number in numbers:
            async with connect(address, ping_interval=None) as socket:
                for _ in range(MESSAGES):
                    await socket.send("?")
                    client.count(str(await socket.recv()), right)
                if number % 3 == 1:
                    await socket.send("?")
                    socket.transport.abort()

    return asyncio.run(_all(host, port, work, messages // MESSAGES, clients))


async def _all(
    host: str,
    port: int,
    work: Callable[[Client, Iterator[int]], Awaitable[None]],
    requests: int,
    clients: int,
) -> Outcome:
    outcome, numbers = Outcome(), iter(range(requests))

    async def one() -> None:
        client = Client(host, port, outcome)
        try:
            await work(client, numbers)
        finally:
            await client.close()

    await asyncio.wait_for(asyncio.gather(*(one() for _ in range(clients))), BOUND)
    return outcome
