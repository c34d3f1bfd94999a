"""What became of the emails of the desk: whether they wait, as the outbox has it, and how they ended, as the ledger."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from ..models import Account, Consent, ConsentLink, LedgerEntry, Outgoing, UnlockRequest
from ..texts.formats import counted
from . import chain, events

State = Outgoing.State
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
ENDED = (events.EmailSent.kind, events.EmailFailed.kind, events.EmailCanceled.kind)


@dataclass(frozen=True)
class Email:
    """An email and what became of it. Its state is that of the outbox; while it is queued it has no time.

    `answer` is what the server said last, or why it is not sent any more; `again_by` who had it sent once more.
    """

    what: str
    state: str = State.QUEUED
    to: str = ""
    at: datetime | None = None
    answer: str = ""
    tries: int = 0
    link: int | None = None
    consent: int | None = None
    unlock_request: UnlockRequest | None = None
    again_by: str = ""

    @property
    def sent(self) -> bool:
        return self.state == State.SENT

    @property
    def queued(self) -> bool:
        return self.state == State.QUEUED

    @property
    def canceled(self) -> bool:
        return self.state == State.CANCELED

    @property
    def failed(self) -> bool:
        return self.state in (State.REFUSED, State.GIVEN_UP)

    @property
    def given_up(self) -> bool:
        return self.state == State.GIVEN_UP

    @property
    def name(self) -> str:
        """What staff call a receipt."""
        return RECEIPTS[self.what]

    @property
    def waits(self) -> str:
        """Say that it waits, and after how many tries."""
        tried = f", tried {counted(self.tries, 'time', 'times')}" if self.tries else ""
        return f"waits to be sent{tried}{f' (last answer: {self.answer})' if self.answer else ''}"

    @property
    def sentence(self) -> str:
        """Say for staff that it was not sent."""
        what = events.EMAILS.get(self.what, self.what)
        how = f"was not emailed to {self.to}. {self.answer}" if self.canceled else f"could not be emailed to {self.to}."
        return f"{what[:1].upper()}{what[1:]} {how}"

    @property
    def what_next(self) -> str:
        return _WHAT_NEXT.get(self.what, "Check the address, then send the receipt again.")


def of_request(unlock_request: UnlockRequest) -> list[Email]:
    """List the emails of a request, the newest first."""
    rows = list(Outgoing.objects.filter(unlock_request=unlock_request).order_by("-queued_at", "-id"))
    entries = LedgerEntry.objects.filter(unlock_request=unlock_request, kind__in=ENDED) if rows else ()
    read: Iterable[tuple[LedgerEntry, Any]] = ((entry, chain.event_of(entry)) for entry in entries)
    ended = {event.outgoing: (entry, event) for entry, event in read if hasattr(event, "outgoing")}
    return [_email(*ended[str(row.pk)], row) if str(row.pk) in ended else _waiting(row) for row in rows]


def of_link(link: ConsentLink, emails: Iterable[Email]) -> Email:
    """Return what became of the email with a consent link, among those of its request."""
    return next((email for email in emails if email.link == link.pk), Email("consent_link", to=link.email))


def of_receipt(consent: Consent) -> Email:
    """Return what became of the newest email with a receipt of a consent."""
    found = (email for email in receipts(of_request(consent.unlock_request)) if email.consent == consent.pk)
    return next(found, Email("receipt", to=consent.email, consent=consent.pk))


def receipts(emails: Iterable[Email]) -> list[Email]:
    """Return those emails of a request that are receipts."""
    return [email for email in emails if email.what in RECEIPTS]


def failures(account: Account, unlock_request: UnlockRequest | None = None) -> list[Email]:
    """List the emails that failed and were followed by none of their kind, of an account or of one request of it.

    A newer PIN settles those before it, and a consent link matters while it is waited for. Of those that were canceled
    the receipts matter: the customer has no copy.
    """
    whose = Q(account=account)
    if unlock_request:
        whose = Q(unlock_request=unlock_request) | Q(account=account, unlock_request=None)
    unsent = (events.EmailFailed.kind, events.EmailCanceled.kind)
    failed = LedgerEntry.objects.filter(whose, kind__in=unsent).order_by("sequence")
    if (first := failed.values_list("sequence", flat=True).first()) is None:
        return []
    newest: dict[Any, Email] = {}
    since = LedgerEntry.objects.filter(whose, sequence__gte=first, kind__in=[*ENDED, events.PinIssued.kind])
    for entry in since.select_related("unlock_request").order_by("sequence"):
        event: Any = chain.event_of(entry)
        if isinstance(event, events.PinIssued):
            newest = {key: email for key, email in newest.items() if email.what != "new_pin"}
        elif hasattr(event, "outgoing"):
            newest[_key(entry, event)] = _email(entry, event)
    return [email for email in newest.values() if _matters(email)]


def _key(entry: LedgerEntry, event: Any) -> tuple[Any, ...]:
    kind = "receipt" if event.email in RECEIPTS else event.email
    return entry.unlock_request_id, kind, event.consent, "" if kind in ("receipt", "consent_link") else event.to


def _matters(email: Email) -> bool:
    if email.canceled:
        return email.what in RECEIPTS
    waiting = email.unlock_request and email.unlock_request.status == UnlockRequest.Status.AWAITING_CONSENT
    return email.failed and (email.what != "consent_link" or bool(waiting))


def _waiting(row: Outgoing) -> Email:
    return Email(
        what=row.email,
        to=row.address,
        answer=row.answer,
        tries=row.tries,
        link=row.link_id,
        consent=row.consent_id,
        again_by=_again_by(row),
    )


def _email(entry: LedgerEntry, event: Any, row: Outgoing | None = None) -> Email:
    state, answer = State.SENT, ""
    if isinstance(event, events.EmailFailed):
        state, answer = State.GIVEN_UP if event.given_up else State.REFUSED, event.error
    elif isinstance(event, events.EmailCanceled):
        state, answer = State.CANCELED, event.why
    return Email(
        what=event.email,
        state=state,
        to=event.to,
        at=entry.at,
        answer=answer,
        link=event.link,
        consent=event.consent,
        unlock_request=entry.unlock_request,
        again_by=_again_by(row) if row else "",
    )


def _again_by(row: Outgoing) -> str:
    return row.actor if row.resent_id else ""
