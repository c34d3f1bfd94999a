"""Opening, advising on, assigning and closing a case."""

from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Count, Exists, F, OuterRef, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce

from .. import history, stages
from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, Batch, Consent, ConsentLink, Contact, RequestedBatch, UnlockRequest
from ..rules import Refusal, eligible, sentence
from . import notices
from .review import draw_reviews
from .verbs import Refused, locked, once, refuse_unless_confirmed, request_of, staff_verb

# How a member of staff may close a case; declined and withdrawn are the customer's to say.
CLOSABLE_AS = [
    UnlockRequest.Resolution.RE_EXPORTED,
    UnlockRequest.Resolution.ENTERED_MANUALLY,
    UnlockRequest.Resolution.RELOCKED_UNUSED,
    UnlockRequest.Resolution.CANCELED,
    UnlockRequest.Resolution.EXPIRED,
    UnlockRequest.Resolution.NOT_ELIGIBLE,
]
_CLOSED = UnlockRequest.Status.CLOSED.value
_NEEDS_OUTCOME = {
    UnlockRequest.Resolution.RE_EXPORTED: RequestedBatch.Outcome.RE_EXPORTED,
    UnlockRequest.Resolution.RELOCKED_UNUSED: RequestedBatch.Outcome.RELOCKED,
}


@staff_verb("unlocks.open_request")
@once(events.Opened, request_of)
@transaction.atomic
def open_request(
    *,
    account: Account,
    requester: Contact,
    channel: str,
    bypass_reason: str,
    reason: str,
    batches: QuerySet[Batch],
    bypass_other: str = "",
    ticket_system: str = "",
    ticket_number: str = "",
    by: Actor,
) -> UnlockRequest:
    """Open a case for the batches of a queryset and return it, assigned to whoever opened it.

    `bypass_other` says which reason, exactly when that is OTHER. Raises Refused: WHICH_OTHER_REASON, NOT_AN_ADMIN,
    NOT_CONFIRMED, ACCOUNT_INACTIVE, OTHER_ACCOUNT, NO_BATCHES, or one entry for each batch that can't be unlocked.
    """
    if (bypass_reason == UnlockRequest.BypassReason.OTHER) != bool(bypass_other):
        raise Refused.because(Refusal.WHICH_OTHER_REASON)
    requester = history.lock_row(Contact.objects, requester.pk)
    if requester.account_id != account.pk:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=requester.name, admins=_who_could(account))
    refuse_unless_confirmed(requester, _who_could(account))
    if not Account.objects.filter(pk=account.pk, active=True).exists():
        raise Refused.because(Refusal.ACCOUNT_INACTIVE)
    chosen = Batch.objects.filter(pk__in=batches.order_by().values("pk"))
    history.lock(chosen)
    refuse_unless_eligible(chosen, account)
    unlock_request = history.save(
        UnlockRequest(
            account=account,
            requester=requester,
            channel=channel,
            bypass_reason=bypass_reason,
            bypass_other=bypass_other,
            reason=reason,
            ticket_system=ticket_system,
            ticket_number=ticket_number,
            assignee=by.user,
            opened_by=by.user,
            opened_at=by.act.at,
        ),
        by=by,
        why="Opened",
    )
    count = ask_for(unlock_request, chosen, by=by, why="Opened")
    if not count:
        raise Refused.because(Refusal.NO_BATCHES)
    sum_up(UnlockRequest.objects.filter(pk=unlock_request.pk))
    unlock_request.refresh_from_db(fields=["batch_count", "amount"])
    opened = events.Opened.of(unlock_request, batches=count, amount=unlock_request.amount)
    chain.append(opened, by=by, unlock_request=unlock_request)
    return unlock_request


def refuse_unless_eligible(chosen: QuerySet[Batch], account: Account) -> None:
    """Raise Refused when one of some locked batches is of another account, or can't join a request."""
    foreign = list(chosen.exclude(account=account).values_list("number", flat=True)[:20])
    if foreign:
        raise Refused.because(Refusal.OTHER_ACCOUNT, names=", ".join(foreign))
    refused = eligible(chosen).exclude(obstacle="").order_by("number")[:1000]
    refusals = [(Refusal(batch.obstacle), f"{batch.number}: {sentence(batch.obstacle, batch)}") for batch in refused]
    if refusals:
        raise Refused(*refusals)


