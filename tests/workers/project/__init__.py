"""A project whose tasks write down who ran them, for every kind of worker."""
