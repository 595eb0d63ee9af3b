"""Settings of the shop; its database comes as JSON, from the tests."""

from __future__ import annotations

import json
import os

SECRET_KEY = "known to everyone"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.acceptance.shop.urls"
INSTALLED_APPS = ["tests.acceptance.shop"]
MIDDLEWARE = json.loads(os.environ.get("SHOP_MIDDLEWARE", "[]"))
DATABASES = {"default": json.loads(os.environ["SHOP_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

# Everything that goes wrong shows in the server's log: a view's traceback, too.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "WARNING"},
}
