"""Bulk acts: what a selection would come to, carrying it out, and the report of what became of each batch."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, Min, OuterRef, Q, Sum, Window
from django.db.models.functions import RowNumber
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path

from .. import operations, rules
from ..models import Act, Batch, Consent, ConsentedBatch, RequestedBatch, Selection, UnlockRequest
from ..texts.formats import moment_with_seconds
from .base import ReadOnlyAdmin, by_staff, with_recorded_by_phone
from .forms.case import ActForm
from .timeline import batches as count_of_batches
from .timeline import reason

AT_FIRST = 10
AT_MOST = 200
ROWS_A_PAGE = 100


@dataclass(frozen=True)
class Way:
    """How a kind of act is judged, carried out and spoken of."""

    verb: callable
    judge: callable
    permission: str
    asks: str
    button: str
    done: str


WAYS = {
    Act.Kind.UNLOCK: Way(
        operations.unlock, rules.judged, "unlocks.unlock_batch", "Unlock batches?", "Unlock {}", "unlocked"
    ),
    Act.Kind.RELOCK: Way(
        operations.relock,
        rules.judged_unlocked,
        "unlocks.relock_batch",
        "Lock batches again?",
        "Lock {} again",
        "locked again",
    ),
    Act.Kind.RE_EXPORT: Way(
        operations.mark_re_exported,
        rules.judged_unlocked,
        "unlocks.mark_re_exported_batch",
        "Mark batches as re-exported?",
        "Mark {} as re-exported",
        "marked as re-exported",
    ),
}


def urls(site):
    """Return the addresses of the preview and of the report, for the site that they belong to."""
    return [
        path("selection/<uuid:pk>/<str:kind>/", site.admin_view(partial(preview, site)), name="selection_act"),
        path("acts/<uuid:pk>/", site.admin_view(partial(report, site)), name="act_report"),
    ]


def preview(site, request, pk, kind):
    """Show what an act would do to each batch of a selection; on POST do it, once however often it is submitted."""
    if kind not in WAYS:
        raise Http404("There is no such act.")
    way = WAYS[kind]
    if not request.user.has_perm(way.permission):
        raise PermissionDenied
    selection = get_object_or_404(Selection, pk=pk, made_by=request.user)
    # One act of each kind a selection: whoever comes back to this page finds what became of it.
    key = uuid.uuid5(selection.pk, kind)
    if request.method != "POST" and Act.objects.filter(pk=key).exists():
        return _again(request, Act.objects.get(pk=key))
    form = ActForm(request.POST if request.method == "POST" else None, kind=kind, key=key)
    if form.is_bound and form.is_valid():
        chosen = Batch.objects.filter(selections=selection)
        try:
            act = way.verb(chosen, by=by_staff(request), **form.cleaned_data)
        except operations.Refused as refused:
            form.add_error(None, str(refused))
        else:
            return _again(request, act) if act.repeated else redirect("admin:act_report", act.pk)
    groups = _groups_of(selection, way, request.user)
    ready = groups.pop("", {"n": 0, "amount": 0, "batches": [], "listed": 0, "weaker": 0})
    refused = sum(group["n"] for group in groups.values())
    context = {
        "title": way.asks,
        "form": form,
        "selection": selection,
        "kind": kind,
        "way": way,
        "ready": ready,
        "groups": groups.values(),
        "refused": refused,
        "window_hours": settings.UNLOCK_WINDOW // timedelta(hours=1),
        "button": way.button.format(count_of_batches(ready["n"])),
    }
    return _page(site, request, "admin/unlocks/selection/preview.html", context, 422 if form.errors else 200)


def _again(request, act):
    messages.warning(request, f"This was done already, {moment_with_seconds(act.at)}. Nothing was done twice.")
    return redirect("admin:act_report", act.pk)


def _groups_of(selection, way, user):
    """Group a selection by verdict, the batches that may be done under '': two queries whatever its size."""
    judged = with_recorded_by_phone(way.judge(Batch.objects.filter(selections=selection), by=user))
    counts = (
        judged.order_by()
        .values("refusal")
        .annotate(n=Count("pk"), amount=Sum("total"), weaker=Count("pk", filter=Q(recorded_by_phone=True)))
        .order_by("-n")
    )
    groups = {row["refusal"]: row | {"name": reason(row["refusal"]), "batches": []} for row in counts}
    numbered = judged.annotate(
        place=Window(RowNumber(), partition_by=F("refusal"), order_by=("account__number", "number", "pk"))
    )
    for batch in numbered.filter(place__lte=AT_MOST).select_related("account").order_by("place"):
        batch.sentence = rules.sentence(batch.refusal, batch)
        groups[batch.refusal]["batches"].append(batch)
    for group in groups.values():
        _split(group)
    return groups


def _split(group):
    """Say the reason once where it is the same for all that are listed, and set apart what stands open at first."""
    sentences = {batch.sentence for batch in group["batches"]}
    group["sentence"] = sentences.pop() if len(sentences) == 1 else ""
    group["first"], group["rest"] = group["batches"][:AT_FIRST], group["batches"][AT_FIRST:]
    group["unlisted"] = group["n"] - len(group["batches"])


def report(site, request, pk):
    """Show what became of each batch of an act."""
    act = get_object_or_404(Act.objects.select_related("by"), pk=pk)
    if act.by_id != request.user.pk and not request.user.has_perm("unlocks.view_act"):
        raise PermissionDenied
    counts = dict(act.verdicts.order_by().values_list("refusal").annotate(n=Count("pk")))
    done, refused = counts.pop("", 0), sum(counts.values())
    under = ConsentedBatch.objects.filter(pk=OuterRef("line__consented"), consent__how=Consent.How.PHONE)
    verdicts = act.verdicts.annotate(recorded_by_phone=Exists(under)).order_by(
        "-refusal", "batch__account__number", "batch__number", "pk"
    )
    verdicts = verdicts.select_related("batch__account", "line")
    only = request.GET.get("only", "")
    if only in counts or only == "done":
        verdicts = verdicts.filter(refusal="" if only == "done" else only)
    paginator = Paginator(verdicts, ROWS_A_PAGE)
    paginator.count = {"": done + refused, "done": done}.get(only, counts.get(only, done + refused))
    page = paginator.get_page(request.GET.get("page"))
    for verdict in page.object_list:
        verdict.batch.open_request = verdict.line and verdict.line.unlock_request_id
        verdict.sentence = _said(verdict, act, request.user)
        verdict.unlock_request = verdict.line and UnlockRequest(pk=verdict.line.unlock_request_id)
    lines = RequestedBatch.objects.filter(pk__in=act.verdicts.values("line"))
    done_lines = RequestedBatch.objects.filter(pk__in=act.verdicts.filter(refusal="").values("line"))
    still_unlocked = done_lines.filter(outcome=RequestedBatch.Outcome.UNLOCKED)
    context = {
        "title": f"{act.get_kind_display()}: {done:,} of {done + refused:,} done",
        "act": act,
        "way": WAYS[act.kind],
        "done": done,
        "refused": refused,
        "groups": [(code, reason(code), n) for code, n in sorted(counts.items())],
        "only": only,
        "page": page,
        "pages": paginator.get_elided_page_range(page.number),
        "still": still_unlocked.aggregate(n=Count("pk"), until=Min("batch__unlocked_until"))
        if act.kind == Act.Kind.UNLOCK
        else None,
        "requests": UnlockRequest.objects.filter(pk__in=lines.values("unlock_request")).select_related("account")[:20],
    }
    return _page(site, request, "admin/unlocks/acts/report.html", context)


def _said(verdict, act, user):
    """Return the sentence for a refusal; whoever looks may not be the one to whom it was said."""
    said = rules.sentence(verdict.refusal, verdict.batch)
    if verdict.refusal == rules.Refusal.OWN_RECORDING and act.by_id != user.pk:
        return said.replace("You took this consent down yourself", f"{act.actor} took this consent down")
    return said


def _page(site, request, template, context, status=200):
    request.current_app = site.name
    return TemplateResponse(request, template, {**site.each_context(request), **context}, status=status)


@admin.register(Act)
class ActAdmin(ReadOnlyAdmin):
    """The acts as a list; the page of one is its report."""

    footer_name = "Bulk acts"
    list_display = ("what", "who", "at_when", "why")
    list_display_links = ("what",)
    list_filter = ("kind",)
    search_fields = ("actor",)
    search_help_text = "Who did it"

    def get_ordering(self, request):
        return ("-at",)

    def changelist_view(self, request, extra_context=None):
        return super().changelist_view(request, {"title": self.footer_name, **(extra_context or {})})

    @admin.display(description="What")
    def what(self, act):
        return act.get_kind_display()

    @admin.display(description="By")
    def who(self, act):
        return act.actor

    @admin.display(description="When", ordering="at")
    def at_when(self, act):
        return moment_with_seconds(act.at)

    def change_view(self, request, object_id, form_url="", extra_context=None):
        try:
            return redirect("admin:act_report", uuid.UUID(object_id))
        except ValueError:
            raise Http404("There is no such act.") from None
