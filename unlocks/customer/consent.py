"""The pages on which the customer decides. The emailed link opens them; only a POST writes."""

from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from .. import operations, pins
from ..actors import Actor
from ..digest import sha256
from ..ledger import emails
from ..models import Consent
from ..rules import Refusal
from ..texts import batches, wording
from ..texts.formats import time_of_day
from ..texts.shown import asked_for, shown_lines, shown_text, with_content
from .access import (
    LINK_COOKIE,
    OPENING_COOKIE,
    RECEIPT_COOKIE,
    customer_page,
    get_cookie,
    redirect_with_token,
    set_cookie,
    turn_to,
)
from .certificates import attachment
from .forms import DecisionForm, DeclineForm, left_out_of, read_answers, sign_answers

CHANGED = Refusal.CHANGED_WHILE_READING.label
EXPIRED = (
    "Your answers were valid for 30 minutes and have expired, so nothing was recorded. "
    "Please check them, and enter the account PIN again."
)
PIN_WRONG = (
    "This PIN is not correct. Check it and enter it again. After several wrong attempts, it is locked for a while."
)


@customer_page()
@require_safe
def consent_link(request, token):
    """Move the token out of the address and into a cookie."""
    return redirect_with_token(token, LINK_COOKIE, "consent") or _link_not_found(request)


@customer_page()
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("pin")
def consent(request):
    """Show the form, or take one step of the decision."""
    token = get_cookie(request, LINK_COOKIE)
    link = operations.link_for(token) if token else None
    if link is None:
        return _link_not_found(request)
    turn_to(link.unlock_request)
    if operations.link_state(link) != "live":
        return _link_ended(request, link)
    opened_here = _opening(request, link) is not None
    if request.method == "POST":
        step = STEPS.get(request.POST.get("action"), _reload)
        if not opened_here and step is not _open:
            step = _reload
        try:
            return step(request, link)
        except operations.Refused as refused:
            return _refused(request, link, refused)
    if not opened_here:
        return render(request, "unlocks/open_form.html", {"link": link})
    return _form(request, link)


@customer_page()
@require_safe
def consent_batches(request):
    """Send the list of the batches that the form asks about, to a browser that opened it."""
    token = get_cookie(request, LINK_COOKIE)
    link = operations.link_for(token) if token else None
    if link is None or operations.link_state(link) != "live" or _opening(request, link) is None:
        return redirect("consent")
    content = batches.as_csv(with_content(link.unlock_request))
    return attachment(f"{link.unlock_request}-{batches.FILE_NAME}", content, "text/csv; charset=utf-8")


# The steps: one for each button.


def _open(request, link):
    opening = operations.open_consent_link(link, by=_customer(request, link))
    response = redirect("consent")
    set_cookie(response, OPENING_COOKIE, f"{link.pk}-{opening.pk if opening else 0}", "consent")
    return response


def _check(request, link):
    """Validate the form, and the PIN last: no attempt is spent on a form that has to be corrected anyway."""
    asked = with_content(link.unlock_request)
    form = DecisionForm(request.POST, link=link, batches=asked)
    if not _was_shown(request, shown_lines(link.unlock_request, link.terms, asked)):
        return _form(request, link, _typed(request), notice=CHANGED)
    if form.is_valid():
        try:
            operations.verify_customer_pin(link, pin=form.cleaned_data["pin"], by=_customer(request, link))
        except operations.Refused as refused:
            if refused.code not in (Refusal.PIN_WRONG, Refusal.PIN_LOCKED):
                raise
            form.add_error("pin", _pin_refusal(link.unlock_request.account))
    if not form.is_valid():
        return render(request, "unlocks/form.html", _context(link, asked, form))
    answers = {name: form.cleaned_data[name] for name in ("name", "role", "leave_out")}
    answers["another"] = form.cleaned_data.get("another", False)
    return _check_answers(request, link, asked, answers)


def _change(request, link):
    """Go back to the form with name and role filled in; PIN and boxes are empty."""
    return _form(request, link, _answers(request, link, expired_too=True) or _typed(request))


def _agree(request, link):
    answers = _answers(request, link)
    if answers is None or "name" not in answers:
        return _form(request, link, _answers(request, link, expired_too=True), notice=EXPIRED)
    left_out = left_out_of(asked_for(link.unlock_request), answers.get("leave_out", []))
    text = shown_text(link, left_out)
    if not constant_time_compare(sha256(text), answers["shown"]):
        return _form(request, link, answers, notice=CHANGED)
    given, _ = operations.give_consent(
        link,
        name=answers["name"],
        role=answers["role"],
        another=answers.get("another", False),
        left_out=left_out,
        shown=text,
        by=_customer(request, link),
        opening=_opening(request, link),
    )
    return _redirect_to_receipt(given)


def _decline(request, link):
    """Ask for a confirmation, so that nobody declines by accident."""
    if not _was_shown(request, shown_text(link)):
        return _form(request, link, _typed(request), notice=CHANGED)
    return _decline_page(request, link, DeclineForm(link=link, initial=_typed(request)))


def _confirm_decline(request, link):
    text = shown_text(link)
    answers = _answers(request, link)
    if answers is None or not constant_time_compare(sha256(text), answers["shown"]):
        notice = EXPIRED if answers is None else CHANGED
        return _form(request, link, _typed(request), notice=notice)
    form = DeclineForm(request.POST, link=link)
    if not form.is_valid():
        return _decline_page(request, link, form)
    declined, _ = operations.decline_consent(
        link, **form.cleaned_data, shown=text, by=_customer(request, link), opening=_opening(request, link)
    )
    return _redirect_to_receipt(declined)


