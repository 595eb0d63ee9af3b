"""A Django project with djpool, for the commands that the tests run."""

import json
import os

from djpool.monitor import read

# A busy machine fails no test.
read.ANSWER_SECONDS = read.ORDER_SECONDS = 60.0

SECRET_KEY = "for the tests"
INSTALLED_APPS = ["djpool"]
USE_TZ = True
DATABASES = json.loads(
    os.environ.get(
        "DJPOOL_TESTS_DATABASES",
        """{
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": ":memory:",
                "OPTIONS": {"pool": true}
            },
            "other": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": ":memory:",
                "OPTIONS": {"pool": {"max_size": 5}}
            },
            "plain": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        }""",
    )
)
