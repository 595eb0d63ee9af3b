"""Django's own test suite, run with djpool's backends: `python -m tests.django_suite`.

Every label runs with each engine, pool on. What fails runs again with the backend
that djpool stands in for; what passes there is djpool's fault, unless `known` names
it and says why.
"""
