"""The customer's copy of a consent: emailed when it is recorded, and again when it was lost or came back."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from ..actors import Actor
from ..ledger import chain, events
from ..models import Consent, ConsentWithdrawal, RequestedBatch, ResentReceipt, UnlockRequest
from ..texts.formats import counted
from . import emails
from .tokens import hashed, new_token
from .verbs import refuse_own_contacts, refuse_unless_confirmed, staff_verb


def receipt_for(token: str) -> Consent | None:
    """Return the consent whose receipt has this token, or None."""
    consents = Consent.objects.select_related("unlock_request__account", "terms", "contact", "recorded_by", "opening")
    return consents.filter(
        Q(receipt_hash=hashed(token))
        | Q(pk__in=ResentReceipt.objects.filter(token_hash=hashed(token)).values("consent"))
    ).first()


def email_receipt(consent: Consent, token: str, to: str = "") -> None:
    """Email the customer's copy of a consent as it stands now, with a link that holds the token."""
    withdrawal = ConsentWithdrawal.objects.filter(consent=consent).first()
    emails.send(
        _template(consent, withdrawal),
        to or consent.email,
        about=consent.unlock_request,
        consent=consent,
        unlock_request=consent.unlock_request,
        account=consent.unlock_request.account,
        url=settings.PUBLIC_URL + reverse("receipt_link", args=[token]),
        text=consent.text,
        resent=bool(to),
        **(withdrawal_context(withdrawal) if withdrawal else {}),
    )


def withdrawal_context(withdrawal: ConsentWithdrawal) -> dict[str, Any]:
    """Return what an email says about a withdrawal: the row, and how many batches were relocked and exported."""
    lines = withdrawal.consent.unlock_request.lines
    counts = {
        name: lines.filter(outcome=outcome).count()
        for name, outcome in (
            ("relocked", RequestedBatch.Outcome.RELOCKED),
            ("exported", RequestedBatch.Outcome.RE_EXPORTED),
        )
    }
    words = {name: counted(n, "batch", "batches") if n else "none" for name, n in counts.items()}
    return {"withdrawal": withdrawal} | words


def _template(consent: Consent, withdrawal: ConsentWithdrawal | None) -> str:
    if consent.decision == Consent.Decision.DECLINED:
        return "declined"
    if withdrawal:
        return "withdrawn"
    return "recorded_by_phone" if consent.recorded_by_phone else "receipt"


@staff_verb("unlocks.send_consent_link")
@transaction.atomic
def resend_receipt(consent: Consent, *, by: Actor) -> ResentReceipt:
    """Email a consent's receipt again, with a new link, to the address on file now; return the ResentReceipt.

    A closed case makes no difference. Raises Refused: NOT_AN_ADMIN, NOT_CONFIRMED, OWN_CONTACT.
    """
    unlock_request = UnlockRequest.objects.select_related("account").get(pk=consent.unlock_request_id)
    contact = consent.contact
    contact.refresh_from_db()
    refuse_unless_confirmed(contact, "Receipts go to Admin contacts only.")
    refuse_own_contacts(unlock_request.account, by)
    token = new_token()
    resent = ResentReceipt.objects.create(
        consent=consent, email=contact.email, token_hash=hashed(token), sent_by=by.member, sent_at=by.act.at
    )
    chain.append(events.ReceiptResent.of(resent, name=contact.name), by=by, unlock_request=unlock_request)
    email_receipt(consent, token, to=contact.email)
    return resent
