"""The clients: httpx, many at once, each asking again as soon as it has its answer."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections import Counter

import httpx

from djpool.demo.site import LOAD

# Seconds that one request may take.
PATIENCE = 60.0


def client(address: str) -> httpx.AsyncClient:
    """One client of the site, with one connection that it keeps.

    Proxies of the environment do not apply to it.
    """
    # Without one that is given, each client would read all certificates there are.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(
        base_url=address,
        timeout=PATIENCE,
        trust_env=False,
        transport=httpx.AsyncHTTPTransport(verify=context),
    )


class Load:
    """So many requests by so many clients, and what became of them."""

    def __init__(self, address: str, requests: int, clients: int) -> None:
        self.requests = requests
        self.clients = clients
        self.seconds: list[float] = []  # of the requests that were answered
        self.errors: Counter[str] = Counter()
        self._address = address
        self._stopped = False
        # The next request's path, round and round.
        self._paths = itertools.islice(itertools.cycle(LOAD), requests)

    @property
    def answered(self) -> int:
        """How many requests were answered as they should be."""
        return len(self.seconds)

    def quantile(self, share: float) -> float | None:
        """The seconds in which this share of the answers came; None without one."""
        ordered = sorted(self.seconds)
        return ordered[int(share * (len(ordered) - 1))] if ordered else None

    def stop(self) -> None:
        """Begin no more requests."""
        self._stopped = True

    async def run(self) -> None:
        """Make the requests, unless stopped. Returns when all have ended."""
        await asyncio.gather(*(self._ask() for _ in range(self.clients)))

    async def _ask(self) -> None:
        async with client(self._address) as asking:
            for path in self._paths:
                if self._stopped:
                    return
                started = time.perf_counter()
                try:
                    response = await asking.get(path)
                    response.raise_for_status()
                except httpx.HTTPStatusError:
                    reason = f"{response.status_code} {response.reason_phrase}"
                    self.errors[f"{path} {reason}"] += 1
                except httpx.HTTPError as error:
                    what = str(error) or "no answer"
                    self.errors[f"{path} {type(error).__name__}: {what}"] += 1
                else:
                    self.seconds.append(time.perf_counter() - started)