def ask_for(unlock_request: UnlockRequest, batches: QuerySet[Batch], *, by: Actor, why: str) -> int:
    """Put the batches of a queryset into a case, inside a verb that judged them; return how many."""
    return history.insert(
        RequestedBatch,
        batches,
        by=by,
        why=why,
        unlock_request_id=unlock_request.pk,
        batch_id=F("pk"),
        outcome=RequestedBatch.Outcome.WAITING.value,
        consented_id=None,
    )


def sum_up(requests: QuerySet[UnlockRequest]) -> None:
    """Keep on requests how many batches they are for, and what these come to; what left an open one does not count.

    Whatever adds a line to an open request, takes one out, or changes the total of a batch in one ends with this.
    """
    there = RequestedBatch.objects.exclude(outcome=RequestedBatch.Outcome.NOT_UNLOCKED)
    lines = there.filter(unlock_request=OuterRef("pk")).order_by().values("unlock_request")
    history.update_untracked(
        requests,
        batch_count=Coalesce(Subquery(lines.annotate(n=Count("pk")).values("n")), 0),
        amount=Coalesce(Subquery(lines.annotate(amount=Sum("batch__total")).values("amount")), Decimal(0)),
    )


def _who_could(account: Account) -> str:
    admins = list(account.contacts.confirmed_admins().values_list("name", flat=True)[:5])
    if not admins:
        return "The account has no confirmed Admin on file yet; add one, and have a colleague confirm the address."
    return f"Ask {' or '.join(admins)}, or have one of them join the call."


@staff_verb("unlocks.open_request")
@once(events.Advised, request_of)
@transaction.atomic
def record_advice(unlock_request: UnlockRequest, *, advice: str, by: Actor) -> UnlockRequest:
    """Record what the customer chose when offered the safer route. Entering the items by hand closes the case."""
    unlock_request = locked(unlock_request)
    if unlock_request.status not in (UnlockRequest.Status.OPEN, UnlockRequest.Status.AWAITING_CONSENT):
        raise Refused.because(Refusal.ALREADY_RECORDED, names=unlock_request.get_advice_display() or "past that step")
    if unlock_request.advice == advice:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=unlock_request.get_advice_display())
    unlock_request.advice, unlock_request.advised_at = advice, by.act.at
    history.save(unlock_request, by=by, why="Safer route offered")
    chain.append(events.Advised(advice=advice), by=by, unlock_request=unlock_request)
    if advice == UnlockRequest.Advice.MANUAL_ENTRY:
        end(
            unlock_request,
            resolution=UnlockRequest.Resolution.ENTERED_MANUALLY,
            by=by,
            why="Customer enters the items by hand",
        )
    return unlock_request


@staff_verb("unlocks.open_request")
@once(events.Assigned, request_of)
@transaction.atomic
def assign(unlock_request: UnlockRequest, *, to: User, by: Actor) -> UnlockRequest:
    """Hand a case to a member of staff who can work on it (take it, when that is oneself)."""
    unlock_request = locked(unlock_request)
    to = history.lock_row(User.objects, to.pk)  # as whoever deactivates them does
    if not to.has_perm("unlocks.open_request"):
        raise Refused.because(Refusal.NOT_AN_AGENT, name=to)
    if unlock_request.assignee_id == to.pk:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=f"assigned to {to}")
    unlock_request.assignee = to
    history.save(unlock_request, by=by, why="Assigned")
    assigned = events.Assigned(to=to.pk, name=to.get_username())
    chain.append(assigned, by=by, unlock_request=unlock_request)
    return unlock_request


@staff_verb("unlocks.open_request")
@once(events.Note, lambda entry: None)
@transaction.atomic
def add_note(unlock_request: UnlockRequest, *, text: str, by: Actor) -> None:
    """Put a note on the case's timeline; a closed case takes notes too."""
    unlock_request = UnlockRequest.objects.get(pk=unlock_request.pk)
    # It changes nothing of the case, and waits for nobody who does.
    chain.append_all([chain.Entry(events.Note(text=text), unlock_request.pk, unlock_request.account_id)], by=by)


@staff_verb("unlocks.open_request")
@once(events.Closed, request_of)
@transaction.atomic
def close_request(unlock_request: UnlockRequest, *, resolution: str, why: str, by: Actor) -> UnlockRequest:
    """Close a case; batches that were never unlocked leave it. Refused while one is unlocked."""
    unlock_request = locked(unlock_request)
    needed = _NEEDS_OUTCOME.get(UnlockRequest.Resolution(resolution))
    if resolution not in CLOSABLE_AS or (needed and not unlock_request.lines.filter(outcome=needed).exists()):
        names = str(UnlockRequest.Resolution(resolution).label).lower()
        raise Refused.because(Refusal.WRONG_RESOLUTION, names=names)
    return end(unlock_request, resolution=resolution, by=by, why=why)


