"""A small site that has been asked for everything that Django's ORM can do in ASGI."""

# As many as the shop sells. Several chunks for a server-side cursor.
ITEMS = 30
