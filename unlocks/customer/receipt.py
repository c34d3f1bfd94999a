"""The customer's receipt: what was recorded and came of it, taking the consent back, and its certificate."""

import json
from collections import Counter

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..certificates import batch_list, words
from ..models import Certificate, Consent, LedgerEntry, RequestedBatch, UnlockRequest
from ..texts import wording
from ..texts.formats import counted
from .access import RECEIPT_COOKIE, for_customers, keep_token, place, receipt_here, sent_elsewhere
from .forms import WithdrawForm

# How a closed case ended, in the words that its customer reads.
ENDED = {
    UnlockRequest.Resolution.RE_EXPORTED: "batches were exported",
    UnlockRequest.Resolution.ENTERED_MANUALLY: "the items are entered by hand",
    UnlockRequest.Resolution.RELOCKED_UNUSED: "the batches were locked again unused",
    UnlockRequest.Resolution.DECLINED: "you did not agree",
    UnlockRequest.Resolution.WITHDRAWN: "the consent was taken back",
    UnlockRequest.Resolution.CANCELED: "it was cancelled",
    UnlockRequest.Resolution.EXPIRED: "it ran out",
    UnlockRequest.Resolution.NOT_ELIGIBLE: "the batches could not be unlocked",
}
# What became of a batch under a consent.
BECAME = {
    RequestedBatch.Outcome.WAITING: "Not unlocked",
    RequestedBatch.Outcome.UNLOCKED: "Unlocked",
    RequestedBatch.Outcome.RE_EXPORTED: "Unlocked and exported",
    RequestedBatch.Outcome.RELOCKED: "Unlocked, then locked again",
    RequestedBatch.Outcome.NOT_UNLOCKED: "Never unlocked",
}
LATER = "Under a later consent"
DONE = {
    LedgerEntry.Kind.UNLOCKED: "Support unlocked {batches}",
    LedgerEntry.Kind.RELOCKED: "Locked again: {batches}",
    LedgerEntry.Kind.RE_EXPORTED: "Exported: {batches}",
}
CASE_MOVES = "The case is being worked on at this very moment, so no certificate was issued. Please try again."


@for_customers()
@require_safe
def receipt(request):
    """Show what was recorded to the browser that it was recorded from."""
    return _receipt(request, receipt_here(request))


@for_customers(staff_may_look=True)
@require_safe
def receipt_link(request, token):
    """Take the token of a mailed receipt out of the address and into a cookie."""
    return keep_token(token, RECEIPT_COOKIE, "receipt") or _receipt(request, None)


@for_customers(staff_may_look=True)
@require_safe
def mailed_receipt(request):
    """Show a receipt to whoever has the link that was mailed with it."""
    return _receipt(request, receipt_here(request))


@for_customers()
@require_http_methods(["GET", "HEAD", "POST"])
def withdraw(request):
    """Say what taking the consent back means now; a POST does it."""
    consent = receipt_here(request)
    if stopped := _stopped(request, consent):
        return stopped
    form = WithdrawForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            operations.withdraw_own_consent(consent, by=_customer(request, consent), **form.cleaned_data)
        except operations.Refused:
            return _not_taken_back(request, receipt_here(request))
        return redirect(_pages(request)["receipt"])
    if _standing(consent):
        return render(request, "unlocks/withdraw.html", _context(request, consent) | {"form": form})
    return _not_taken_back(request, consent)


@for_customers()
@require_POST
def get_certificate(request):
    """Issue a certificate of the case as it stands, unless the newest one tells all there is."""
    consent = receipt_here(request)
    if stopped := _stopped(request, consent):
        return stopped
    try:
        issued = operations.issue_certificate(consent, by=_customer(request, consent))
    except operations.Refused:
        return _receipt(request, consent, notice=CASE_MOVES, status=409)
    return redirect(_pages(request)["certificate"] + f"{issued.ordinal}/")


@for_customers(staff_may_look=True)
@require_safe
def certificate(request, ordinal):
    """Show a certificate that was issued to whoever holds the receipt of its consent."""
    issued = _issued(request, ordinal)
    if issued is None:
        return _receipt(request, None)
    facts, pages = json.loads(issued.content)["certificate"], _pages(request)
    file = f"{pages['certificate']}{ordinal}/{issued.number}"
    context = {
        "facts": facts,
        "paper": words.paper(facts),
        "pdf_url": f"{file}.pdf",
        "json_url": f"{file}.json",
        "csv_url": f"{pages['certificate']}{ordinal}/{batch_list.file_name(facts)}",
        "back": pages["receipt"],
    }
    return render(request, "unlocks/certificate.html", context)


