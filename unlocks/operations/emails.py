"""Emails to customers, sent once the transaction commits and recorded in the ledger, sent or failed."""

import logging
from smtplib import SMTPException
from typing import Any

from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string

from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, UnlockRequest

log = logging.getLogger(__name__)


def send(template: str, to: str, *, about: UnlockRequest | Account, **context: Any) -> None:
    """Email `templates/unlocks/email/<template>.txt` (its first line is the subject) once the transaction commits.

    `about` is the request or account that the email belongs to. A failure raises nothing and is recorded.
    """
    subject, _, body = render_to_string(f"unlocks/email/{template}.txt", context).partition("\n")
    message = EmailMessage(" ".join(subject.removeprefix("Subject:").split()), body.lstrip("\n"), to=[to])
    rows = {name: context[name].pk if name in context else None for name in ("consent", "link")}
    transaction.on_commit(lambda: _deliver(message, template, to, about, rows))


def _deliver(
    message: EmailMessage, template: str, to: str, about: UnlockRequest | Account, rows: dict[str, int | None]
) -> None:
    facts: dict[str, Any] = {"email": template, "to": to} | rows
    try:
        message.send()
        event: events.Event = events.EmailSent(**facts)
    except (SMTPException, OSError, ValueError) as error:
        # Never the message itself: it may hold a link or a PIN.
        log.error("An email (%s) could not be sent: %s", template, type(error).__name__)
        event = events.EmailFailed(**facts, error=type(error).__name__)
    which: dict[str, Any] = {"unlock_request" if isinstance(about, UnlockRequest) else "account": about}
    with transaction.atomic():
        chain.append(event, by=Actor.desk(), **which)
