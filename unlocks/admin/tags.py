"""What color and words a status, an outcome and a verdict have, decided once."""

from django.db.models import Exists, OuterRef, Subquery

from ..models import Batch, Consent, RequestedBatch, UnlockRequest
from ..rules import BY_ANOTHER_PERSON, Refusal

REQUEST_TONES = {
    UnlockRequest.Status.OPEN: "info",
    UnlockRequest.Status.AWAITING_CONSENT: "wait",
    UnlockRequest.Status.CONSENTED: "good",
    UnlockRequest.Status.UNLOCKED: "good",
    UnlockRequest.Status.CLOSED: "",
}
BATCH_TONES = {
    Batch.Status.PENDING: "",
    Batch.Status.POSTED: "",
    Batch.Status.EXPORTED: "info",
    Batch.Status.BYPASSED: "wait",
    Batch.Status.UNLOCKED: "good",
}
OUTCOME_TONES = {
    RequestedBatch.Outcome.WAITING: "",
    RequestedBatch.Outcome.UNLOCKED: "good",
    RequestedBatch.Outcome.RE_EXPORTED: "good",
    RequestedBatch.Outcome.RELOCKED: "info",
    RequestedBatch.Outcome.NOT_UNLOCKED: "",
}
# Nothing is wrong with these: they turn into a yes in the course of the work.
NOT_YET = {Refusal.NOT_REQUESTED, Refusal.NOT_ASKED, Refusal.AWAITING_CUSTOMER}


def verdict(refusal):
    """Return the tone and the words that answer "Can it be unlocked?"."""
    if not refusal:
        return "good", "Yes"
    if refusal == Refusal.ALREADY_UNLOCKED:
        return "info", "Unlocked"
    if refusal in BY_ANOTHER_PERSON:
        return "wait", "Someone else must unlock"
    return ("wait", "Not yet") if refusal in NOT_YET else ("bad", "No")


def how_consented(unlock_request):
    """Return, as an expression, how the latest answer in the request with this key was given: a `Consent.How`."""
    return Subquery(Consent.objects.filter(unlock_request=unlock_request).order_by("-pk").values("how")[:1])


def with_recorded_by_phone(batches):
    """Annotate a Batch queryset with `recorded_by_phone`: is its line in an open request under such a consent?"""
    lines = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome__in=RequestedBatch.OPEN)
    return batches.annotate(recorded_by_phone=Exists(lines.filter(consented__consent__how=Consent.How.PHONE)))
