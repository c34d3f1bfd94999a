"""The customer's receipt: what was recorded and done since, the withdrawal of a consent, and its certificate."""

from collections import Counter
from types import SimpleNamespace

from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..ledger import chain, emails, events
from ..models import Certificate, Consent, Instruction, RequestedBatch
from ..rules import Refusal
from ..texts import batches as batch_lists
from ..texts import wording
from ..texts.formats import counted, moment, time_left
from . import certificates
from .access import (
    RECEIPT_COOKIE,
    consent_of_receipt,
    cookie_scope,
    customer_page,
    outdated_address,
    redirect_with_token,
)
from .forms import WithdrawForm

# What happened to a batch under a consent.
OUTCOMES = {
    RequestedBatch.Outcome.WAITING: "Not unlocked",
    RequestedBatch.Outcome.UNLOCKING: "Being unlocked",
    RequestedBatch.Outcome.UNLOCKED: "Unlocked",
    RequestedBatch.Outcome.RELOCKING: "Being relocked",
    RequestedBatch.Outcome.RE_EXPORTED: "Exported",
    RequestedBatch.Outcome.RELOCKED: "Relocked",
    RequestedBatch.Outcome.REFUSED: "Could not be unlocked",
    RequestedBatch.Outcome.NOT_UNLOCKED: "Never unlocked",
}
_ANSWERS = (events.Unlocked, events.ProductRefused, events.Relocked)
UNDER_A_LATER_CONSENT = "Under a later consent"
UNLOCKED_TOO_LONG = "Unlocked, but its time is over"
NO_CERTIFICATE = "No certificate can be issued right now. Please contact Support."
BUSY = "Support is working on this request right now, so no certificate was issued. Please try again."


@customer_page()
@require_safe
def receipt(request):
    """Show the receipt to the browser in which the customer decided."""
    return _receipt(request, consent_of_receipt(request))


@customer_page(staff_may_view=True)
@require_safe
def receipt_link(request, token):
    """Move the token of an emailed receipt out of the address and into a cookie."""
    return redirect_with_token(token, RECEIPT_COOKIE, "receipt") or _receipt(request, None)


@customer_page(staff_may_view=True)
@require_safe
def emailed_receipt(request):
    """Show the receipt to a browser that followed its emailed link."""
    return _receipt(request, consent_of_receipt(request))


@customer_page(staff_may_view=True)
@require_safe
def batch_list(request):
    """Send the batches of a consent, and what happened to each, as a CSV file to the holder of its receipt."""
    consent = consent_of_receipt(request)
    if consent is None:
        return _receipt(request, None)
    rows = [SimpleNamespace(**batch) for batch in _batches(consent, timezone.now())]
    content = batch_lists.as_csv(rows, outcome_label="Now", reason="Why it could not be unlocked")
    return certificates.attachment(f"{consent.reference}-{batch_lists.FILE_NAME}", content, "text/csv; charset=utf-8")


@customer_page()
@require_http_methods(["GET", "HEAD", "POST"])
def withdraw(request):
    """Say what withdrawing the consent would do now; a POST withdraws it."""
    consent = consent_of_receipt(request)
    if refusal := _refusal(request, consent):
        return refusal
    form = WithdrawForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            operations.withdraw_own_consent(consent, by=_customer(request, consent), **form.cleaned_data)
        except operations.Refused:
            return _nothing_to_withdraw(request, consent_of_receipt(request))
        return redirect(_addresses(request)["receipt"])
    if _can_withdraw(consent):
        to_relock = consent.unlock_request.lines.filter(outcome__in=RequestedBatch.GRANTED).exists()
        context = _context(request, consent) | {"form": form, "to_relock": to_relock}
        return render(request, "unlocks/withdraw.html", context)
    return _nothing_to_withdraw(request, consent)


