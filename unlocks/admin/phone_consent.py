"""Recording a consent by phone: the text to read out and, beside it, the customer's answers."""

import re

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect

from .. import operations
from ..actors import Actor
from ..texts import wording
from ..texts.shown import terms_in_force
from .case import Case
from .forms.consents import AnswersForm
from .request_page import already_done, carry_out, done_since, find_request
from .site import desk


def record_by_phone_page(request, object_id):
    """Show what to read out; on POST record what they answered, and lead back to the request."""
    if not request.user.has_perm(AnswersForm.permission):
        raise PermissionDenied
    case = Case(find_request(object_id, request.user), request.user)
    sent = (request.POST, request.FILES) if request.method == "POST" else ()
    form = AnswersForm(*sent, case=case, user=request.user)
    complete = form.is_valid()
    if form.is_bound and (event := done_since(form)):
        messages.warning(request, already_done(event))
        return redirect(case.unlock_request)
    obstacle = operations.obstacle_to_phone_consent(case.unlock_request, request.user)
    if obstacle and not form.is_bound:
        messages.warning(request, f"The consent can't be recorded by phone now. {obstacle}")
        return redirect(case.unlock_request)
    if complete and (message := carry_out(form, Actor.staff(request.user, request))):
        messages.success(request, message)
        return redirect(case.unlock_request)
    return desk.page(
        request,
        "admin/unlocks/unlockrequest/record_by_phone.html",
        status=422 if form.is_bound else 200,
        title="Record the consent by phone",
        case=case,
        object=case.unlock_request,
        form=form,
        lines=[line for line in lines_of(form.text, terms_in_force()) if line[1].strip()],
        obstacle=obstacle,
    )


def lines_of(text, terms):
    """Yield (what it is, the words, the code that follows) for each line of a text under these terms, blank or not.

    What it is: title, heading, batch or ''. The code is the fingerprint that ends a batch's line, else ''.
    """
    headings = {
        wording.ADVICE_HEADING,
        wording.AGREEING_HEADING,
        wording.SAYING_YES_HEADING,
        wording.READ_OUT_QUESTIONS_HEADING,
        wording.DECISION_HEADING,
        wording.terms_heading(terms),
    }
    for number, line in enumerate(text.split("\n")):
        batch = re.fullmatch(r"(- .*, content )([0-9a-f]{64})", line)
        if batch:
            yield "batch", batch[1], batch[2]
        elif number == 0:
            yield "title", line, ""
        else:
            yield "heading" if line in headings else "", line, ""