def _reload(request, link):
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


def _form(request, link, answers=None, notice=""):
    """Show the form, filled in with answers that were typed before."""
    asked = with_content(link.unlock_request)
    form = DecisionForm(link=link, batches=asked, initial=answers)
    return render(request, "unlocks/form.html", _context(link, asked, form) | {"notice": notice})


def _check_answers(request, link, asked, answers):
    """Show the answers once more, with what is agreed to and what is left out, and the text that says so."""
    left_out = set(left_out_of(asked_for(link.unlock_request), answers["leave_out"]).values_list("pk", flat=True))
    text = shown_lines(link.unlock_request, link.terms, asked, left_out=left_out)
    agreed, stay = [one for one in asked if one.pk not in left_out], [one for one in asked if one.pk in left_out]
    context = form_context(link, agreed, text) | answers
    context |= {"answers": sign_answers(link, shown=sha256(text), **answers)}
    context |= {"left_out_numbers": [one.number for one in stay], "left_out_summary": batches.summary(stay)}
    return render(request, "unlocks/check_answers.html", context)


def _decline_page(request, link, form):
    asked = with_content(link.unlock_request)
    context = _context(link, asked, form)
    return render(request, "unlocks/decline.html", context | {"answers": sign_answers(link, shown=context["shown"])})


def _context(link, asked, form):
    """Return the context of a page of the form, with what changed since its link was issued."""
    context = form_context(link, asked, shown_lines(link.unlock_request, link.terms, asked))
    return context | {"form": form, "changed": operations.changed_since(link)}


def form_context(link, asked, text):
    """Return the context of a page of the form for a link and batches that may not be in the database yet.

    The batches are those that `text` asks about, in its order.
    """
    return {
        "link": link,
        "case": link.unlock_request,
        "account": link.unlock_request.account,
        "batches": asked,
        "summary": batches.summary(asked),
        "few": len(asked) <= batches.FEW,
        "wording": wording,
        "asked": wording.asked(link.unlock_request.account),
        "terms_heading": wording.terms_heading(link.terms),
        "terms_text": wording.terms_text(link.terms, link.unlock_request.account),
        "authorized": wording.authorized(link.unlock_request.account),
        "agree": wording.agree(link.terms),
        "signs_instead": wording.signs_instead(link.sent_to.name, link.unlock_request.account),
        "text": text,
        "shown": sha256(text),
    }


def _redirect_to_receipt(consent, query=""):
    response = redirect(reverse("consent_receipt") + query)
    set_cookie(response, RECEIPT_COOKIE, consent.pk, "consent")
    return response


def _link_not_found(request):
    return render(request, "unlocks/link_not_found.html", status=404)


def _link_ended(request, link):
    """Show the receipt to the browser that decided, and say to any other that the link no longer works."""
    state = operations.link_state(link)
    if state == "used":
        consent = link.consent
        if _decided_here(request, link, consent) or get_cookie(request, RECEIPT_COOKIE) == str(consent.pk):
            return _redirect_to_receipt(consent, "?again")
    email = emails.of_receipt(link.consent) if state == "used" else None
    return render(request, "unlocks/link_ended.html", {"state": state, "email": email}, status=410)


def _decided_here(request, link, consent):
    """Return whether the browser sent the answers that led to this consent.

    Answers with a name were signed after the PIN was verified, and those without one for declining: a link alone
    must not open the receipt of an agreement.
    """
    answers = _answers(request, link)
    return answers is not None and ("name" in answers) == (consent.decision == Consent.Decision.AGREED)


def _refused(request, link, refused):
    """Say why a verb refused; a link that has ended meanwhile gets its own page."""
    link = operations.link_for(get_cookie(request, LINK_COOKIE))
    if refused.code in (Refusal.LINK_DEAD, Refusal.CLOSED):
        return _link_ended(request, link)
    answers = _answers(request, link, expired_too=True) or _typed(request)
    notice = EXPIRED if refused.code == Refusal.PIN_STALE else str(refused)
    return _form(request, link, answers, notice=notice)


# What the browser sent.


def _was_shown(request, text):
    """Return whether the form was sent from a page that showed this text, and so is of this link."""
    return constant_time_compare(request.POST.get("shown", ""), sha256(text))


def _answers(request, link, **options):
    return read_answers(request.POST.get("answers", ""), link, **options)


def _typed(request):
    typed = {name: request.POST.get(name, "")[:200] for name in ("name", "role")}
    return typed | {"another": "another" in request.POST, "leave_out": request.POST.getlist("leave_out")[:1000]}


def _opening(request, link):
    """Return the key of the opening that this browser keeps: 0 when it is not recorded, None when it opened nothing."""
    of_link, _, opening = (get_cookie(request, OPENING_COOKIE) or "").partition("-")
    return int(opening) if of_link == str(link.pk) else None


def _customer(request, link):
    return Actor.customer(link.sent_to, request)


def _pin_refusal(account):
    """Say why the PIN was refused: the same for any wrong PIN, except while the account is locked out."""
    account.refresh_from_db()
    if account.pin_failures >= pins.LAST_TRY:
        return "The PIN is locked after too many wrong attempts. Contact Support: your account needs a new PIN."
    if account.pin_locked_until and account.pin_locked_until > timezone.now():
        until = time_of_day(account.pin_locked_until)
        return f"The PIN is locked after too many wrong attempts. You can try again from {until}, or contact Support."
    return PIN_WRONG
