"""The pages on which the customer decides. No login: the link in the mail opens them. Only a POST writes."""

from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from .. import operations, pins
from ..actors import Actor
from ..digest import sha256
from ..models import Consent, RequestedBatch
from ..rules import Refusal
from ..texts import wording
from ..texts.formats import time_of_day
from .access import LINK_COOKIE, RECEIPT_COOKIE, for_customers, keep, keep_token, kept
from .forms import DecisionForm, DeclineForm, seal, unseal

CHANGED = Refusal.CHANGED_WHILE_READING.label
TOO_OLD = (
    "Your answers count for 30 minutes and could not be used any more, so nothing was recorded. "
    "Please check them, and type the account PIN again."
)
PIN_WRONG = "This PIN is not right. Check it and type it again; after several wrong tries it is locked for a while."


@for_customers()
@require_safe
def consent_link(request, token):
    """Take the token out of the address and into a cookie."""
    return keep_token(token, LINK_COOKIE, "consent") or _no_link(request)


@for_customers()
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("pin")
def consent(request):
    """Show the form, or take one step of the decision."""
    token = kept(request, LINK_COOKIE)
    link = operations.link_for(token) if token else None
    if link is None:
        return _no_link(request)
    if operations.link_state(link) != "live":
        return _no_longer(request, link)
    if request.method == "POST":
        step = STEPS.get(request.POST.get("action"), _again)
        if link.first_opened_at is None and step is not _open:
            step = _again
        try:
            return step(request, link)
        except operations.Refused as refused:
            return _refused(request, link, refused)
    if link.first_opened_at is None:
        return render(request, "unlocks/start.html", {"link": link})
    return _form(request, link)


# The steps: what each button of the form does.


def _open(request, link):
    operations.open_consent_link(link, by=_customer(request, link))
    return redirect("consent")


def _check(request, link):
    """Judge what was typed, the PIN last: a try is not spent on a form that has to be mended anyway."""
    text = operations.shown_text(link)
    form = DecisionForm(request.POST, link=link)
    if not _shown(request, text):
        return _form(request, link, DecisionForm(link=link, initial=_typed(request)), notice=CHANGED)
    if form.is_valid():
        try:
            operations.verify_customer_pin(link, pin=form.cleaned_data["pin"], by=_customer(request, link))
        except operations.Refused as refused:
            if refused.code not in (Refusal.PIN_WRONG, Refusal.PIN_LOCKED):
                raise
            form.add_error("pin", _pin_refusal(link.unlock_request.account))
    if not form.is_valid():
        return _form(request, link, form)
    answers = {name: form.cleaned_data[name] for name in ("name", "role")}
    context = _page(link, text) | answers | {"answers": seal(link, shown=sha256(text), **answers)}
    return render(request, "unlocks/check.html", context)


def _change(request, link):
    """Go back to the form with name and role as they were; the PIN and the ticks are given anew."""
    answers = unseal(request.POST.get("answers", ""), link, however_old=True) or _typed(request)
    return _form(request, link, DecisionForm(link=link, initial=answers))


def _agree(request, link):
    answers = unseal(request.POST.get("answers", ""), link)
    if answers is None or "name" not in answers:
        older = unseal(request.POST.get("answers", ""), link, however_old=True)
        return _form(request, link, DecisionForm(link=link, initial=older or {}), notice=TOO_OLD)
    text = operations.shown_text(link)
    if not constant_time_compare(sha256(text), answers["shown"]):
        return _form(request, link, DecisionForm(link=link, initial=answers), notice=CHANGED)
    given, _ = operations.give_consent(
        link, name=answers["name"], role=answers["role"], shown=text, by=_customer(request, link)
    )
    return _recorded(given)


def _decline(request, link):
    """Ask once more, so that a slip of the hand declines nothing."""
    text = operations.shown_text(link)
    if not _shown(request, text):
        return _form(request, link, DecisionForm(link=link, initial=_typed(request)), notice=CHANGED)
    return _decline_page(request, link, DeclineForm(link=link, initial=_typed(request)), text)


def _confirm_decline(request, link):
    text = operations.shown_text(link)
    answers = unseal(request.POST.get("answers", ""), link)
    if answers is None or not constant_time_compare(sha256(text), answers["shown"]):
        notice = TOO_OLD if answers is None else CHANGED
        return _form(request, link, DecisionForm(link=link, initial=_typed(request)), notice=notice)
    form = DeclineForm(request.POST, link=link)
    if not form.is_valid():
        return _decline_page(request, link, form, text)
    declined, _ = operations.decline_consent(link, **form.cleaned_data, shown=text, by=_customer(request, link))
    return _recorded(declined)


