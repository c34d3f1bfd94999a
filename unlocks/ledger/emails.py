"""What became of the emails of the desk, as the outbox has it; the audit compares its rows with the ledger."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from ..keys import derived
from ..models import Account, Consent, ConsentLink, Outgoing, UnlockRequest
from ..texts.formats import counted
from . import events

State = Outgoing.State
_CHANGING = {"mac", "state", "next_try_at", "tries", "answer", "done_at"}
_WHAT_NEXT = {
    "consent_link": "Check the address and send it again.",
    "admin_entered": "That Admin was not told: check the address, and call.",
    "not_relocked": "That manager was not told: check the address in their staff account.",
    "staff_link": "That colleague got no link: check the address in their staff account, and send another one.",
    "break_glass": "That manager was not told: check the address in their staff account.",
    "weekly": "That manager did not get the week's figures: check the address in their staff account.",
    "new_pin": "Check the address, then have a new PIN issued.",
    "unlocked": "The customer was not told: check the address, and call.",
    "extended": "The customer was not told of the longer time: check the address, and call.",
    "ending": "The customer was not reminded: check the address, and call.",
    "ended": "The customer was not told: check the address, and call.",
}
# The kinds of entries that tell how an email ended.
ENDED = (events.EmailSent.kind, events.EmailFailed.kind, events.EmailCanceled.kind)


@dataclass(frozen=True)
class Email:
    """An email and what became of it. Its state is that of the outbox, or '' when nothing is recorded of it.

    While it is queued it has no time. `answer` is what the server said last, or why it is not sent any more;
    `again_by` who had it sent once more.
    """

    what: str
    state: str = ""
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
        return str(Outgoing.Email(self.what).label)

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


def mac(row: Outgoing) -> str:
    """Return the HMAC-SHA256 (hex), under a key derived from LEDGER_KEY, of what a row of the outbox is made of."""
    names = [field.attname for field in row._meta.concrete_fields if field.name not in _CHANGING]
    of = json.dumps([str(getattr(row, name)) for name in names], separators=(",", ":"))
    return hmac.new(derived("outgoing"), of.encode(), hashlib.sha256).hexdigest()


def is_queued_by_the_desk(row: Outgoing) -> bool:
    """Say whether a row that waits is as the desk queued it, and not one that someone wrote."""
    return hmac.compare_digest(row.mac, mac(row))


def of_request(unlock_request: UnlockRequest) -> list[Email]:
    """List the emails of a request, the newest first."""
    rows = Outgoing.objects.filter(unlock_request=unlock_request).order_by("-queued_at", "-id")
    return [_read(row, unlock_request) for row in rows]


def of_case(unlock_request: UnlockRequest) -> list[Email]:
    """List the same, and among them the emails of its account alone that were not sent, with no request."""
    alone = Q(unlock_request=None, state__in=[State.REFUSED, State.GIVEN_UP, State.CANCELED])
    rows = Outgoing.objects.filter(Q(unlock_request=unlock_request) | alone, account=unlock_request.account_id)
    rows = rows.order_by("-queued_at", "-id")
    return [_read(row, unlock_request if row.unlock_request_id else None) for row in rows]


def of_link(link: ConsentLink, emails: Iterable[Email]) -> Email:
    """Return what became of the email with a consent link, among those of its request."""
    return next((email for email in emails if email.link == link.pk), Email("consent_link", to=link.email))


def of_receipt(consent: Consent) -> Email:
    """Return the newest email with a receipt of a consent that was sent, or else what became of the newest one.

    The confirmation of a withdrawal has no link to the receipt.
    """
    found = [email for email in receipts(of_request(consent.unlock_request)) if email.consent == consent.pk]
    sent = [email for email in found if email.sent and email.what != Outgoing.Email.WITHDRAWN]
    return next(iter(sent + found), Email("receipt", to=consent.email, consent=consent.pk))


def receipts(emails: Iterable[Email]) -> list[Email]:
    """Return those emails of a request that are receipts."""
    return [email for email in emails if email.what in Outgoing.RECEIPTS]


def failures(account: Account, unlock_request: UnlockRequest | None = None) -> list[Email]:
    """List the emails that failed and still matter, of an account, or of one request of it and of the account alone."""
    rows = Outgoing.objects.that_failed().filter(account=account)
    if unlock_request:
        rows = rows.filter(Q(unlock_request=unlock_request) | Q(unlock_request=None))
    rows = rows.select_related("unlock_request").order_by("queued_at", "address")
    return [_read(row, row.unlock_request) for row in rows]


def _read(row: Outgoing, unlock_request: UnlockRequest | None) -> Email:
    return Email(
        what=row.email,
        state=row.state,
        to=row.address,
        at=row.done_at,
        answer=row.answer,
        tries=row.tries,
        link=row.link_id,
        consent=row.consent_id,
        unlock_request=unlock_request,
        again_by=row.actor if row.resent_id else "",
    )
