from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_batch")]

    operations = [
        migrations.AlterModelOptions(
            name="worker",
            options={
                "ordering": ["kind", "name", "-started_at"],
                "permissions": [("control_worker", "Can stop, grow and shrink workers")],
            },
        )
    ]