def _again(request, link):
    return redirect("consent")


STEPS = {
    "open": _open,
    "check": _check,
    "change": _change,
    "agree": _agree,
    "decline": _decline,
    "confirm_decline": _confirm_decline,
}


# The pages.


def _form(request, link, form=None, notice=""):
    context = _page(link, operations.shown_text(link)) | {"form": form or DecisionForm(link=link), "notice": notice}
    return render(request, "unlocks/form.html", context)


def _decline_page(request, link, form, text):
    context = _page(link, text) | {"form": form, "answers": seal(link, shown=sha256(text))}
    return render(request, "unlocks/decline.html", context)


def _page(link, text):
    """Return what every page of the form needs; `batches` are those that `text` names, in its order."""
    waiting = RequestedBatch.objects.filter(unlock_request=link.unlock_request, outcome=RequestedBatch.Outcome.WAITING)
    return page_of(link, [line.batch for line in waiting.select_related("batch").order_by("batch__number")], text)


def page_of(link, batches, text):
    """Return what every page of the form needs of a link and its batches, whether in the database or made up."""
    total, items = sum(batch.total for batch in batches), sum(batch.item_count for batch in batches)
    return {
        "link": link,
        "case": link.unlock_request,
        "account": link.unlock_request.account,
        "batches": batches,
        "total": total,
        "items": items,
        "summary": wording.batches_summary(len(batches), items, total),
        "wording": wording,
        "asked": wording.asked(link.unlock_request.account),
        "terms_heading": wording.terms_heading(link.terms),
        "terms_text": wording.terms_text(link.terms, link.unlock_request.account),
        "authorized": wording.authorized(link.unlock_request.account),
        "agree": wording.agree(link.terms),
        "text": text,
        "shown": sha256(text),
    }


def _recorded(recorded, query=""):
    response = redirect(reverse("consent_receipt") + query)
    keep(response, RECEIPT_COOKIE, recorded.pk, "consent")
    return response


def _no_link(request):
    return render(request, "unlocks/no_link.html", status=404)


def _no_longer(request, link):
    """Show the receipt to whoever gave the answers; say to anybody else that the link is of no more use."""
    state = operations.link_state(link)
    if state == "used":
        recorded = link.consent
        if _answered(request, link, recorded) or kept(request, RECEIPT_COOKIE) == str(recorded.pk):
            return _recorded(recorded, "?again")
    return render(request, "unlocks/no_longer.html", {"state": state}, status=410)


def _answered(request, link, recorded):
    """Say whether the answers that came back are of the recorded kind: agreeing took the PIN, declining only the link.

    Sealed with a name: after the PIN was verified. Sealed without one: for declining.
    """
    answers = unseal(request.POST.get("answers", ""), link)
    return answers is not None and ("name" in answers) == (recorded.decision == Consent.Decision.AGREED)


def _refused(request, link, refused):
    """Say why a verb refused; a link that ended meanwhile gets its own page."""
    link = operations.link_for(kept(request, LINK_COOKIE))
    if refused.code in (Refusal.LINK_DEAD, Refusal.CLOSED):
        return _no_longer(request, link)
    answers = unseal(request.POST.get("answers", ""), link, however_old=True) or _typed(request)
    notice = TOO_OLD if refused.code == Refusal.PIN_STALE else str(refused)
    return _form(request, link, DecisionForm(link=link, initial=answers), notice=notice)


# What the browser sent.


def _shown(request, text):
    """Say whether the form that was sent stood under this very text (and so is of this link)."""
    return constant_time_compare(request.POST.get("shown", ""), sha256(text))


def _typed(request):
    return {name: request.POST.get(name, "")[:200] for name in ("name", "role")}


def _customer(request, link):
    return Actor.customer(link.sent_to, request)


def _pin_refusal(account):
    """Say why the PIN was refused: the same whatever was wrong with it, except when nothing can be tried at all."""
    account.refresh_from_db()
    if account.pin_failures >= pins.LAST_TRY:
        return "The PIN is locked after too many wrong tries. Contact Support: your account needs a new PIN."
    if account.pin_locked_until and account.pin_locked_until > timezone.now():
        until = time_of_day(account.pin_locked_until)
        return f"The PIN is locked after too many wrong tries. You can try again from {until}, or contact Support."
    return PIN_WRONG
