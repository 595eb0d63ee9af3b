"""Makes the site's tables. Started as a program."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections


def main() -> None:
    """Fill the shop's table in each database, by the aliases without a pool."""
    settings.DJANGO_READ_ONLY = False  # for this process
    django.setup()
    from tests.acceptance.shop import ITEMS
    from tests.acceptance.shop.models import Item

    for alias in connections:
        if not alias.endswith("_stock"):
            continue
        connection = connections[alias]
        with connection.schema_editor() as editor:
            if Item._meta.db_table in connection.introspection.table_names():
                editor.delete_model(Item)
            editor.create_model(Item)
        Item.objects.using(alias).bulk_create(
            Item(name=f"item {number}") for number in range(ITEMS)
        )
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main()
