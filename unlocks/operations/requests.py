"""Opening, advising on, assigning and closing a case."""

from django.db import transaction
from django.db.models import Value
from django.utils import timezone

from .. import history, ledger
from ..models import Account, Batch, CaseEvent, ConsentLink, RequestedBatch, UnlockRequest
from ..rules import Refusal, eligible, sentence
from .verbs import Refused, locked, staff_verb

# How a member of staff may close a case; declined and withdrawn are the customer's to say.
CLOSABLE_AS = [
    UnlockRequest.Resolution.RE_EXPORTED,
    UnlockRequest.Resolution.ENTERED_MANUALLY,
    UnlockRequest.Resolution.RELOCKED_UNUSED,
    UnlockRequest.Resolution.CANCELLED,
    UnlockRequest.Resolution.EXPIRED,
    UnlockRequest.Resolution.NOT_ELIGIBLE,
]
_NEEDS_OUTCOME = {
    UnlockRequest.Resolution.RE_EXPORTED: RequestedBatch.Outcome.RE_EXPORTED,
    UnlockRequest.Resolution.RELOCKED_UNUSED: RequestedBatch.Outcome.RELOCKED,
}


@staff_verb("unlocks.open_request")
@transaction.atomic
def open_request(*, account, requester, channel, bypass_reason, reason, batches, by):
    """Open a case for the batches of a queryset and return it, assigned to whoever opened it.

    Raises Refused with one entry for each batch that can't be unlocked.
    """
    at = timezone.now()
    if requester.account_id != account.pk or not requester.is_admin:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=requester.name, admins=_who_could(account))
    if not Account.objects.filter(pk=account.pk, active=True).exists():
        raise Refused.because(Refusal.ACCOUNT_INACTIVE)
    chosen = Batch.objects.filter(pk__in=batches.order_by().values("pk"))
    history.lock(chosen)
    foreign = list(chosen.exclude(account=account).values_list("number", flat=True)[:20])
    if foreign:
        raise Refused.because(Refusal.OTHER_ACCOUNT, names=", ".join(foreign))
    refused = eligible(chosen).exclude(obstacle="").order_by("number")[:1000]
    refusals = [(Refusal(batch.obstacle), f"{batch.number}: {sentence(batch.obstacle, batch)}") for batch in refused]
    if refusals:
        raise Refused(*refusals)
    request = history.save(
        UnlockRequest(
            account=account,
            requester=requester,
            channel=channel,
            bypass_reason=bypass_reason,
            reason=reason,
            assignee=by.user,
            opened_by=by.user,
            opened_at=at,
        ),
        by=by,
        why="Opened",
    )
    count = history.insert(
        RequestedBatch,
        chosen,
        by=by,
        why="Opened",
        at=at,
        request_id=request.pk,
        batch_id=history.F("pk"),
        outcome=RequestedBatch.Outcome.WAITING.value,
        consented_id=None,
    )
    if not count:
        raise Refused.because(Refusal.NO_BATCHES)
    ledger.note(
        CaseEvent.Kind.OPENED,
        request=request,
        by=by,
        at=at,
        batches=count,
        requester=requester.pk,
        channel=channel,
        bypass_reason=bypass_reason,
        reason=reason,
    )
    return request


def _who_could(account):
    admins = list(account.contacts.filter(is_admin=True).values_list("name", flat=True)[:5])
    if not admins:
        return "The account has no Admin contact on file yet; add one first."
    return f"Ask {' or '.join(admins)}, or have one of them join the call."


@staff_verb("unlocks.open_request")
@transaction.atomic
def record_advice(request, *, advice, by):
    """Record what the customer chose when offered the safer route. Entering the items by hand closes the case."""
    request = locked(request)
    if request.status not in (UnlockRequest.Status.OPEN, UnlockRequest.Status.AWAITING_CONSENT):
        raise Refused.because(Refusal.ALREADY_RECORDED, names=request.get_advice_display() or "past that step")
    if request.advice == advice:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=request.get_advice_display())
    request.advice, request.advised_at = advice, timezone.now()
    history.save(request, by=by, why="Safer route offered")
    ledger.note(CaseEvent.Kind.ADVISED, request=request, by=by, advice=advice)
    if advice == UnlockRequest.Advice.MANUAL_ENTRY:
        end(
            request,
            resolution=UnlockRequest.Resolution.ENTERED_MANUALLY,
            by=by,
            why="Customer enters the items by hand",
        )
    return request


@staff_verb("unlocks.open_request")
@transaction.atomic
def assign(request, *, to, by):
    """Hand a case to a member of staff who can work on it (take it, when that is oneself)."""
    request = locked(request)
    if not to.has_perm("unlocks.open_request"):
        raise Refused.because(Refusal.NOT_AN_AGENT, name=to)
    if request.assignee_id == to.pk:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=f"assigned to {to}")
    request.assignee = to
    history.save(request, by=by, why="Assigned")
    ledger.note(CaseEvent.Kind.ASSIGNED, request=request, by=by, to=to.pk, name=to.get_username())
    return request


@staff_verb("unlocks.open_request")
@transaction.atomic
def add_note(request, *, text, by):
    """Put a note on the case's timeline; a closed case takes notes too."""
    request = UnlockRequest.objects.get(pk=request.pk)
    ledger.note(CaseEvent.Kind.NOTE, request=request, by=by, text=text)


@staff_verb("unlocks.open_request")
@transaction.atomic
def close_request(request, *, resolution, why, by):
    """Close a case; batches that were never unlocked leave it. Refused while one is unlocked."""
    request = locked(request)
    needed = _NEEDS_OUTCOME.get(resolution)
    if resolution not in CLOSABLE_AS or (needed and not request.lines.filter(outcome=needed).exists()):
        names = str(UnlockRequest.Resolution(resolution).label).lower()
        raise Refused.because(Refusal.WRONG_RESOLUTION, names=names)
    return end(request, resolution=resolution, by=by, why=why)


def end(request, *, resolution, by, why):
    """Close a locked case, inside a verb."""
    unlocked = request.lines.filter(outcome=RequestedBatch.Outcome.UNLOCKED)
    if names := list(unlocked.values_list("batch__number", flat=True)[:10]):
        raise Refused.because(Refusal.STILL_UNLOCKED, names=", ".join(names))
    at = timezone.now()
    history.update(
        RequestedBatch.objects.filter(request=request, outcome=RequestedBatch.Outcome.WAITING),
        by=by,
        why=why,
        at=at,
        outcome=Value(RequestedBatch.Outcome.NOT_UNLOCKED.value),
    )
    ConsentLink.objects.filter(request=request, used_at=None, revoked_at=None).update(revoked_at=at)
    request.status, request.resolution, request.closed_at = UnlockRequest.Status.CLOSED, resolution, at
    history.save(request, by=by, why=why)
    ledger.note(CaseEvent.Kind.CLOSED, request=request, by=by, resolution=resolution, why=why)
    return request
