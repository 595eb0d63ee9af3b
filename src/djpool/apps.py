"""The app. Optional: it brings `poolstats` and `poolctl`, and the checks early."""

from __future__ import annotations

from django.apps import AppConfig


class DjpoolConfig(AppConfig):
    """`INSTALLED_APPS = [..., "djpool"]`."""

    name = "djpool"
    verbose_name = "Connection pools"

    def ready(self) -> None:
        """Register the checks, though no backend of djpool's may be loaded yet.

        And hear of requests, from the first one on.
        """
        from djpool import requests as _  # noqa: F401
        from djpool.checks import register_checks

        register_checks()
