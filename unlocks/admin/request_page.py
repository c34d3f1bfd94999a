"""The request page: it shows a case, and each form on it carries out one verb."""

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpResponseBadRequest
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from .. import history, operations
from ..models import Act, LedgerEntry, UnlockRequest
from ..texts.formats import moment_with_seconds
from .base import by_staff, freeze
from .case import STATUS_TONES, Case
from .forms.case import CASE_FORMS, ReExportForm, RelockForm, SendLinkForm, UnlockForm
from .forms.consents import RecordByPhoneForm
from .timeline import batches


def request_page(model_admin, request, object_id):
    """Show a case; on POST carry out the verb that the form names, and show the case again when it is refused."""
    case = Case(
        find_request(object_id), request.user, only=request.GET.get("only", ""), page=request.GET.get("page", "1")
    )
    if request.method != "POST":
        return _show(model_admin, request, case)
    form_class = CASE_FORMS.get(request.POST.get("verb"))
    if form_class is None:
        return HttpResponseBadRequest("No such verb.")
    if not request.user.has_perm(form_class.permission):
        raise PermissionDenied
    if form_class is UnlockForm:
        selection = freeze(request, case.waiting_batches())
        return redirect("admin:selection_act", selection.pk, Act.Kind.UNLOCK)
    if form_class is RecordByPhoneForm:
        return redirect("admin:record_by_phone", case.unlock_request.pk)
    form = form_class(request.POST, request.FILES, case=case, user=request.user)
    said = carry_out(form, by_staff(request)) if form.is_valid() else None
    if said is None:
        return _show(model_admin, request, Case(find_request(object_id), request.user), form)
    if form.act:
        said = _tell(form.act)
    messages.success(request, said)
    if isinstance(form, SendLinkForm):
        request.session[_shown_once(case)] = form.link_url
    return redirect(case.unlock_request)


def find_request(object_id):
    """Return the request with this key, as the address says it. Raises Http404."""
    people = ("account", "requester", "assignee", "opened_by", "pin_verified_by")
    pk = unquote(object_id)
    if pk.isdecimal() and (found := UnlockRequest.objects.select_related(*people).filter(pk=pk[:18]).first()):
        return found
    raise Http404("There is no such request.")


def carry_out(form, by):
    """Call the form's verb and return what to say, or put the refusal on the form and return None."""
    try:
        if form.by_itself:
            return _once(form, by)
        with transaction.atomic():
            history.lock(UnlockRequest.objects.filter(pk=form.unlock_request.pk))
            return _once(form, by)
    except operations.Refused as refused:
        form.add_error(None, str(refused))
        return None


def _once(form, by):
    """Carry out the verb unless it was carried out since the page was made: double click, back button, two people."""
    if event := done_since(form):
        form.add_error(None, f"{already(event)} If you mean it once more, submit it again.")
        return None
    return form.carry_out(by)


def already(event):
    """Say what was done since a page was made."""
    return (
        f"This was done already: {event.get_kind_display().lower()} by {event.actor}, {moment_with_seconds(event.at)}. "
        "Nothing was done twice."
    )


def done_since(form):
    """Return the ledger's entry of what the form asks for, when it was done since the form's page was made; or None."""
    seen = form.cleaned_data.get("seen")
    if seen is None or not form.writes:
        return None
    newer = LedgerEntry.objects.filter(sequence__gt=seen, kind__in=form.writes).filter(
        Q(unlock_request=form.unlock_request) | Q(unlock_request=None, account=form.unlock_request.account_id)
    )
    return next((event for event in newer if form.same(event.facts)), None)


def _tell(act):
    done = act.verdicts.filter(refusal="").count()
    what = {Act.Kind.RELOCK: "locked again", Act.Kind.RE_EXPORT: "marked as re-exported"}[act.kind]
    before = f"That was done already, {moment_with_seconds(act.at)}: " if act.repeated else ""
    return format_html(
        '{}{} {}. <a href="{}">What happened to each</a>',
        before,
        batches(done),
        what,
        reverse("admin:act_report", args=[act.pk]),
    )


def _shown_once(case):
    return f"consent_link_of_{case.unlock_request.pk}"


def _show(model_admin, request, case, bound=None):
    forms = {
        verb: bound if bound and bound.verb == verb else form_class(case=case, user=request.user)
        for verb, form_class in CASE_FORMS.items()
        if form_class.offered(case, request.user)
    }
    tone, heading, sentence, verb = case.next
    if verb == RelockForm.verb and verb not in forms:
        verb = ReExportForm.verb
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"{case.unlock_request} · {batches(case.batch_count)}",
        "opts": model_admin.opts,
        "case": case,
        "object": case.unlock_request,
        "status_tone": STATUS_TONES[case.unlock_request.status],
        "next": {"tone": tone, "heading": heading, "sentence": sentence, "form": forms.pop(verb, None)},
        "forms": forms,
        "bound": bound,
        "link_url": request.session.pop(_shown_once(case), "") if request.method == "GET" else "",
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(
        request, "admin/unlocks/unlockrequest/change_form.html", context, status=422 if bound else 200
    )
