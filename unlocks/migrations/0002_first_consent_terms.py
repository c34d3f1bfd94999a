from django.db import migrations

from unlocks import terms


def publish(apps, schema_editor):
    terms.publish_first_version(apps)


class Migration(migrations.Migration):
    dependencies = [("unlocks", "0001_accounts_batches_requests_and_consents")]

    operations = [migrations.RunPython(publish, migrations.RunPython.noop)]
