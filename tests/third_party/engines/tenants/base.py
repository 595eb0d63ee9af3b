"""django-tenants, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled("django_tenants.postgresql_backend")
