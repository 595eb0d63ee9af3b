"""The listener, its sessions, and the controls that a test has over them."""

from __future__ import annotations

import collections
import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.servers.oracle_emulator.engine import Store
from tests.servers.oracle_emulator.errors import OracleError
from tests.servers.oracle_emulator.session import Session
from tests.servers.oracle_emulator.ttc import ORACLE_23, Dialect

HOST = "127.0.0.1"


@dataclass
class Stats:
    """What was received so far.

    `messages` has one entry for each request, so its sum is the number of round
    trips; piggybacks ride along and are counted apart.
    """

    logons: int = 0
    logons_failed: int = 0
    peak_sessions: int = 0
    messages: collections.Counter[str] = field(default_factory=collections.Counter)
    piggybacks: collections.Counter[str] = field(default_factory=collections.Counter)


class OracleEmulator:
    """A database server on loopback that python-oracledb can log on to.

    `start()` and `stop()` may follow one another: the port and the data stay.
    Thread-safe.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        users: dict[str, str],
        services: tuple[str, ...],
        dialect: Dialect = ORACLE_23,
    ) -> None:
        """Listen nowhere yet.

        Args:
            port: Where to listen; 0 takes a free one at the first start.
            users: Their passwords.
            services: The names under which a client may ask for a database. It is
                the same one.
            dialect: The version that is played.
        """
        self.port = port
        self.users = {name.upper(): password for name, password in users.items()}
        self.services = {name.upper() for name in services}
        self.dialect = dialect
        #: Sessions at most, or ORA-00018.
        self.max_sessions: int | None = None
        #: A session that says this is dropped without an answer.
        self.drop_at = ""
        self.stats = Stats()
        #: What clients said that is not understood here.
        self.protocol_errors: list[str] = []
        #: Every statement, with the number of its session.
        self.statements: list[tuple[int, str]] = []
        self.store = Store()
        self._sids = itertools.count(101)
        self._sessions: dict[int, Session] = {}
        # Guards _sessions and stats; held by who asks for the sessions, too.
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None

    # -- life ---------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        listener = socket.create_server((HOST, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.name = f"oracle-emulator-{self.port}"
        thread.start()

    def stop(self) -> None:
        """Refuse new connections, and end those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
            listener.close()
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.disconnect()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self.store.close()

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, sock, next(self._sids))
            with self._lock:
                self._sessions[session.sid] = session
            name = f"oracle-session-{session.sid}"
            threading.Thread(target=session.run, name=name, daemon=True).start()

    # -- what sessions ask and tell -------------------------------------------------

    def logon_error(self, user: str) -> OracleError | None:
        """Why a user who knows the password is not let in."""
        if user not in self.users:
            return OracleError(1017)
        if self.max_sessions is not None and len(self.sessions()) >= self.max_sessions:
            return OracleError(18)
        return None

    def logon_failed(self) -> None:
        with self._lock:
            self.stats.logons_failed += 1

    def logged_on(self) -> None:
        with self._lock:
            stats = self.stats
            stats.logons += 1
            stats.peak_sessions = max(stats.peak_sessions, len(self.sessions()))

    def session_ended(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.sid, None)

    def count_message(self, name: str) -> None:
        with self._lock:
            self.stats.messages[name] += 1

    def count_piggyback(self, name: str) -> None:
        with self._lock:
            self.stats.piggybacks[name] += 1

    def session_rows(self) -> list[tuple[Any, ...]]:
        """Rows of V$SESSION."""
        rows = []
        for session in self.sessions():
            engine = session.engine
            attributes = engine.state.attributes if engine else {}
            names = ("MODULE", "ACTION", "CLIENT_INFO", "CLIENT_IDENTIFIER")
            status = "KILLED" if session.doom else "INACTIVE"
            client = session.client
            row = [session.sid, session.serial, session.user, status, "USER"]
            row += [attributes.get(name) or None for name in names]
            row += [client.get("AUTH_PROGRAM_NM"), client.get("AUTH_MACHINE")]
            rows.append(tuple(row))
        return rows

    # -- controls -----------------------------------------------------------------

    def sessions(self) -> list[Session]:
        """The sessions that are logged on, oldest first."""
        with self._lock:
            return [s for s in self._sessions.values() if s.engine is not None]

    def session(self, sid: int) -> Session | None:
        """The session of that number."""
        with self._lock:
            return self._sessions.get(sid)

    def kill(self, sid: int, how: Literal["error", "drop"] = "drop") -> bool:
        """Kill a session; False if there is none.

        `error`: its next request fails with ORA-00028, then the socket is closed;
        `drop`: the socket is closed now.
        """
        session = self.session(sid)
        if session is None:
            return False
        if how == "error":
            session.doom = OracleError(28)
        else:
            session.disconnect()
        return True

    def kill_all(self, how: Literal["error", "drop"] = "drop") -> int:
        """Kill every session that is logged on; gives how many."""
        return sum(self.kill(session.sid, how) for session in self.sessions())

    @contextlib.contextmanager
    def counting(self) -> Iterator[collections.Counter[str]]:
        """Collect the requests that arrive inside the block, by function.

        Piggybacks appear as `+NAME`.
        """
        result: collections.Counter[str] = collections.Counter()
        with self._lock:
            messages = self.stats.messages.copy()
            piggybacks = self.stats.piggybacks.copy()
        yield result
        with self._lock:
            result.update(self.stats.messages - messages)
            extra = self.stats.piggybacks - piggybacks
        result.update({f"+{name}": count for name, count in extra.items()})
