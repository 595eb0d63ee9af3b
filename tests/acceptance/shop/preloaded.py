"""The shop for a WSGI server that forks, with queries before it does.

One connection is in use at the fork and one is idle, as after an import that reads a
table of settings. An open cursor keeps the one, in transaction mode as well.
"""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.db import connection

application = get_wsgi_application()

_kept = connection.cursor()
_other = connection.copy()
_other.ensure_connection()
_other.close()
