"""What color and words a status, an outcome and a verdict have, decided once."""

from django.db.models import Exists, OuterRef, Subquery

from ..models import Batch, Consent, Instruction, RequestedBatch, UnlockRequest
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
    Batch.Status.UNLOCKING: "info",
    Batch.Status.UNLOCKED: "good",
    Batch.Status.RELOCKING: "info",
}
OUTCOME_TONES = {
    RequestedBatch.Outcome.WAITING: "",
    RequestedBatch.Outcome.UNLOCKING: "info",
    RequestedBatch.Outcome.UNLOCKED: "good",
    RequestedBatch.Outcome.RELOCKING: "info",
    RequestedBatch.Outcome.RE_EXPORTED: "good",
    RequestedBatch.Outcome.RELOCKED: "info",
    RequestedBatch.Outcome.REFUSED: "bad",
    RequestedBatch.Outcome.NOT_UNLOCKED: "",
}
INSTRUCTION_TONES = {
    Instruction.State.QUEUED: "wait",
    Instruction.State.SENT: "info",
    Instruction.State.UNKNOWN: "wait",
    Instruction.State.DONE: "good",
    Instruction.State.REFUSED: "bad",
    Instruction.State.CANCELED: "",
    Instruction.State.GIVEN_UP: "bad",
}
# Nothing is wrong with these: they turn into a yes in the course of the work.
NOT_YET = {Refusal.NOT_REQUESTED, Refusal.NOT_ASKED, Refusal.AWAITING_CUSTOMER}
# These say where the batch is on its way.
ON_ITS_WAY = {Refusal.UNLOCKING: "Unlocking", Refusal.ALREADY_UNLOCKED: "Unlocked", Refusal.RELOCKING: "Relocking"}


def verdict(refusal):
    """Return the tone and the words that answer "Can it be unlocked?"."""
    if not refusal:
        return "good", "Yes"
    if refusal in ON_ITS_WAY:
        return "info", ON_ITS_WAY[refusal]
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