@for_customers(staff_may_look=True)
@require_safe
def certificate_file(request, ordinal, name):
    """Hand out the PDF or the JSON of a certificate, byte for byte as it was issued, or its batches as CSV."""
    issued = _issued(request, ordinal)
    if issued is None:
        return _receipt(request, None)
    facts = json.loads(issued.content)["certificate"]
    files = {
        f"{issued.number}.pdf": ("application/pdf", issued.pdf),
        f"{issued.number}.json": ("application/json", issued.content.encode()),
        batch_list.file_name(facts): ("text/csv; charset=utf-8", batch_list.content(facts)),
    }
    if name not in files:
        raise Http404
    kind, content = files[name]
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(bytes(content), content_type=kind, headers=headers)


def _customer(request, consent):
    return Actor.customer(consent.contact, request, through="Receipt")


def _issued(request, ordinal):
    consent = receipt_here(request)
    return consent and get_object_or_404(
        Certificate.objects.select_related("consent"), consent=consent, ordinal=ordinal
    )


def _receipt(request, consent, *, notice="", status=200):
    if consent is None:
        return render(request, "unlocks/no_receipt.html", status=404)
    context = _context(request, consent) | {"again": "again" in request.GET, "notice": notice}
    return render(request, "unlocks/receipt.html", context, status=status)


def _stopped(request, consent):
    """Say why nothing can be done on a receipt: none is here, another one is now, or it went to a former Admin."""
    if consent is None:
        return _receipt(request, None)
    if request.method == "POST" and request.POST.get("receipt") != consent.reference:
        return render(request, "unlocks/other_receipt.html", _context(request, consent), status=409)
    if sent_elsewhere(request, consent):
        return render(request, "unlocks/only_to_read.html", _context(request, consent), status=403)
    return None


def _not_taken_back(request, consent):
    """Say why there is nothing to take back; to a second click, that the first one did it."""
    withdrawn = getattr(consent, "withdrawal", None)
    if withdrawn and request.method == "POST":
        return redirect(_pages(request)["receipt"] + "?again")
    return render(request, "unlocks/not_taken_back.html", _context(request, consent), status=409)


def _standing(consent):
    """Say whether there is something to take back: agreed, and batches wait or are unlocked. A closed case has none."""
    open_lines = consent.unlock_request.lines.filter(outcome__in=RequestedBatch.OPEN)
    return consent.decision == Consent.Decision.AGREED and open_lines.exists()


def _context(request, consent):
    """Return what the pages of a receipt tell, in a number of queries that does not grow with the batches."""
    case, now, standing = consent.unlock_request, timezone.now(), _standing(consent)
    batches = _batches(consent)
    counted = Counter(batch["outcome"] for batch in batches)
    others = case.consents.filter(decision=Consent.Decision.AGREED, withdrawal=None).exclude(pk=consent.pk)
    return {
        "consent": consent,
        "wording": wording,
        "case": case,
        "account": case.account,
        "pages": _pages(request),
        "withdrawal": getattr(consent, "withdrawal", None),
        "standing": standing,
        "sent_elsewhere": sent_elsewhere(request, consent),
        "over": consent.valid_until is not None and consent.valid_until <= now,
        "ended": ENDED.get(case.resolution),
        "others": list(others.order_by("pk")) if standing else [],
        "batches": batches,
        "number_of": {outcome.value: _batches_counted(counted[outcome]) for outcome in BECAME if counted[outcome]},
        "unlocked_until": min((batch["until"] for batch in batches if batch["until"]), default=None),
        "since": _since(consent) if any(batch["outcome"] for batch in batches) else [],
        "certificates": consent.certificates.defer("content", "pdf"),
    }


def _batches(consent):
    """Return each batch of a consent as it was when agreed to, and what became of it under this consent."""
    covered = consent.batches.select_related("requested_batch", "batch").order_by("batch__number")
    return [_became(covers, covers.requested_batch, covers.batch) for covers in covered]


def _became(covers, line, batch):
    outcome = line.outcome if line.consented_id == covers.pk else None
    return {
        "number": covers.number or batch.number,
        "name": covers.name,
        "item_count": covers.item_count,
        "total": covers.total,
        "outcome": outcome,
        "became": BECAME.get(outcome, LATER),
        "until": batch.unlocked_until if outcome == RequestedBatch.Outcome.UNLOCKED else None,
    }


def _since(consent):
    """Return what was done in the case since a consent: when, and in words for the customer."""
    events = consent.unlock_request.entries.filter(kind__in=DONE, at__gte=consent.given_at).order_by("sequence")
    return [(event.at, DONE[event.kind].format(batches=_batches_counted(event.facts["batches"]))) for event in events]


def _batches_counted(number):
    return counted(number, "batch", "batches")


def _pages(request):
    """Return the addresses of a receipt's pages, in the place where this browser keeps its cookie."""
    here = reverse("receipt" if place(request) == "receipt" else "consent_receipt")
    return {"receipt": here, "withdraw": f"{here}withdraw/", "certificate": f"{here}certificate/"}
