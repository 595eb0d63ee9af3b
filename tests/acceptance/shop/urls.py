"""One path for each view, by its name."""

from __future__ import annotations

from django.urls import path

from tests.acceptance.shop import views

urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (
        views.sync,
        views.atomic,
        views.acount,
        views.lone,
        views.lone_sync,
        views.gathered,
        views.async_for,
        views.aiterator,
        views.async_stream,
        views.aiterator_stream,
        views.sync_stream,
        views.broken_stream,
        views.background,
        views.other_thread,
        views.to_thread,
        views.thread_that_ends,
        views.cancelled,
        views.cancelled_thread,
        views.events,
        views.missing,
        views.missing_sync,
        views.failing,
        views.failing_sync,
        views.echo,
        views.stats,
    )
]

handler404 = views.page_not_found
handler500 = views.server_error
