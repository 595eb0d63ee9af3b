"""Settings for Django's test suite: the databases come from who starts it."""

import json
import os

import django

DATABASES = json.loads(os.environ["DJPOOL_SUITE_DATABASES"])
TEST_RUNNER = "tests.django_suite.runner.RecordingRunner"

SECRET_KEY = "django_tests_secret_key"  # which some of the tests expect
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
if django.VERSION < (6, 0):
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
