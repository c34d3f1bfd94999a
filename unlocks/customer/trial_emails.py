"""The emails of a trial run, on a page: there they go into files and reach nobody."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.core.mail.backends import filebased
from django.http import Http404
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

FILES = f"{filebased.__name__}.EmailBackend"
LISTED = 50
_BETWEEN = b"\n" + b"-" * 79 + b"\n"  # what Django's backend writes between two emails


class Email(NamedTuple):
    """An email as its reader sees it."""

    sent: datetime
    to: str
    subject: str
    text: str
    files: list[str]


@never_cache
@require_safe
def trial_emails(request):
    """List the latest emails, the newest first. Only a trial run has this page: they hold links and PINs."""
    if not (settings.TRIAL and settings.EMAIL_BACKEND == FILES):
        raise Http404("Emails are not kept on this machine.")
    emails = sorted(_emails(Path(settings.EMAIL_FILE_PATH)), reverse=True)
    return render(request, "unlocks/trial_emails.html", {"emails": emails[:LISTED], "more": len(emails) > LISTED})


def _emails(folder):
    for file in folder.glob("*.log"):
        for text in filter(bytes.strip, file.read_bytes().split(_BETWEEN)):
            message = message_from_bytes(text, policy=policy.default)
            yield Email(
                parsedate_to_datetime(message["Date"]).replace(tzinfo=UTC),  # written as "-0000", which has no zone
                message["To"],
                message["Subject"],
                message.get_body(("plain",)).get_content(),
                [attached.get_filename() for attached in message.iter_attachments()],
            )
