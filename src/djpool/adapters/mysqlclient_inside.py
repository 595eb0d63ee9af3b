"""mysqlclient's connection from inside: COM_RESET_CONNECTION, which it cannot send.

The client library under it can. So that is called, with the structure that mysqlclient
hands out in a capsule. Whether it is that library's is not taken for granted: it must
know the connection by the number that mysqlclient knows it by.

The other way to start afresh, `change_user()`, needs the password. mysqlclient may
have read it from an option file, or it may have been good for minutes only.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

from MySQLdb import OperationalError, _mysql

from djpool.core.session import Irreparable


@functools.cache
def _library() -> Any:
    """The client library that mysqlclient is linked to; None if it hides it."""
    if sys.implementation.name != "cpython":
        return None  # where capsules cannot be opened from Python
    try:
        # Symbols of what a module is linked to are found as if they were its own.
        library = ctypes.CDLL(_mysql.__file__)
        library.mysql_thread_id.restype = ctypes.c_ulong
        library.mysql_thread_id.argtypes = [ctypes.c_void_p]
        library.mysql_reset_connection.argtypes = [ctypes.c_void_p]
        ctypes.pythonapi.PyCapsule_GetName.restype = ctypes.c_char_p
        ctypes.pythonapi.PyCapsule_GetName.argtypes = [ctypes.py_object]
        ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
        ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [
            ctypes.py_object,
            ctypes.c_char_p,
        ]
    except (OSError, AttributeError):
        return None
    return library


def reset(connection: Any) -> None:
    """Send COM_RESET_CONNECTION, and wait for the answer.

    Raises:
        Irreparable: That cannot be.
        OperationalError: The server refuses, or is gone.
    """
    library = _library()
    if library is None:
        raise Irreparable("mysqlclient's client library cannot be called from here")
    # Raises if it is closed: then nothing at that address is to be touched.
    number = connection.thread_id()
    capsule = connection._get_native_connection()  # noqa: SLF001 (made for this)
    name = ctypes.pythonapi.PyCapsule_GetName(capsule)
    address = ctypes.pythonapi.PyCapsule_GetPointer(capsule, name)
    if library.mysql_thread_id(address) != number:
        raise Irreparable("mysqlclient's connection is not where it used to be")
    if library.mysql_reset_connection(address):
        raise OperationalError(connection.errno(), connection.error())
