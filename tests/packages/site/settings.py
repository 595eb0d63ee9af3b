"""Settings of the site; its package and its databases come from the tests, as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.packages.site.packages import PACKAGES

_package = PACKAGES[os.environ["SITE_PACKAGE"]]

SECRET_KEY = "known to everyone"
# Toolbars and loggers do nothing without it.
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.packages.site.urls"
INSTALLED_APPS = ["tests.acceptance.shop", "djpool", *_package.apps]
MIDDLEWARE = list(_package.middleware)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request"]
        },
    }
]
DATABASES: dict[str, Any] = json.loads(os.environ["SITE_DATABASES"])
# The line of docs/compatibility.md, and the stock backend that cachalot does not know.
CACHALOT_ADDITIONAL_SUPPORTED_DATABASES = {
    "djpool.backends.postgresql",
    "djpool.backends.mysql",
    "djpool.backends.mysql_connector",
    "djpool.backends.sqlite3",
    "mysql.connector.django",
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
globals().update(_package.settings)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "WARNING"},
}

_package.start()
