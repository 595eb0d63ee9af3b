"""A value for ENGINE; see `base`."""
