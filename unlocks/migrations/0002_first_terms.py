from django.db import migrations
from django.utils import timezone

TITLE = "Unlocking bypassed batches"
TEXT = (
    "We are confirming that this action is being taken at your direction and that you have sole responsibility for "
    "ensuring that the appropriate financial changes are being made in QuickBooks. ServiceTitan is unable to assist "
    "with or verify that these changes are made in QuickBooks, and therefore assumes no liability."
)


def publish(apps, schema_editor):
    """Publish version 1 of the consent terms: the text of the vendor's article of May 12, 2023, word for word."""
    apps.get_model("unlocks", "ConsentTerms").objects.get_or_create(
        version=1, defaults={"title": TITLE, "text": TEXT, "published_at": timezone.now()}
    )


class Migration(migrations.Migration):
    dependencies = [("unlocks", "0001_schema")]

    operations = [migrations.RunPython(publish, migrations.RunPython.noop)]
