"""Where the views are: each has the path of its name."""

from __future__ import annotations

from django.urls import path

from djpool.demo.site import FIGURES, LOAD, views

urlpatterns = [
    path(where.removeprefix("/"), getattr(views, where.strip("/")))
    for where in (*LOAD, FIGURES)
]
