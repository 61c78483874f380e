from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("deadletters", "0002_letter_goes_with_its_job")]

    operations = [
        migrations.AddField(
            "replayoperation",
            "driver",
            models.UUIDField(editable=False, help_text="The job that carries it on.", null=True),
        ),
        migrations.AddField(
            "replayoperation",
            "next_at",
            models.DateTimeField(editable=False, help_text="When the next letter is due at this pace.", null=True),
        ),
    ]
