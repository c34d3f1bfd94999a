"""What became of the emails of the desk, as the ledger has it: on their way, sent or failed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from ..models import Account, Consent, ConsentLink, LedgerEntry, UnlockRequest
from . import chain, events

ON_ITS_WAY, SENT, FAILED = "on_its_way", "sent", "failed"
# The emails that carry a receipt (`templates/unlocks/email/`), as staff call them.
RECEIPTS = {
    "receipt": "Receipt of the consent",
    "recorded_by_phone": "Receipt of the consent recorded by phone",
    "declined": "Receipt of the refusal",
    "withdrawn": "Receipt of the withdrawal",
}
_WHAT_NEXT = {
    "consent_link": "Check the address and send it again.",
    "admin_entered": "That Admin was not told: check the address, and call.",
    "new_pin": "Check the address, then have a new PIN issued.",
}
_KINDS = (events.EmailSent.kind, events.EmailFailed.kind)

Entries = list[tuple[LedgerEntry, Any]]


@dataclass(frozen=True)
class Email:
    """An email and what became of it; while nothing is recorded of it, it is on its way and has no time."""

    what: str
    state: str
    to: str = ""
    at: datetime | None = None
    error: str = ""
    consent: int | None = None
    unlock_request: UnlockRequest | None = None

    @property
    def failed(self) -> bool:
        return self.state == FAILED

    @property
    def sentence(self) -> str:
        """Say for staff that it failed, and what to do next."""
        what = events.EMAILS.get(self.what, self.what)
        return f"{what[:1].upper()}{what[1:]} could not be emailed to {self.to}."

    @property
    def what_next(self) -> str:
        return _WHAT_NEXT.get(self.what, "Check the address, then send the receipt again.")


def entries_of(unlock_request: UnlockRequest) -> Entries:
    """List the ledger entries about the emails of a case, the oldest first, each with its event."""
    kinds = [*_KINDS, events.ReceiptResent.kind]
    entries = unlock_request.entries.filter(kind__in=kinds).order_by("sequence")
    return [(entry, chain.event_of(entry)) for entry in entries]


def of_link(link: ConsentLink, entries: Entries) -> Email:
    """Return what became of the email with a consent link, as the entries of its case have it."""
    found = [email for email, event in _emails(entries) if event.link == link.pk]
    return found[-1] if found else Email("consent_link", ON_ITS_WAY, link.email)


def of_receipt(consent: Consent) -> Email:
    """Return what became of the newest email with a receipt of a consent."""
    emails = (email for email, _ in _emails(entries_of(consent.unlock_request)))
    found = [email for email in emails if email.what in RECEIPTS and email.consent == consent.pk]
    return found[-1] if found else Email("receipt", ON_ITS_WAY, consent.email, consent=consent.pk)


def failures(account: Account, unlock_request: UnlockRequest | None = None) -> list[Email]:
    """List the emails that failed and were followed by none of their kind, of an account or of one request of it.

    A newer PIN settles those before it, and a consent link matters while it is waited for.
    """
    whose = Q(account=account)
    if unlock_request:
        whose = Q(unlock_request=unlock_request) | Q(account=account, unlock_request=None)
    failed = LedgerEntry.objects.filter(whose, kind=events.EmailFailed.kind).order_by("sequence")
    if (first := failed.values_list("sequence", flat=True).first()) is None:
        return []
    newest: dict[Any, Email] = {}
    since = LedgerEntry.objects.filter(whose, sequence__gte=first, kind__in=[*_KINDS, events.PinIssued.kind])
    for entry in since.select_related("unlock_request").order_by("sequence"):
        event = chain.event_of(entry)
        if isinstance(event, events.PinIssued):
            newest = {key: email for key, email in newest.items() if email.what != "new_pin"}
        elif isinstance(event, events.EmailSent | events.EmailFailed):
            newest[_key(entry, event)] = _email(entry, event)
    return [email for email in newest.values() if email.failed and _matters(email)]


def _key(entry: LedgerEntry, event: Any) -> tuple[Any, ...]:
    kind = "receipt" if event.email in RECEIPTS else event.email
    return entry.unlock_request_id, kind, event.consent, "" if kind in ("receipt", "consent_link") else event.to


def _matters(email: Email) -> bool:
    waiting = email.unlock_request and email.unlock_request.status == UnlockRequest.Status.AWAITING_CONSENT
    return email.what != "consent_link" or bool(waiting)


def _emails(entries: Entries) -> list[tuple[Email, Any]]:
    return [(_email(entry, event), event) for entry, event in entries if hasattr(event, "email")]


def _email(entry: LedgerEntry, event: Any) -> Email:
    return Email(
        what=event.email,
        state=FAILED if isinstance(event, events.EmailFailed) else SENT,
        to=event.to,
        at=entry.at,
        error=getattr(event, "error", ""),
        consent=event.consent,
        unlock_request=entry.unlock_request,
    )
