"""Settings of a project that is tested; the test that starts it names a database."""

import json
import os
from typing import Any

DATABASE: dict[str, Any] = json.loads(os.environ["DJPOOL_TESTED_DATABASE"])
DATABASES = {
    "default": DATABASE,
    "replica": {**DATABASE, "TEST": {"MIRROR": "default"}},
}
INSTALLED_APPS = ["djpool", "tests.test_databases.project"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
ROOT_URLCONF = "tests.test_databases.project.urls"
SECRET_KEY = "tested"
STATIC_URL = "static/"
USE_TZ = True
