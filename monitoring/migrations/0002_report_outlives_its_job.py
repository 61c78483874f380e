from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_initial"), ("jobs", "0002_guards")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE monitoring_report ADD CONSTRAINT report_outlives_its_job FOREIGN KEY (job_id) "
            "REFERENCES jobs_job (id) ON DELETE SET NULL",
            "ALTER TABLE monitoring_report DROP CONSTRAINT report_outlives_its_job",
        )
    ]
