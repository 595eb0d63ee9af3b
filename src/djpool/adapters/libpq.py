"""What psycopg 3 and psycopg2 have in common: PostgreSQL, and its client library."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from djpool.adapters.timeouts import whole_seconds
from djpool.core.session import STANDARD, MoreThanSettings, Statements

# libpq takes a shorter connect_timeout for this one.
LEAST_CONNECT_TIMEOUT = 2

# SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with their transaction, as do
# LOCK and a cursor that is not WITH HOLD. Without one they do nothing.
statements = Statements(
    (
        *STANDARD,
        *("SET LOCAL", "SET TRANSACTION", "SET CONSTRAINTS", "SHOW", "LOCK", "COPY"),
        *("BEGIN", "START", "END", "ABORT", "PREPARE TRANSACTION", "ANALYZE"),
        *("ANALYSE", "VACUUM", "REINDEX", "CLUSTER", "REFRESH", "CHECKPOINT"),
        *("COMMENT", "SECURITY", "IMPORT", "REASSIGN", "NOTIFY"),
        *("DECLARE", "FETCH", "MOVE", "CLOSE"),
    ),
    changing=(
        r"\b(?:create|into)\s[^(;]*\btemp(?:orary)?\b"
        r"|\bpg_temp\b"
        r"|\bdeclare\b.*\bwith\s+hold\b"
        # With `true` at the end it is SET LOCAL.
        r"|\bset_config\b(?!\s*\([^()]*,\s*true\s*\))"
        r"|\bdblink_connect|\bsetseed\b|\bpg_replication_origin_session"
    ),
    locking=r"\bpg_(?:try_)?advisory_(?:un)?lock",
    # Django, and a project's own receivers of connection_created, look up what a
    # connection has to know of them.
    typing=r"\b(?:create|alter|drop)\s+(?:extension|type)\b",
    markers=(
        *(
            "extension",
            "type",
            "temp",
            "hold",
            "set_config",
            "advisory",
            "dblink",
            "setseed",
        ),
        "pg_replication",
    ),
)

# What a session has set for itself, without what a transaction has: the settings that
# differ from those it began with, and the roles, which `pg_settings` leaves out.
STATE = (
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' "
    "UNION ALL VALUES ('role', current_setting('role')),"
    " ('session_authorization', session_user)"
)
# Settings of a project's own are left out as well: those whose names are in a text.
_OWN_NAME = re.compile(r"\b[a-z_]\w*\.[a-z_][\w.]*", re.IGNORECASE)
# Statements of which STATE sees all that they do.
_SETS = re.compile(
    r"\s*(?:set\b|select\s+(?:pg_catalog\.)?set_config\b)", re.IGNORECASE
)

# In one message, hence in one transaction: that is why it is not DISCARD ALL, which
# would also lose what ALTER ROLE ... SET ROLE gave at the logon, and the statements
# that the driver has prepared.
RESET = """
CLOSE ALL;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
{settings}
DO $$ DECLARE n text; BEGIN
FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql
LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', n); END LOOP; END $$;
UNLISTEN *;
SELECT pg_catalog.pg_advisory_unlock_all();
DISCARD TEMP;
DISCARD SEQUENCES;
"""

Row = tuple[str, str]


class Origin:
    """How a session began, and the way back there."""

    def __init__(
        self,
        ask: Callable[[str], Iterable[Row]],
        quote: Callable[[str], str],
        setup: Sequence[str],
    ) -> None:
        """Ask for it.

        Args:
            ask: Runs a query and gives its rows.
            quote: Makes a literal.
            setup: What was run when the session began, and may have changed it.
        """
        odd = [each for each in setup if not _SETS.match(each)]
        self._odd = odd[0] if odd else None
        state = dict(ask(STATE))
        names = {name for each in setup for name in _OWN_NAME.findall(each)}
        if names:
            values = ", ".join(f"({quote(name)})" for name in sorted(names))
            own = ask(
                f"SELECT name, current_setting(name, true) FROM (VALUES {values}) "  # noqa: S608 (quoted)
                "AS own (name) WHERE current_setting(name, true) IS NOT NULL"
            )
            state.update(own)
        # In this order, because a change of the former changes the latter.
        last = [(name, state.pop(name)) for name in ("session_authorization", "role")]
        self._reset = RESET.format(
            settings="\n".join(
                f"SELECT pg_catalog.set_config({quote(name)}, {quote(value)}, false);"
                for name, value in [*last, *state.items()]
            )
        )

    def way_back(self) -> str:
        """Statements that lead back there, to be sent as one message.

        Raises:
            Irreparable: They would not.
        """
        if self._odd is not None:
            raise MoreThanSettings(self._odd)
        return self._reset


def limit_connect(params: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Have libpq give up by then; it counts whole seconds, two or more.

    Where there are several hosts, it does so for each of them.
    """
    wanted = params.get("connect_timeout")
    hosts = str(params.get("hostaddr") or params.get("host") or "").count(",") + 1
    seconds = whole_seconds(wanted, timeout / hosts, least=LEAST_CONNECT_TIMEOUT)
    return {**params, "connect_timeout": seconds}
