"""Changing which batches a case asks for, until the customer has agreed. The consent link stays as it is."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet, Subquery, Sum, Value

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from ..models import Batch, ConsentLink, LedgerEntry, RequestedBatch, UnlockRequest
from ..rules import Refusal
from .requests import ask_for, refuse_unless_eligible, sum_up
from .verbs import Refused, locked, once, request_of, staff_verb

_WAITING, _NOT_UNLOCKED = RequestedBatch.Outcome.WAITING, RequestedBatch.Outcome.NOT_UNLOCKED


@staff_verb("unlocks.open_request")
@once(events.BatchesAdded, request_of)
@transaction.atomic
def add_batches(unlock_request: UnlockRequest, *, batches: QuerySet[Batch], by: Actor) -> UnlockRequest:
    """Add the batches of a queryset to a case that the customer has not agreed to; one that was taken out comes back.

    Raises Refused: CLOSED, ANSWERED, OTHER_ACCOUNT, NO_BATCHES, or one entry for each batch that can't be unlocked.
    """
    unlock_request = _still_asking(unlock_request)
    chosen = Batch.objects.filter(pk__in=batches.order_by().values("pk"))
    history.lock(chosen)
    refuse_unless_eligible(chosen, unlock_request.account)
    added = _facts_of(chosen)
    if not added["batches"]:
        raise Refused.because(Refusal.NO_BATCHES)
    lines = RequestedBatch.objects.filter(unlock_request=unlock_request)
    ask_for(unlock_request, chosen.exclude(pk__in=lines.values("batch")), by=by, why="Added")
    history.update(
        lines.filter(outcome=_NOT_UNLOCKED, batch__in=chosen.values("pk")),
        by=by,
        why="Added",
        outcome=Value(_WAITING.value),
    )
    return _changed(unlock_request, events.BatchesAdded(**added), by)


@staff_verb("unlocks.open_request")
@once(events.BatchesTakenOut, request_of)
@transaction.atomic
def take_out_batches(unlock_request: UnlockRequest, *, batches: QuerySet[Batch], by: Actor) -> UnlockRequest:
    """Take the batches of a queryset out of a case that the customer has not agreed to; they stay locked.

    Raises Refused: CLOSED, ANSWERED, NO_BATCHES, NOT_WAITING, LAST_BATCHES.
    """
    unlock_request = _still_asking(unlock_request)
    chosen = Batch.objects.filter(pk__in=batches.order_by().values("pk"))
    history.lock(chosen)
    waiting = RequestedBatch.objects.filter(unlock_request=unlock_request, outcome=_WAITING)
    others = list(chosen.exclude(pk__in=waiting.values("batch")).values_list("number", flat=True)[:20])
    if others:
        raise Refused.because(Refusal.NOT_WAITING, unlock_request=unlock_request.reference, names=", ".join(others))
    taken = _facts_of(chosen)
    if not taken["batches"]:
        raise Refused.because(Refusal.NO_BATCHES)
    leaving = waiting.filter(batch__in=chosen.values("pk"))
    if not waiting.exclude(pk__in=leaving.values("pk")).exists():
        raise Refused.because(Refusal.LAST_BATCHES, unlock_request=unlock_request.reference)
    history.update(leaving, by=by, why="Taken out", outcome=Value(_NOT_UNLOCKED.value))
    return _changed(unlock_request, events.BatchesTakenOut(**taken), by)


def changed_since(link: ConsentLink) -> dict[str, list[str]]:
    """Return the numbers of the batches that were added and taken out since a link was issued, on balance.

    Empty when nothing was, or all of it was undone.
    """
    entries = LedgerEntry.objects.filter(unlock_request=link.unlock_request)
    issued = entries.filter(kind=events.LinkSent.kind, about_id=link.pk).values("sequence")[:1]
    kinds = [events.BatchesAdded.kind, events.BatchesTakenOut.kind]
    acts = list(entries.filter(kind__in=kinds, sequence__gt=Subquery(issued)).values_list("act", flat=True))
    if not acts:
        return {}
    lines = RequestedBatch.objects.filter(unlock_request=link.unlock_request)
    rows = RequestedBatch.history.filter(id__in=lines.values("pk"), history_act__in=acts).order_by("history_id")
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for number, outcome in rows.values_list("batch__number", "outcome"):
        first.setdefault(number, outcome)
        last[number] = outcome
    there = {
        name: sorted(number for number in last if first[number] == last[number] == outcome)
        for name, outcome in (("added", _WAITING), ("taken_out", _NOT_UNLOCKED))
    }
    return {name: numbers for name, numbers in there.items() if numbers}


def _still_asking(unlock_request: UnlockRequest) -> UnlockRequest:
    """Lock a request and return it. Raises Refused when it is closed, or the customer has ever agreed to it."""
    unlock_request = locked(unlock_request)
    asking = unlock_request.status in (UnlockRequest.Status.OPEN, UnlockRequest.Status.AWAITING_CONSENT)
    if not asking or unlock_request.consents.exists():
        raise Refused.because(Refusal.ANSWERED, unlock_request=unlock_request.reference)
    return unlock_request


def _changed(unlock_request: UnlockRequest, told: events.Event, by: Actor) -> UnlockRequest:
    """Have a request and the ledger say what it asks for now; return the request."""
    sum_up(UnlockRequest.objects.filter(pk=unlock_request.pk))
    unlock_request.refresh_from_db(fields=["batch_count", "amount"])
    chain.append(told, by=by, unlock_request=unlock_request)
    return unlock_request


def _facts_of(batches: QuerySet[Batch]) -> dict[str, Any]:
    """Return the facts that sum up some batches: how many, of how much, and the first numbers."""
    amount = batches.aggregate(amount=Sum("total"))["amount"]
    numbers = list(batches.order_by("number").values_list("number", flat=True)[: events.NUMBERS_LISTED])
    return {"batches": batches.count(), "amount": amount, "numbers": numbers}
