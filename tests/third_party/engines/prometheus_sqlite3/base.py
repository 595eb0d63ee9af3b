"""django-prometheus over SQLite, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled("django_prometheus.db.backends.sqlite3")
