"""That one, with a pool."""

import djpool

DatabaseWrapper = djpool.pooled("tests.third_party.engines.audited")
