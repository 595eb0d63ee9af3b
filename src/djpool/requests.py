"""Requests: which one a lease was made in, and what its end means for the lease.

Django closes the connections of the thread in which a request ends. What was
leased on behalf of the request in other threads (`asyncio.to_thread`,
`sync_to_async(thread_sensitive=False)`), nobody would give back.
"""

from __future__ import annotations

import contextlib
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from asgiref.current_thread_executor import _WorkItem
from asgiref.sync import AsyncToSync, SyncToAsync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started

from djpool.core.owner import JobLoop, current_owner
from djpool.core.telling import is_serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from djpool.core.lease import Lease
    from djpool.core.owner import Owner
    from djpool.core.pool import Pool
    from djpool.wrapper import PooledWrapper

# In which a thread waits for the event loop, as in a synchronous middleware.
_FOR_THE_LOOP = JobLoop(AsyncToSync.__call__.__code__, _WorkItem.run.__code__)


class Request:
    """One request: its path, and the Django connections that leased in its context.

    If a server `served` it, its thread is the server's, too, and what queries there
    after its end belongs to nobody. A test's client asks in the thread of the test.
    """

    __slots__ = ("_leased", "_limit", "_waits", "over", "path", "served", "within")

    def __init__(
        self, path: str, *, served: bool, within: Request | None = None
    ) -> None:
        self.path = path
        self.served = served
        #: The one that makes this one, in a view of its own.
        self.within = within
        self.over = False
        self._leased: list[weakref.ref[PooledWrapper]] = []
        # So many, and those that are gone are taken out.
        self._limit = 16
        # For these its threads wait, each as often as threads do.
        self._waits: list[Pool] = []

    def acquire(self, wrapper: PooledWrapper, pool: Pool) -> Lease:
        """Lease from a pool for a Django connection, in the request's context."""
        if wrapper.djpool_request is not self:
            self.take_over(wrapper)
        if len(self._leased) == 1 or pool.releases_early:
            return pool.acquire()
        moved = self._take_along(pool)
        if moved is not None:
            return moved
        # Its thread may be about to rest, so the pool looks again while this one waits.
        self._waits.append(pool)
        try:
            return pool.acquire()
        finally:
            self._waits.remove(pool)

    def waits_for(self, pool: Pool) -> bool:
        """Whether one of its threads waits for a connection, and others may have one.

        Any thread may ask.
        """
        return pool in self._waits

    def _take_along(self, pool: Pool) -> Lease | None:
        """What another thread of the request leased, if it needs that no more.

        So a request that goes on elsewhere, as it does under ASGI for an error page,
        keeps its one connection. Else requests, as many as there are connections, would
        each leave one in a thread that does nothing, and wait for a second.
        """
        for wrapper in self._wrappers():
            lease = wrapper.djpool_lease
            if lease is not None and lease.pool is pool:
                moved = lease.move()
                if moved is not None:
                    return moved
        return None

    def take_over(self, wrapper: PooledWrapper) -> None:
        """What this Django connection leases is for this request from now on."""
        wrapper.djpool_request = self
        if self.over:
            return
        if len(self._leased) >= self._limit:
            # One by one, as other threads add theirs. A stream of events that lasts
            # for hours may have a new Django connection for each, or share one with
            # other requests, which take it over and over.
            for reference in list(self._leased):
                other = reference()
                if (
                    other is None
                    or other is wrapper
                    or other.djpool_request is not self
                ):
                    with contextlib.suppress(ValueError):  # another thread did
                        self._leased.remove(reference)
            self._limit = 2 * len(self._leased) + 16
        self._leased.append(weakref.ref(wrapper))

    def _wrappers(self) -> Iterator[PooledWrapper]:
        for reference in list(self._leased):
            wrapper = reference()
            # If not, its thread works for another request by now.
            if wrapper is not None and wrapper.djpool_request is self:
                yield wrapper

    def is_within(self, other: Request) -> bool:
        """Whether the other one makes this one, at first or second hand."""
        request: Request | None = self
        while request is not None and request is not other:
            request = request.within
        return request is not None

    def leased(self, lease: Lease) -> None:
        """One of its Django connections has the lease."""
        if lease.pool.traces:
            lease.tell(f"request {self.path!r}")
        if self.over and not lease.pool.releases_early:
            # Something goes on after the end, for which nobody will clean up.
            lease.forsake_soon()

    def end(self) -> None:
        """End what was leased in other threads, now or when it is no more in use."""
        self.over = True
        here = current_owner()
        for wrapper in self._wrappers():
            lease = wrapper.djpool_lease
            if lease is None:
                continue
            if lease.owner is not here:
                lease.forsake()
                if wrapper.djpool_request is not self:
                    lease.keep()  # its thread has just begun to work for another one
            elif self.served:
                # Django has closed it, or is about to; or it was leased in between,
                # by another receiver of this signal, for whom nobody closes it.
                lease.forsake_soon()


