"""The site's one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from django.db.models.manager import Manager


class Item(models.Model):
    """Something to read."""

    objects: ClassVar[Manager[Item]]

    name: models.CharField[str, str] = models.CharField(max_length=40)

    class Meta:
        """It may lie in somebody's real database: its name is unlike any other."""

        db_table = settings.DEMO_TABLE

    def __str__(self) -> str:
        return self.name
