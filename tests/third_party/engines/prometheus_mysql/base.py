"""django-prometheus over MySQL, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled("django_prometheus.db.backends.mysql")
