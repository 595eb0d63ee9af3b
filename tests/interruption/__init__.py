"""Interrupted statements: an answer under way never reaches the next lease.

Each test runs `tests.interruption.worker` in processes of its own. Python's signal
handlers run in the main thread only, and a process has one driver for each database.
"""
