"""The customer's copy of a consent: queued when it is recorded, and again when it was lost or came back."""

from typing import Any

from django.db import transaction
from django.db.models import Q

from ..actors import Actor
from ..ledger import chain, events
from ..models import Consent, ConsentWithdrawal, Outgoing, RequestedBatch, ResentReceipt, UnlockRequest
from ..outbox import rows, secrets
from ..texts.formats import counted
from .verbs import refuse_own_contacts, refuse_unless_confirmed, staff_verb


def receipt_for(token: str) -> Consent | None:
    """Return the consent whose receipt has this token, or None."""
    consents = Consent.objects.select_related("unlock_request__account", "terms", "contact", "recorded_by", "opening")
    return consents.filter(
        Q(receipt_hash=secrets.hashed(token))
        | Q(pk__in=ResentReceipt.objects.filter(token_hash=secrets.hashed(token)).values("consent"))
    ).first()


def queue_receipt(consent: Consent, nonce: str, *, by: Actor, resent: ResentReceipt | None = None) -> None:
    """Have the customer's copy of a consent emailed, with a link whose token belongs to the nonce."""
    rows.queue(
        _email(consent),
        resent.email if resent else consent.email,
        by=by,
        nonce=nonce,
        account=consent.unlock_request.account,
        unlock_request=consent.unlock_request,
        contact=consent.contact,
        consent=consent,
        resent=resent,
    )


def withdrawal_context(withdrawal: ConsentWithdrawal) -> dict[str, Any]:
    """Return what an email says about a withdrawal: the row, and how many batches are relocked and exported by now.

    What the product has not relocked yet is being relocked.
    """
    lines = withdrawal.consent.unlock_request.lines
    counts = {
        name: lines.filter(outcome=outcome).count()
        for name, outcome in (
            ("relocking", RequestedBatch.Outcome.RELOCKING),
            ("relocked", RequestedBatch.Outcome.RELOCKED),
            ("exported", RequestedBatch.Outcome.RE_EXPORTED),
        )
    }
    words = {name: counted(n, "batch", "batches") if n else "none" for name, n in counts.items()}
    return {"withdrawal": withdrawal} | words


def _email(consent: Consent) -> Outgoing.Email:
    if consent.decision == Consent.Decision.DECLINED:
        return Outgoing.Email.DECLINED
    if ConsentWithdrawal.objects.filter(consent=consent).exists():
        return Outgoing.Email.WITHDRAWN
    return Outgoing.Email.RECORDED_BY_PHONE if consent.recorded_by_phone else Outgoing.Email.RECEIPT


@staff_verb("unlocks.send_consent_link")
@transaction.atomic
def resend_receipt(consent: Consent, *, by: Actor) -> ResentReceipt:
    """Have a consent's receipt emailed again, with a new link, to the address on file now; return the ResentReceipt.

    A closed case makes no difference. Raises Refused: NOT_AN_ADMIN, NOT_CONFIRMED, OWN_CONTACT.
    """
    unlock_request = UnlockRequest.objects.select_related("account").get(pk=consent.unlock_request_id)
    contact = consent.contact
    contact.refresh_from_db()
    refuse_unless_confirmed(contact, "Receipts go to Admin contacts only.")
    refuse_own_contacts(unlock_request.account, by)
    nonce = secrets.new_nonce()
    token_hash = secrets.hashed(secrets.token(nonce))
    resent = ResentReceipt.objects.create(
        consent=consent, email=contact.email, token_hash=token_hash, sent_by=by.member, sent_at=by.act.at
    )
    queue_receipt(consent, nonce, by=by, resent=resent)
    chain.append(events.ReceiptResent.of(resent, name=contact.name), by=by, unlock_request=unlock_request)
    return resent
