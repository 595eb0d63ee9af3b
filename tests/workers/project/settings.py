"""Settings of the project; its database and its folder come as JSON, from the tests."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec

_ORDER = json.loads(os.environ["WORKERS_PROJECT"])

#: Where queues are that are files.
FOLDER: str = _ORDER["folder"]

SECRET_KEY = "known to everyone"
# Before Django 6, its tasks are a package of their own.
_TASKS = [] if find_spec("django.tasks") else ["django_tasks"]
INSTALLED_APPS = [
    "djpool",
    "huey.contrib.djhuey",
    *_TASKS,
    "django_tasks_db",
    "tests.workers.project",
]
DATABASES = {"default": _ORDER["database"]}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
HUEY = {
    "huey_class": "huey.SqliteHuey",
    "name": "project",
    "filename": f"{FOLDER}/huey.sqlite3",
    "results": False,
}

# Everything that goes wrong shows in the worker's log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "WARNING"},
}
