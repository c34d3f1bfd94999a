"""What color and words a status, an outcome and a verdict have, decided once."""

from django.db.models import Exists, OuterRef, Subquery

from ..models import Batch, Consent, Import, Instruction, RequestedBatch, UnlockRequest
from ..rules import BY_ANOTHER_PERSON, Refusal
from ..stages import UNDER_WAY

Status, Outcome = UnlockRequest.Status, RequestedBatch.Outcome

REQUEST_TONES = {
    Status.OPEN: "info",
    Status.AWAITING_CONSENT: "wait",
    Status.CONSENTED: "good",
    Status.UNLOCKED: "good",
    Status.CLOSED: "",
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
    Outcome.WAITING: "",
    Outcome.UNLOCKING: "info",
    Outcome.UNLOCKED: "good",
    Outcome.RELOCKING: "info",
    Outcome.RE_EXPORTED: "good",
    Outcome.RELOCKED: "info",
    Outcome.REFUSED: "bad",
    Outcome.NOT_UNLOCKED: "",
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
IMPORT_TONES = {
    Import.State.STAGING: "info",
    Import.State.READY: "wait",
    Import.State.APPLYING: "info",
    Import.State.DONE: "good",
    Import.State.DISCARDED: "",
    Import.State.FAILED: "bad",
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


def with_what_became_of_it(requests):
    """Annotate an UnlockRequest queryset with what `standing` reads."""
    lines = RequestedBatch.objects.filter(unlock_request=OuterRef("pk")).order_by("-outcome")
    return requests.annotate(
        under_way=Subquery(lines.filter(outcome__in=UNDER_WAY).values("outcome")[:1]),
        any_unlocked=Exists(lines.filter(outcome=Outcome.UNLOCKED)),
        any_refused=Exists(lines.filter(outcome=Outcome.REFUSED)),
    )


def stands(unlock_request, *, under_way, any_unlocked, any_refused):
    """List the tones and words for where a request stands: it is called unlocked only while a batch of it is.

    `under_way` is unlocking, relocking or None: what the product is at.
    """
    status = unlock_request.status
    if status == Status.CLOSED:
        return [(REQUEST_TONES[status], unlock_request.get_resolution_display())]
    tags = [(REQUEST_TONES[status], unlock_request.get_status_display())]
    if status == Status.UNLOCKED and not any_unlocked:
        tags = [] if under_way else [("", "No longer unlocked")]
    if under_way:
        tags.append((OUTCOME_TONES[under_way], Outcome(under_way).label))
    if any_refused:
        tags.append((OUTCOME_TONES[Outcome.REFUSED], Outcome.REFUSED.label))
    return tags


def standing(row):
    """List the same for a row that `with_what_became_of_it` annotated."""
    return stands(row, under_way=row.under_way, any_unlocked=row.any_unlocked, any_refused=row.any_refused)


def in_words(row):
    """Write the same without tones: Customer agreed, unlocking."""
    return ", ".join(words for _, words in standing(row)).capitalize()


def with_recorded_by_phone(batches):
    """Annotate a Batch queryset with `recorded_by_phone`: is its line in an open request under such a consent?"""
    lines = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome__in=RequestedBatch.OPEN)
    return batches.annotate(recorded_by_phone=Exists(lines.filter(consented__consent__how=Consent.How.PHONE)))
