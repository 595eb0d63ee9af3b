"""A value for ENGINE: djpool on PyMySQL, as a project would choose it."""
