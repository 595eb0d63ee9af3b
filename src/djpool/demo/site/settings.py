"""The site's settings. Its database comes from who starts it, see `serve`."""

from __future__ import annotations

import json
import os
import secrets

from djpool.demo.site import DATABASE_VARIABLE, TABLE_VARIABLE
from djpool.demo.site.counting import CountedConnection

SECRET_KEY = secrets.token_hex()
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "djpool.demo.site.urls"
INSTALLED_APPS = ["djpool.demo.site"]
DATABASES = {"default": json.loads(os.environ.get(DATABASE_VARIABLE, "{}"))}
DEMO_TABLE = os.environ.get(TABLE_VARIABLE, "djpool_demo")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

if DATABASES["default"].get("ENGINE", "").endswith(".sqlite3"):
    DATABASES["default"]["OPTIONS"]["factory"] = CountedConnection

# Warnings and errors go to the server's log, tracebacks too.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "WARNING"},
}
