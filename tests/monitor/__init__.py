"""Tests of how processes show their figures, and how those are read."""
