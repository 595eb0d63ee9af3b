"""Test databases, made and dropped by Django's test runner and by pytest-django."""
