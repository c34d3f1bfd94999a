"""The colored tags: how a status, an outcome or a verdict looks, decided once."""

from django.db.models import Exists, OuterRef, Subquery
from django.utils.html import format_html

from ..models import Batch, Consent, RequestedBatch, UnlockRequest
from ..rules import Refusal

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


def tag(tone, text):
    """Return a colored tag; `tone` is good, wait, bad, info or ''."""
    return format_html('<span class="tag {}">{}</span>', tone, text)


def verdict(refusal):
    """Return the tone and the words for a verdict: what a colleague would say when asked "can it be unlocked?"."""
    if not refusal:
        return "good", "Ready"
    if refusal == Refusal.ALREADY_UNLOCKED:
        return "info", "Unlocked"
    if refusal == Refusal.OWN_RECORDING:
        return "wait", "Not by you"
    return ("wait", "Not yet") if refusal in NOT_YET else ("bad", "Refused")


# Shown wherever a consent is that staff recorded by phone: it is lower-assurance.
RECORDED_BY_PHONE = tag("wait", "Taken down by staff")


def how_consented(unlock_request):
    """Return, as an expression, how the latest answer in the request with this key was given: a `Consent.How`."""
    return Subquery(Consent.objects.filter(unlock_request=unlock_request).order_by("-pk").values("how")[:1])


def with_recorded_by_phone(batches):
    """Annotate a Batch queryset with `recorded_by_phone`: is its line in an open request under such a consent?"""
    lines = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome__in=RequestedBatch.OPEN)
    return batches.annotate(recorded_by_phone=Exists(lines.filter(consented__consent__how=Consent.How.PHONE)))
