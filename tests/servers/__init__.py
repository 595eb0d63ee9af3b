"""Real servers for the tests, and a proxy that makes the way to them fail.

Each server is the tests' own: new data directory, free port, gone at the end. One that
cannot be had is an error, so that a test run never passes for want of a server.
"""
