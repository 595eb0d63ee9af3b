"""django-prometheus over PostgreSQL, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled("django_prometheus.db.backends.postgresql")
