"""Makes the shop's table and fills it. Started as a program."""

from __future__ import annotations

import django
from django.db import connection

from tests.acceptance.shop import ITEMS


def main() -> None:
    """Begin with no table, end with a full one."""
    django.setup()
    from tests.acceptance.shop.models import Item

    with connection.schema_editor() as editor:
        if Item._meta.db_table in connection.introspection.table_names():
            editor.delete_model(Item)
        editor.create_model(Item)
    Item.objects.bulk_create(Item(name=f"item {number}") for number in range(ITEMS))
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")


if __name__ == "__main__":
    main()