def end(unlock_request: UnlockRequest, *, resolution: str, by: Actor, why: str) -> UnlockRequest:
    """Close a locked case, inside a verb."""
    unlocked = unlock_request.lines.filter(outcome__in=RequestedBatch.GRANTED)
    if names := list(unlocked.values_list("batch__number", flat=True)[:10]):
        raise Refused.because(Refusal.STILL_UNLOCKED, names=", ".join(names))
    itself = UnlockRequest.objects.filter(pk=unlock_request.pk)
    notices.tell_closed(itself, by=by)
    unlock_no_more(unlock_request, by=by, why=why)
    stages.clear(itself)
    unlock_request.status, unlock_request.resolution, unlock_request.closed_at = (
        UnlockRequest.Status.CLOSED,
        resolution,
        by.act.at,
    )
    history.save(unlock_request, by=by, why=why)
    chain.append_all(_entries_of_end(itself, by=by, why=why), by=by)
    return unlock_request


def _entries_of_end(closed: QuerySet[UnlockRequest], *, by: Actor, why: str) -> list[chain.Entry]:
    """Return what the ledger is told of cases that were just closed, and draw those that are to be reviewed."""
    ended = [chain.Entry(events.Closed.of(one, why=why), one.pk, one.account_id) for one in closed.order_by("pk")]
    return [*ended, *draw_reviews(closed, by=by)]


def unlock_no_more(unlock_request: UnlockRequest, *, by: Actor, why: str) -> None:
    """Let what waits leave a locked case, and no consent link of it work any more, inside a verb."""
    history.update(
        RequestedBatch.objects.filter(unlock_request=unlock_request, outcome=RequestedBatch.Outcome.WAITING),
        by=by,
        why=why,
        outcome=Value(RequestedBatch.Outcome.NOT_UNLOCKED.value),
    )
    ConsentLink.objects.filter(unlock_request=unlock_request, used_at=None, revoked_at=None).update(
        revoked_at=by.act.at
    )


def end_finished(of: QuerySet[Any], *, by: Actor) -> None:
    """Close those of some cases of which no batch is open any more, and some were unlocked, inside a verb.

    `of` is a queryset of their keys.
    """
    by, resolution = by.begin(), UnlockRequest.Resolution
    lines = RequestedBatch.objects.filter(unlock_request=OuterRef("pk")).order_by()
    withdrawn = Consent.objects.filter(unlock_request=OuterRef("pk"), withdrawal__isnull=False).order_by()
    finished = UnlockRequest.objects.filter(
        Exists(withdrawn) | Exists(lines.filter(outcome__in=RequestedBatch.LOCKED_AGAIN)),
        ~Exists(lines.filter(outcome__in=RequestedBatch.OPEN)),
        pk__in=of,
    ).exclude(status=UnlockRequest.Status.CLOSED)
    how = Case(
        When(Exists(withdrawn), then=Value(resolution.WITHDRAWN.value)),
        When(
            Exists(lines.filter(outcome=RequestedBatch.Outcome.RE_EXPORTED)), then=Value(resolution.RE_EXPORTED.value)
        ),
        default=Value(resolution.RELOCKED_UNUSED.value),
    )
    why = "The last of its batches is locked or exported"
    notices.tell_closed(finished, by=by)
    stages.clear(finished)
    history.update(finished, by=by, why=why, status=_CLOSED, resolution=how, closed_at=by.act.at)
    closed = UnlockRequest.objects.filter(pk__in=of, status=_CLOSED, closed_at=by.act.at)
    if entries := _entries_of_end(closed, by=by, why=why):
        chain.append_all(entries, by=by)


def refuse_once_unlocking(unlock_request: UnlockRequest) -> None:
    """Raise Refused when batches of a case are unlocked, or the product was asked to."""
    granted = unlock_request.lines.filter(outcome__in=RequestedBatch.GRANTED)
    if unlock_request.status == UnlockRequest.Status.UNLOCKED or granted.exists():
        raise Refused.because(Refusal.ALREADY_RECORDED, names="unlocked; open a new request for other batches")
