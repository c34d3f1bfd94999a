"""The emails about the life of an unlock: queued with the act, and written from the rows as they are when it is sent.

One of a kind waits for a case and address at a time, whichever batches it was queued for.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Exists, Min, OuterRef, QuerySet

from ..actors import Actor
from ..models import Act, Consent, ConsentLink, Contact, Outgoing, RequestedBatch, UnlockRequest
from ..outbox import rows
from .acts import requests_of

Email, Outcome = Outgoing.Email, RequestedBatch.Outcome
Decision = Consent.Decision


def tell_result(act: Act, by: Actor) -> None:
    """Queue an email with the result of an unlock, written once all is answered, or after a while."""
    due = by.act.at + rows.RESULT_AFTER
    _tell(Email.UNLOCKED, ((consent, due) for consent in _untold(Email.UNLOCKED, act)), by=by)


def unlock_answered(act: Act) -> None:
    """Have the result told now where the product has answered about the last batch that it was to unlock."""
    rows.answered(Email.UNLOCKED, Outcome.UNLOCKING, requests_of(act))


def tell_extended(act: Act, by: Actor) -> None:
    """Queue an email that batches are unlocked for longer, and the reminder before their new end."""
    _tell(Email.EXTENDED, ((consent, by.act.at) for consent in _untold(Email.EXTENDED, act)), by=by)
    remind(act, by)


def remind(act: Act, by: Actor) -> None:
    """Queue a reminder before the end of what was unlocked; none where there is no more time than it comes before."""
    lines = _lines_of(act).filter(batch__unlocked_until__gt=by.act.at + rows.REMINDED_BEFORE)
    ends = lines.order_by().values("consented__consent").annotate(until=Min("batch__unlocked_until"))
    until = dict(ends.values_list("consented__consent", "until"))
    due = {consent: end - rows.REMINDED_BEFORE for consent, end in until.items()}
    _tell(
        Email.ENDING, ((consent, due[consent.pk]) for consent in _untold(Email.ENDING, act) if consent.pk in due), by=by
    )
    # One that waits for a later end comes in time for this one; it is put off to the next when it is written.
    rows.bring_forward(_waiting(Email.ENDING).filter(consent__in=due), min(due.values(), default=by.act.at))


def tell_relocked(act: Act, by: Actor) -> None:
    """Queue an email that batches are relocked, written once no other is being relocked, or after a while."""
    due = by.act.at + rows.RESULT_AFTER
    _tell(Email.ENDED, ((consent, due) for consent in _untold(Email.ENDED, act)), by=by)
    rows.answered(Email.ENDED, Outcome.RELOCKING, requests_of(act))


def tell_closed(cases: QuerySet[UnlockRequest], *, by: Actor) -> None:
    """Queue an email that locked cases end, inside the verb that ends them, before their links are revoked.

    It goes to whoever agreed, and to whoever has a link that they could still decide with; not to who ends a case by
    declining or withdrawing, which has an email of its own.
    """
    of = {"unlock_request__in": cases.order_by().values("pk")}
    links = ConsentLink.objects.filter(**of, used_at=None, revoked_at=None)
    decided = Consent.objects.filter(**of).order_by("pk").defer("text")
    agreed = decided.filter(decision=Decision.AGREED).exclude(withdrawal__at=by.act.at)
    told = {
        (link.unlock_request_id, link.email): _keys(link.unlock_request, link.sent_to, None)
        for link in links.select_related("unlock_request__account", "sent_to")
    } | {
        (consent.unlock_request_id, consent.email): _keys(consent.unlock_request, consent.contact, consent)
        for consent in agreed.select_related("unlock_request__account", "contact")
    }
    declined = decided.filter(decision=Decision.DECLINED, given_at=by.act.at).values_list("unlock_request", "email")
    already = {*declined, *_waiting(Email.ENDED).filter(**of).values_list("unlock_request", "address")}
    rows.queue_all(Email.ENDED, [(who[1], keys) for who, keys in told.items() if who not in already], by=by)
    rows.answered(Email.ENDED, Outcome.RELOCKING, cases.order_by().values("pk"))


def _lines_of(act: Act) -> QuerySet[RequestedBatch]:
    return RequestedBatch.objects.filter(pk__in=act.verdicts.filter(refusal="").values("line"))


def _waiting(email: Outgoing.Email) -> QuerySet[Outgoing]:
    return Outgoing.objects.filter(email=email, state=Outgoing.State.QUEUED)


def _untold(email: Outgoing.Email, act: Act) -> list[Consent]:
    """Return the consents of the batches that an act did something to, one a case and address for which none waits."""
    waiting = _waiting(email).filter(unlock_request=OuterRef("unlock_request"), address=OuterRef("email"))
    consents = Consent.objects.filter(~Exists(waiting), pk__in=_lines_of(act).values("consented__consent"))
    found = consents.order_by("pk").select_related("unlock_request__account", "contact").defer("text")
    return list({(consent.unlock_request_id, consent.email): consent for consent in found}.values())


def _tell(email: Outgoing.Email, consents: Iterable[tuple[Consent, datetime]], *, by: Actor) -> None:
    told = [
        (consent.email, _keys(consent.unlock_request, consent.contact, consent) | {"due": due})
        for consent, due in consents
    ]
    rows.queue_all(email, told, by=by)


def _keys(unlock_request: UnlockRequest, contact: Contact, consent: Consent | None) -> dict[str, Any]:
    return {
        "account": unlock_request.account,
        "unlock_request": unlock_request,
        "contact": contact,
        "consent": consent,
    }
