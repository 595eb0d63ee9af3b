"""What tasks leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import models

if TYPE_CHECKING:
    from django.db.models.manager import Manager


class Run(models.Model):
    """A task that was run: where, and on which session of the database server."""

    objects: ClassVar[Manager[Run]]

    number: models.IntegerField[int, int] = models.IntegerField(unique=True)
    process: models.IntegerField[int, int] = models.IntegerField()
    thread: models.BigIntegerField[int, int] = models.BigIntegerField()
    session: models.IntegerField[int, int] = models.IntegerField()

    def __str__(self) -> str:
        return f"task {self.number}"