@customer_page()
@require_POST
def get_certificate(request):
    """Issue a certificate of the case as it is now, unless the newest one is up to date."""
    consent = consent_of_receipt(request)
    if refusal := _refusal(request, consent):
        return refusal
    try:
        issued = operations.issue_certificate(consent, by=_customer(request, consent))
    except operations.Refused as refused:
        notice = BUSY if refused.code == Refusal.BUSY else NO_CERTIFICATE
        return _receipt(request, consent, notice=notice, status=409)
    return redirect(_addresses(request)["certificate"] + f"{issued.ordinal}/")


@customer_page(staff_may_view=True)
@require_safe
def certificate(request, ordinal):
    """Show an issued certificate to the holder of its consent's receipt."""
    issued = _issued(request, ordinal)
    if issued is None:
        return _receipt(request, None)
    addresses = _addresses(request)
    address = f"{addresses['certificate']}{ordinal}/"
    return certificates.page(request, issued, address=address, back=addresses["receipt"])


@customer_page(staff_may_view=True)
@require_safe
def certificate_file(request, ordinal, name):
    """Send a file of an issued certificate to the holder of its consent's receipt."""
    issued = _issued(request, ordinal)
    return _receipt(request, None) if issued is None else certificates.file(issued, name)


def _customer(request, consent):
    return Actor.customer(consent.contact, request, through="Receipt")


def _issued(request, ordinal):
    consent = consent_of_receipt(request)
    return consent and get_object_or_404(
        Certificate.objects.select_related("consent"), consent=consent, ordinal=ordinal
    )


def _receipt(request, consent, *, notice="", status=200):
    if consent is None:
        return render(request, "unlocks/receipt_not_found.html", status=404)
    context = _context(request, consent) | {"again": "again" in request.GET, "notice": notice}
    return render(request, "unlocks/receipt.html", context, status=status)


def _refusal(request, consent):
    """Return the page that says why nothing can be done on a receipt, or None when something can.

    The browser has no receipt, or meanwhile opened a different one, or the receipt is read-only.
    """
    if consent is None:
        return _receipt(request, None)
    if request.method == "POST" and request.POST.get("receipt") != consent.reference:
        return render(request, "unlocks/different_receipt.html", _context(request, consent), status=409)
    if outdated_address(request, consent):
        return render(request, "unlocks/read_only_receipt.html", _context(request, consent), status=403)
    return None


def _nothing_to_withdraw(request, consent):
    """Say why there is nothing to withdraw; after a second click, that the first one did it."""
    withdrawn = getattr(consent, "withdrawal", None)
    if withdrawn and request.method == "POST":
        return redirect(_addresses(request)["receipt"] + "?again")
    return render(request, "unlocks/nothing_to_withdraw.html", _context(request, consent), status=409)


def _can_withdraw(consent):
    """Return whether the consent stands and its case has batches that are open; a closed case has none."""
    if consent.decision != Consent.Decision.AGREED or getattr(consent, "withdrawal", None):
        return False
    return consent.unlock_request.lines.filter(outcome__in=RequestedBatch.OPEN).exists()


