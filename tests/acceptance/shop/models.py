"""What the shop sells."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import models

if TYPE_CHECKING:
    from django.db.models.manager import Manager


class Item(models.Model):
    """Something to sell."""

    objects: ClassVar[Manager[Item]]

    name: models.CharField[str, str] = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name
