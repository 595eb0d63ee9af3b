"""A backend that builds on none of Django's, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled(
    "tests.third_party.engines.foreign", session=("prepared", "last_cursor")
)