def _context(request, consent):
    """Return the context of a receipt's pages, in a number of queries that does not grow with the batches."""
    case, can_withdraw = consent.unlock_request, _can_withdraw(consent)
    now = timezone.now()
    batches = _batches(consent, now)
    counts = Counter(batch["outcome"] for batch in batches)
    ends = [batch["until"] for batch in batches if batch["until"]]
    ahead, over = [end for end in ends if end > now], [end for end in ends if end <= now]
    relocking = [batch["was_until"] for batch in batches if batch["outcome"] == RequestedBatch.Outcome.RELOCKING]
    others = case.consents.filter(decision=Consent.Decision.AGREED, withdrawal=None).exclude(pk=consent.pk)
    return {
        "consent": consent,
        "wording": wording,
        "case": case,
        "account": case.account,
        "addresses": _addresses(request),
        "email": emails.of_receipt(consent),
        "withdrawal": getattr(consent, "withdrawal", None),
        "can_withdraw": can_withdraw,
        "outdated_address": outdated_address(request, consent),
        "expired": consent.valid_until is not None and consent.valid_until <= now,
        "resolution": wording.RESOLUTIONS.get(case.resolution),
        "other_consents": list(others.order_by("pk")) if can_withdraw else [],
        "batches": batches,
        "days": batch_lists.by_day(SimpleNamespace(**batch) for batch in batches),
        "few": len(batches) <= batch_lists.FEW,
        "counts": {
            outcome.value: counted(counts[outcome], "batch", "batches") for outcome in OUTCOMES if counts[outcome]
        },
        "in_time": ahead and counted(len(ahead), "batch", "batches"),
        "until": min(ahead, default=None),
        "left": time_left(min(ahead)) if ahead else "",
        "some_longer": len({moment(end) for end in ahead}) > 1,
        "over": over and counted(len(over), "batch", "batches"),
        "over_since": min(over, default=None),
        "relocking_over": min(relocking) if relocking and all(end and end <= now for end in relocking) else None,
        "later": counted(counts[None], "batch", "batches") if counts[None] else "",
        "events": _events(consent) if any(batch["outcome"] for batch in batches) else [],
        "certificates": consent.certificates.defer("content", "pdf"),
    }


def _batches(consent, now):
    """Return each batch of a consent as it was when agreed to, and what happened to it under this consent."""
    covered = list(consent.batches.select_related("requested_batch", "batch").order_by("batch__number"))
    lines = [consented.requested_batch for consented in covered]
    refused = any(line.outcome == RequestedBatch.Outcome.REFUSED for line in lines)
    reasons = _reasons(consent) if refused else {}
    return [_batch(one, line, one.batch, reasons.get(line.pk), now) for one, line in zip(covered, lines, strict=True)]


def _reasons(consent):
    """Return why the product refused to unlock batches of a case, by the keys of their lines."""
    refused = Instruction.objects.filter(
        line__unlock_request=consent.unlock_request_id,
        line__outcome=RequestedBatch.Outcome.REFUSED,
        state=Instruction.State.REFUSED,
    )
    return dict(refused.order_by("pk").values_list("line", "answer"))


def _batch(consented, line, batch, reason, now):
    outcome = line.outcome if line.consented_id == consented.pk else None
    until = batch.unlocked_until if outcome == RequestedBatch.Outcome.UNLOCKED else None
    return {
        "number": consented.number or batch.number,
        "name": consented.name,
        "item_count": consented.item_count,
        "total": consented.total,
        "posted_on": batch.posted_on,
        "bypassed_on": batch.bypassed_on,
        "outcome": outcome,
        "outcome_label": UNLOCKED_TOO_LONG if until and until <= now else OUTCOMES.get(outcome, UNDER_A_LATER_CONSENT),
        "reason": reason,
        "until": until,
        "was_until": batch.unlocked_until,
    }


def _events(consent):
    """Return what was done in the case since a consent: times, and sentences for the customer.

    The product may answer in many steps: what it did is added up.
    """
    entries = consent.unlock_request.entries.filter(at__gte=consent.given_at).order_by("sequence")
    alike = {}
    for entry in entries:
        event = chain.event_of(entry)
        if isinstance(event, events.Done):
            own = None if isinstance(event, _ANSWERS) else entry.pk
            alike.setdefault((type(event), own), []).append((entry.at, event.batches))
    return [
        (_from_to(steps), kind.on_receipt.format(batches=counted(sum(n for _, n in steps), "batch", "batches")))
        for (kind, _), steps in alike.items()
    ]


def _from_to(steps):
    first, last = moment(steps[0][0]), moment(steps[-1][0])
    return first if first == last else f"{first} to {last}"


def _addresses(request):
    """Return the addresses of a receipt's pages under the one that this browser's cookie belongs to."""
    base = reverse("receipt" if cookie_scope(request) == "receipt" else "consent_receipt")
    return {"receipt": base, "withdraw": f"{base}withdraw/", "certificate": f"{base}certificate/"}
