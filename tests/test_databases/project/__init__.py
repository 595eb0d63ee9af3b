"""A project whose tests use the database in every way that tests can."""
