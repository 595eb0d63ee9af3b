"""The site's pages, and those of its package."""

from __future__ import annotations

import os

from django.urls import URLPattern, URLResolver, include, path

from tests.packages.site import views
from tests.packages.site.packages import PACKAGES

urlpatterns: list[URLPattern | URLResolver] = [
    path("read/<alias>/<int:number>/", views.read),
    path("aread/<alias>/<int:number>/", views.aread),
    path("write/<alias>/", views.write),
    path("seen/<alias>/", views.seen),
    path("stats/", views.stats),
]
if (_urls := PACKAGES[os.environ["SITE_PACKAGE"]].urls) is not None:
    urlpatterns.append(path(_urls[0], include(_urls[1])))