# Under WSGI, and wherever asgiref has no context for a request. One that a server
# served stays after its end: a middleware around Django, or a response's close(), may
# lease then, and the thread's next request may be long in coming.
_request: ContextVar[Request | None] = ContextVar("djpool_request", default=None)


def _context() -> Any:
    return SyncToAsync.thread_sensitive_context.get(None)


def _known(context: Any) -> Request | None:
    if context is None:
        return _request.get()
    found: Request | None = getattr(context, "djpool_request", None)
    return found


def current() -> Request | None:
    """The request in whose context the caller runs, in whichever thread."""
    # Under ASGI, Django's handler gives each request one of these. It is copied to
    # other threads with the rest of the context, as what a receiver of
    # request_started sets there may not be.
    context = _context()
    found = _known(context)
    if found is None and context is not None:
        # It began before anything of djpool's was loaded: a process's first.
        found = context.djpool_request = Request("(unknown)", served=True)
    return found


def leased(lease: Lease, request: Request | None) -> None:
    """A lease has begun, in a request or in none."""
    if request is not None:
        request.leased(lease)
    elif is_serving():
        # A handler of the log, or a receiver of a signal, in a thread of djpool's:
        # nobody knows when it comes to its end.
        lease.forsake_soon()


def is_at_rest(owner: Owner) -> bool:
    """Whether a thread waits for its next job, or for what an event loop does."""
    return owner.is_idle(_FOR_THE_LOOP)


def is_left(wrapper: PooledWrapper, *, over: bool) -> bool:
    """Whether a request has had this Django connection, and the caller is of another.

    If its request is not `over`, what is done in no request belongs to nobody, and
    everybody shares it.
    """
    before, now = wrapper.djpool_request, current()
    if over or now is before:
        return now is not before
    return before is not None and now is not None and not now.is_within(before)


def touches(wrapper: PooledWrapper) -> None:
    """Whoever calls changes the session: it is for the caller's request to leave it.

    The lease may be from before, by another request's job in this thread.
    """
    before, now = wrapper.djpool_request, current()
    lease = wrapper.djpool_lease
    if now is None:
        wrapper.djpool_request = None
    elif before is None and not now.served:
        return  # a test's own session, and its client's
    elif before is None or not now.is_within(before):
        now.take_over(wrapper)
    if lease is None:
        return
    if before is not wrapper.djpool_request:
        lease.keep()
    if now is not None and now.over:
        lease.forsake_soon()


def _begin(
    sender: object,
    environ: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    **_kwargs: Any,
) -> None:
    if scope is not None:
        path = scope.get("path", "")
    else:
        path = (environ or {}).get("PATH_INFO", "")
    served = isinstance(sender, type) and issubclass(sender, (ASGIHandler, WSGIHandler))
    context = _context()
    # A test's client, or the like, may be used in a view. A server is not.
    outer = None
    if not served:
        outer = _known(context)
        if outer is not None and outer.over:
            outer = None
    request = Request(str(path), served=served, within=outer)
    _set(context, request)


def _end(**_kwargs: Any) -> None:
    request = current()
    if request is None:
        return
    if request.within is not None:
        _set(_context(), request.within)
    elif not request.served and _context() is None:
        _request.set(None)
    request.end()


def _set(context: Any, request: Request) -> None:
    if context is None:
        _request.set(request)
    else:
        context.djpool_request = request


request_started.connect(_begin, dispatch_uid="djpool.requests")
request_finished.connect(_end, dispatch_uid="djpool.requests")
