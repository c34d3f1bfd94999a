"""The request page: it shows a case, and each form on it carries out one verb."""

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from .. import history, operations
from ..actors import Actor
from ..ledger import chain, events
from ..models import Act, LedgerEntry, UnlockRequest
from ..texts.formats import moment_with_seconds
from .bulk_actions import what_was_done
from .case import Case, stamp, with_newest, with_stamp
from .forms.base import Folded
from .forms.case import CASE_FORMS, PreviewForm, SendLinkForm
from .forms.consents import RecordByPhoneForm
from .lists import freeze
from .next_step import next_step
from .site import desk


def request_page(request, object_id):
    """Show a case; on POST carry out the verb that the form names, and show the case again when it is refused."""
    case = _case(request, object_id)
    if request.method != "POST":
        return _show(request, case)
    form_class = form_of(request, CASE_FORMS)
    if issubclass(form_class, PreviewForm):
        return redirect("admin:selection_act", freeze(request, form_class.picked(case)).pk, form_class.kind)
    if form_class is RecordByPhoneForm:
        return redirect("admin:record_by_phone", case.unlock_request.pk)
    form = form_class(request.POST, request.FILES, case=case, user=request.user)
    done = carry_out(form, Actor.staff(request.user, request)) if form.is_valid() else None
    if done is None:
        return _show(request, Case(find_request(object_id, request.user), request.user), form)
    messages.success(request, _what_was_done(done) if isinstance(done, Act) else done)
    if isinstance(form, SendLinkForm):
        show_once(request, case.unlock_request, form.link)
    return redirect(case.unlock_request)


def live_parts(request, object_id):
    """Answer with the parts of the page as they are now; with 204 while nothing has happened since a `stamp`."""
    row = _with_key(object_id, with_stamp()).first()
    if row and request.GET.get("stamp") == stamp(row, timezone.now()):
        return HttpResponse(status=204)
    return _show(request, _case(request, object_id), template="parts.html")


def _case(request, object_id):
    listed = {name: request.GET.get(name, "") for name in ("only", "rows", "page")}
    return Case(find_request(object_id, request.user), request.user, **listed)


def form_of(request, forms):
    """Return the class of the form that a POST names. Raises BadRequest, PermissionDenied."""
    form_class = forms.get(request.POST.get("verb"))
    if form_class is None:
        raise BadRequest("There is no such verb.")
    if not request.user.has_perm(form_class.permission):
        raise PermissionDenied
    return form_class


def find_request(object_id, user):
    """Return the request with this key, as the address gives it, with what a Case of `user` reads. Raises Http404."""
    people = ("account", "requester__entered_by", "requester__confirmed_by", "assignee", "opened_by", "pin_verified_by")
    if found := _with_key(object_id, with_newest(user)).select_related(*people).first():
        return found
    raise Http404("There is no such request.")


def _with_key(object_id, requests):
    pk = unquote(object_id)
    return requests.filter(pk=pk[:18]) if pk.isdecimal() else requests.none()


def carry_out(form, by):
    """Call the form's verb and return what it returns, or put the refusal on the form and return None."""
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
    """Carry out the verb unless someone did since the page was made; the verb knows the same form by its key."""
    if event := done_since(form):
        form.add_error(None, f"{already_done(event)} If you still mean to do it, submit it again.")
        return None
    return form.carry_out(by)


def already_done(entry):
    """Return what to say when a verb was carried out since the page was made."""
    return (
        f"{events.KINDS[entry.kind].label} by {entry.actor} on {moment_with_seconds(entry.at)}, after you opened this "
        "page. Nothing was done now."
    )


def done_since(form):
    """Return the ledger's entry of what the form asks for, when it was done since the form's page was made; or None."""
    seen = form.cleaned_data.get("seen")
    if seen is None or not form.writes:
        return None
    newer = LedgerEntry.objects.filter(sequence__gt=seen, kind__in=[event.kind for event in form.writes]).filter(
        Q(unlock_request=form.unlock_request) | Q(unlock_request=None, account=form.unlock_request.account_id)
    )
    if form.act_key:
        newer = newer.exclude(act=form.act_key)
    return next((entry for entry in newer if form.same(chain.event_of(entry))), None)


def _what_was_done(act):
    return format_html(
        '{}{} <a href="{}">What happened to each batch</a>',
        f"This was already done on {moment_with_seconds(act.at)}. " if act.repeated else "",
        what_was_done(act.kind, act.verdicts.filter(refusal="").count()),
        reverse("admin:unlocks_act_change", args=[act.pk]),
    )


def show_once(request, unlock_request, link):
    """Have the next page of a request show the link that was sent, to whoever may see it."""
    if link and link.shown_to and hasattr(link, "url"):
        request.session[_shown_once(unlock_request)] = link.url


def _shown_once(unlock_request):
    return f"consent_link_of_{unlock_request.pk}"


def _link_shown_once(request, case):
    return request.session.pop(_shown_once(case.unlock_request), "")


def _show(request, case, bound=None, template="change_form.html"):
    step, whole = next_step(case), template == "change_form.html"
    opened = (step.verb, request.GET.get("do"))
    forms = {
        verb: bound
        if bound and bound.verb == verb
        else Folded(form_class)
        if form_class.costly and verb not in opened
        else form_class(case=case, user=request.user)
        for verb, form_class in CASE_FORMS.items()
        if form_class.offered(case, request.user)
    }
    return desk.page(
        request,
        f"admin/unlocks/unlockrequest/{template}",
        status=422 if bound else 200,
        title=f"{case.stage} · {case.unlock_request}",
        stamp=case.stamp,
        case=case,
        object=case.unlock_request,
        address=case.unlock_request.get_absolute_url(),
        next=step,
        next_form=forms.pop(step.verb, None),
        forms=forms,
        batch_forms=[form for form in forms.values() if form.card == "batches"],
        review_forms=[form for form in forms.values() if form.card == "review"],
        bound=bound,
        opened=forms.get(request.GET.get("do")),
        # Not for a page that only follows the case: it does not show the link.
        link_url=_link_shown_once(request, case) if whole and request.method == "GET" else "",
    )
