from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("deadletters", "0001_initial"), ("jobs", "0002_guards")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE deadletters_deadletter ADD CONSTRAINT letter_goes_with_its_job FOREIGN KEY (job_id) "
            "REFERENCES jobs_job (id) ON DELETE CASCADE",
            "ALTER TABLE deadletters_deadletter DROP CONSTRAINT letter_goes_with_its_job",
        ),
        migrations.RunSQL(
            "ALTER TABLE deadletters_replayitem ADD CONSTRAINT item_goes_with_its_letter FOREIGN KEY (letter_id) "
            "REFERENCES deadletters_deadletter (id) ON DELETE CASCADE",
            "ALTER TABLE deadletters_replayitem DROP CONSTRAINT item_goes_with_its_letter",
        ),
    ]
