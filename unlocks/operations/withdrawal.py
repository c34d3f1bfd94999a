"""Withdrawing a consent. It counts at once; the product is asked to relock what it was asked to unlock."""

from django.db import transaction

from ..actors import Actor
from ..ledger import chain, events
from ..models import Consent, ConsentWithdrawal, Outgoing, RequestedBatch, UnlockRequest
from ..outbox import rows
from ..rules import Refusal
from .requests import end, unlock_no_more
from .unlock import take_back
from .verbs import Refused, customer_verb, locked, once, staff_verb


@staff_verb("unlocks.withdraw_consent")
@once(events.Withdrawn, lambda entry: None)
def withdraw_consent(consent: Consent, *, why: str, by: Actor) -> None:
    """Record that the customer takes a consent back, as staff were told; it ends the case, once all is locked.

    Raises Refused: NO_REASON, CONSENT_OVER, CLOSED.
    """
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    _withdraw(consent, why=why, said=f"Consent withdrawn: {why}", by=by)


@customer_verb
def withdraw_own_consent(consent: Consent, *, why: str, by: Actor) -> None:
    """Take a consent back, as the customer who has its receipt; a reason ('' for none) is theirs to give.

    Raises Refused: CONSENT_OVER, CLOSED.
    """
    _withdraw(consent, why=why, said=f"Consent withdrawn by the customer: {why or 'no reason given'}", by=by)


@transaction.atomic
def _withdraw(consent: Consent, *, why: str, said: str, by: Actor) -> None:
    """Withdraw all active consents of the case: whoever withdraws one wants nothing unlocked under another."""
    unlock_request = locked(consent.unlock_request)
    if consent.decision != Consent.Decision.AGREED:
        raise Refused.because(Refusal.CONSENT_OVER, names="the customer declined")
    if ConsentWithdrawal.objects.filter(consent=consent).exists():
        raise Refused.because(Refusal.CONSENT_OVER, names="it is already withdrawn")
    if not unlock_request.lines.filter(outcome__in=RequestedBatch.OPEN).exists():
        raise Refused.because(Refusal.CONSENT_OVER, names="nothing is unlocked under it, and nothing waits to be")
    agreed = unlock_request.consents.filter(decision=Consent.Decision.AGREED, withdrawal=None).order_by("pk")
    standing = list(agreed.select_related("contact", "terms"))
    take_back(unlock_request, by=by, why=said)
    withdrawals = [
        ConsentWithdrawal.objects.create(consent=withdrawn, at=by.act.at, by=by.user, actor=by.name, why=why)
        for withdrawn in standing
    ]
    for withdrawn in standing:
        rows.queue(
            Outgoing.Email.WITHDRAWN,
            withdrawn.email,
            by=by,
            account=unlock_request.account,
            unlock_request=unlock_request,
            contact=withdrawn.contact,
            consent=withdrawn,
        )
    relocking = unlock_request.lines.filter(outcome__in=RequestedBatch.GRANTED).exists()
    if relocking:
        unlock_no_more(unlock_request, by=by, why=said)
    for withdrawal in withdrawals:
        chain.append(events.Withdrawn.of(withdrawal), by=by, unlock_request=unlock_request)
    if not relocking:
        end(unlock_request, resolution=UnlockRequest.Resolution.WITHDRAWN, by=by, why=said)
