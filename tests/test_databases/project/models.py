"""One table; its first row comes with the migrations."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Thing(models.Model):
    """Something with a name."""

    name: models.CharField[str, str] = models.CharField(max_length=20)

    objects: ClassVar[models.Manager[Thing]] = models.Manager()

    def __str__(self) -> str:
        return self.name
