"""A project's own backend over one of somebody else's, which is over Django's."""

from typing import Any

from django_prometheus.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # untyped
    """Marks its sessions, and knows of which server they are."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        self.audited_port = connection.info.port
        return connection

    def init_connection_state(self) -> None:
        super().init_connection_state()
        with self.cursor() as cursor:
            cursor.execute("SET application_name = 'audited'")
