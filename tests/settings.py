"""Settings for tests that need Django. Their databases are made by fixtures."""

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "djpool"]
DATABASES = {
    "default": {
        "ENGINE": "djpool.backends.sqlite3",
        "NAME": ":memory:",
    }
}
