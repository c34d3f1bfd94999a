"""Version 1 of the consent terms: the text of the vendor's article of 12 May 2023, word for word."""

from django.utils import timezone

TITLE = "Unlocking bypassed batches"
TEXT = (
    "We are confirming that this action is being taken at your direction and that you have sole responsibility for "
    "ensuring that the appropriate financial changes are being made in QuickBooks. ServiceTitan is unable to assist "
    "with or verify that these changes are made in QuickBooks, and therefore assumes no liability."
)


def publish_first_version(apps):
    """Put version 1 in place, published. `apps` is the registry of a migration, or Django's own."""
    apps.get_model("unlocks", "ConsentTerms").objects.get_or_create(
        version=1, defaults={"title": TITLE, "text": TEXT, "published_at": timezone.now()}
    )
