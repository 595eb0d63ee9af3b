from typing import Any

from django.db import migrations, models


def add_first(apps: Any, schema_editor: Any) -> None:
    apps.get_model("project", "Thing").objects.create(name="first")


class Migration(migrations.Migration):
    initial = True

    operations = (
        migrations.CreateModel(
            "Thing",
            [
                ("id", models.AutoField(primary_key=True)),
                ("name", models.CharField(max_length=20)),
            ],
        ),
        migrations.RunPython(add_first, elidable=False),
    )
