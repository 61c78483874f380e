from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0003_pace")]

    operations = [
        migrations.CreateModel(
            name="Batch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("worker_id", models.UUIDField()),
                ("child_pid", models.IntegerField()),
                ("queue", models.CharField(max_length=50)),
                ("first_run_at", models.DateTimeField()),
                ("last_run_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("worker_id", "child_pid"), name="one_batch_per_process")
                ],
            },
        ),
        # One small row per process, written with every claim: heap-only as long as its page has room.
        migrations.RunSQL("ALTER TABLE jobs_batch SET (fillfactor = 10)", migrations.RunSQL.noop),
    ]
