"""Signals of leases, for sessions that need something for each request.

Django's `connection_created` is sent once for each physical connection, to whom
it is new. These two are sent for each lease; both get `connection`, the Django
connection in whose hands the lease is.
"""

from __future__ import annotations

from django.dispatch import Signal

#: Sent when a Django connection has leased a database connection. What a
#: receiver raises reaches the caller, and the connection goes back.
lease_acquired = Signal()

#: Sent before a lease is given back; the connection can still be used. What a
#: receiver raises is logged.
lease_released = Signal()
