"""Bulk actions: what one would do to each batch of a selection, carrying it out, and the report of what it did."""

import uuid
from dataclasses import dataclass, field, replace

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, Min, OuterRef, Q, Sum, Window
from django.db.models.functions import RowNumber
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from .. import operations, rules
from ..actors import Actor
from ..models import Act, Batch, Consent, ConsentedBatch, OrderedAct, RequestedBatch, Selection, UnlockRequest
from ..outbox import heartbeat
from ..product import by_hand
from ..signin import showed
from ..texts.formats import counted, moment_with_seconds, money
from . import doubts
from .case import FOLLOWED_CLOSELY
from .filters import by_column
from .forms.bulk_actions import BulkActionForm
from .lists import ReadOnlyAdmin, column
from .site import desk
from .tags import with_recorded_by_phone

OPEN_AT_FIRST = 10
LISTED_PER_GROUP = 100
ROWS_A_PAGE = 100


@dataclass(frozen=True)
class Words:
    """What the screens say about an act. Those that nobody on staff chooses, answers of the product, only say `done`.

    `will` is what happens first, and `then` what follows from it. `window` asks for how long they are unlocked, and
    `why` for the reason, where the verb needs one.
    `{batches}` is their number. `by_hand` holds what is said instead where staff carry it out in the product.
    """

    done: str
    each: str
    choice: str = ""
    question: str = ""
    will: str = ""
    none: str = ""
    group: str = ""
    button: str = ""
    then: str = ""
    window: str = ""
    why: str = ""
    tone: str = "good"
    by_hand: dict[str, str] = field(default_factory=dict)


WORDS = {
    Act.Kind.UNLOCK: Words(
        choice="Unlock selected batches",
        question="Unlock batches?",
        will="The product will be asked to unlock {batches}, {amount}.",
        none="No batch can be unlocked.",
        group="To be unlocked",
        button="Unlock {batches}",
        done="{batches}: {their} unlock was instructed.",
        each="Unlock instructed",
        then="The window for the customer to edit and export starts when it says that they are unlocked. At its end "
        "they are relocked by themselves.",
        window="How long is the window?",
        by_hand={
            "will": "{batches}, {amount}, will go on the list “To do in {vendor}”.",
            "then": "Someone on staff unlocks them there. The window for the customer to edit and export starts then. "
            "At its end they go on the list to be relocked.",
            "done": "{batches}: staff were asked to unlock {them} in {vendor}.",
        },
        tone="info",
    ),
    Act.Kind.CANCEL: Words(
        choice="Cancel the unlock of selected batches",
        question="Cancel the unlock of batches?",
        will="The product will not be asked to unlock {batches}, {amount}.",
        none="No unlock can be canceled.",
        group="To be canceled",
        button="Cancel the unlock of {batches}",
        done="{batches}: {their} unlock was canceled before the product was asked.",
        each="Canceled",
        then="They stay locked, and can be unlocked later.",
        why="Why is the unlock canceled?",
    ),
    Act.Kind.RELOCK: Words(
        choice="Relock selected batches",
        question="Relock batches?",
        will="The product will be asked to lock {batches}, {amount}.",
        none="No batch can be relocked.",
        group="To be relocked",
        button="Relock {batches}",
        done="{batches}: {their} relock was instructed.",
        each="Relock instructed",
        then="They are locked once it says so.",
        by_hand={
            "will": "{batches}, {amount}, will go on the list “To do in {vendor}”.",
            "then": "Someone on staff locks them there.",
            "done": "{batches}: staff were asked to lock {them} in {vendor}.",
        },
        why="Why are they relocked?",
        tone="info",
    ),
    Act.Kind.RE_EXPORT: Words(
        choice="Mark selected batches as re-exported",
        question="Mark batches as re-exported?",
        will="{batches}, {amount}, will be marked as re-exported.",
        none="No batch can be marked as re-exported.",
        group="To be marked as re-exported",
        button="Mark {batches} as re-exported",
        done="{batches} {were} marked as re-exported.",
        each="Marked as re-exported",
    ),
    Act.Kind.UNLOCKED: Words(done="{batches} {were} unlocked.", each="Unlocked"),
    Act.Kind.REFUSED: Words(done="The product refused to unlock {batches}.", each="Refused by the product", tone="bad"),
    Act.Kind.EXTEND: Words(done="The window of {batches} was extended.", each="Window extended"),
    Act.Kind.RELOCKED: Words(done="{batches} {were} relocked.", each="Relocked"),
}
# Of these acts the report says what has become of each batch since.
FOLLOWED = (Act.Kind.UNLOCK, Act.Kind.UNLOCKED, Act.Kind.EXTEND, Act.Kind.RELOCK)
# What has become of the batches of an act by now, as the report of an instruction says it.
NOW = {
    RequestedBatch.Outcome.WAITING: "{} {waits} to be unlocked",
    RequestedBatch.Outcome.UNLOCKING: "{} {waits} for an answer",
    RequestedBatch.Outcome.UNLOCKED: "{} {is} unlocked now",
    RequestedBatch.Outcome.RELOCKING: "{} {waits} to be relocked",
    RequestedBatch.Outcome.RE_EXPORTED: "{} {is} re-exported",
    RequestedBatch.Outcome.RELOCKED: "{} {is} relocked",
    RequestedBatch.Outcome.REFUSED: "{} {was} refused by the product",
    RequestedBatch.Outcome.NOT_UNLOCKED: "{} {was} never unlocked",
}


def words_for(kind):
    """Return the words about a kind of act as it is carried out here: by the product, or by hand."""
    return replace(WORDS[kind], **WORDS[kind].by_hand) if by_hand() else WORDS[kind]


def what_was_done(kind, count):
    """Say what an act did to that many batches."""
    if not count:
        return "Nothing was done."
    one = count == 1
    them, their, were = ("it", "its", "was") if one else ("them", "their", "were")
    batches, vendor = counted(count, "batch", "batches"), settings.VENDOR_NAME
    return words_for(kind).done.format(batches=batches, them=them, their=their, were=were, vendor=vendor)


@admin.register(Act, site=desk)
class ActAdmin(ReadOnlyAdmin):
    """The acts as a list, the preview that leads to one, and its report."""

    list_name = footer_name = "Bulk actions"
    list_display = ("what", "who", "at_when", "why")
    list_display_links = ("what",)
    list_filter = (by_column("kind"),)
    search_fields = ("actor",)
    search_help_text = "Who did it"

    what = column("What", "get_kind_display", lambda label: label())
    who = column("By", "actor")
    at_when = column("When", "at", moment_with_seconds, ordering="at")

    # The pages

    def get_urls(self):
        admin_view = self.admin_site.admin_view
        return [
            path("selection/<uuid:pk>/<str:kind>/", admin_view(self.preview), name="selection_act"),
            path("<uuid:pk>/cancel/", admin_view(self.cancel), name="unlocks_act_cancel"),
            *super().get_urls(),
        ]

    def preview(self, request, pk, kind):
        """Show what an action would do to each batch of a selection; on POST do it, once however often submitted."""
        if kind not in operations.ACTIONS:
            raise Http404("There is no such action.")
        action = operations.ACTIONS[kind]
        if not request.user.has_perm(action.permission):
            raise PermissionDenied
        selection = get_object_or_404(Selection, pk=pk, made_by=request.user)
        # One act of each kind a selection: a second visit to this page finds what it did.
        key = uuid.uuid5(selection.pk, kind)
        if request.method != "POST" and Act.objects.filter(pk=key).exists():
            return _already_done(request, Act.objects.get(pk=key))
        if OrderedAct.objects.filter(pk=key).exists():
            return redirect("admin:unlocks_act_change", key)
        words = words_for(kind)
        form = BulkActionForm(request.POST if request.method == "POST" else None, words=words, key=key)
        if form.is_bound and form.is_valid():
            batches = Batch.objects.filter(selections=selection)
            if kind == Act.Kind.UNLOCK and batches.count() > settings.CONFIRM_BATCHES:
                showed.confirm(request)
            if batches.count() > settings.BULK_IN_WORKER:
                return self._order(request, kind, selection, **form.cleaned_data)
            try:
                act = action.verb(batches, by=Actor.staff(request.user, request), **form.cleaned_data)
            except operations.Refused as refused:
                form.add_error(None, str(refused))
            else:
                return _already_done(request, act) if act.repeated else redirect("admin:unlocks_act_change", act.pk)
        groups = _grouped_by_verdict(selection, action.act, request.user)
        ready = groups.pop("", {"n": 0, "amount": 0, "batches": [], "by_phone": 0})
        about = {
            "batches": counted(ready["n"], "batch", "batches"),
            "amount": money(ready["amount"]),
            "vendor": settings.VENDOR_NAME,
        }
        return desk.page(
            request,
            "admin/unlocks/act/preview.html",
            status=422 if form.errors else 200,
            title=words.question,
            button=words.button.format(**about),
            words=words,
            form=form,
            selection=selection,
            case=_only_case(selection),
            kind=kind,
            ready=ready,
            groups=groups.values(),
            refused=sum(group["n"] for group in groups.values()),
            doubts=doubts.said(ready) if kind == Act.Kind.UNLOCK and ready["n"] else [],
            signed_by_others=_signed_by_others(selection) if kind == Act.Kind.UNLOCK and ready["n"] else [],
            will=words.will.format(**about),
            then=words.then.format(**about),
        )

    def _order(self, request, kind, selection, *, key, **options):
        """Leave an act that is too big to wait for to the worker; its page says how far it is."""
        operations.order(kind, selection, options=options, by=Actor.staff(request.user, request), key=key)
        return redirect("admin:unlocks_act_change", key)

    @method_decorator(require_POST)
    def cancel(self, request, pk):
        """Have the worker not do what waits for it."""
        try:
            operations.cancel_order(get_object_or_404(OrderedAct, pk=pk), by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            messages.error(request, str(refused))
        return redirect("admin:unlocks_act_change", pk)

    def _ordered(self, request, object_id):
        """Show an act that waits for the worker, or was refused; a page that follows it is answered with 204."""
        ordered = OrderedAct.objects.select_related("by").filter(pk=object_id).first()
        if ordered is None:
            raise Http404("There is no such act.")
        if ordered.by_id != request.user.pk and not request.user.has_perm("unlocks.view_act"):
            raise PermissionDenied
        stamp = f"{ordered.state}-{ordered.tries}"
        if request.GET.get("stamp") == stamp:
            return HttpResponse(status=204)
        return desk.page(
            request,
            "admin/unlocks/act/ordered.html",
            title=f"{ordered.get_kind_display()}: {ordered.get_state_display().lower()}",
            ordered=ordered,
            stamp=stamp,
            waits=ordered.state == OrderedAct.State.QUEUED,
            canceled=ordered.state == OrderedAct.State.CANCELED,
            may_cancel=ordered.by_id == request.user.pk or request.user.has_perm(operations.CANCELS_OTHERS),
            batches=counted(Batch.objects.filter(selections=ordered.selection_id).count(), "batch", "batches"),
            worker_runs=heartbeat.running().exists(),
            every=FOLLOWED_CLOSELY,
            now=timezone.now(),
        )

    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Report what an act did to each of its batches, or how far it is."""
        act = self.get_object(request, object_id)
        if act is None:
            return self._ordered(request, _key(object_id))
        if act.by_id != request.user.pk and not request.user.has_perm("unlocks.view_act"):
            raise PermissionDenied
        counts = dict(act.verdicts.order_by().values_list("refusal").annotate(n=Count("pk")))
        done, refused = counts.pop("", 0), sum(counts.values())
        only = request.GET.get("only", "")
        verdicts, shown = _verdicts(act), done + refused
        if only == "done" or only in counts:
            verdicts = verdicts.filter(refusal="" if only == "done" else only)
            shown = counts.get(only, done)
        paginator = Paginator(verdicts, ROWS_A_PAGE)
        paginator.count = shown
        page, followed = paginator.get_page(request.GET.get("page")), act.kind in FOLLOWED
        for verdict in page.object_list:
            verdict.batch.open_request = verdict.line and verdict.line.unlock_request_id
            verdict.sentence = _sentence(verdict, act, request.user)
            verdict.now = "" if verdict.refusal or not followed else verdict.line.get_outcome_display()
            verdict.unlock_request = verdict.line and UnlockRequest(pk=verdict.line.unlock_request_id)
        lines = RequestedBatch.objects.filter(pk__in=act.verdicts.values("line"))
        return desk.page(
            request,
            "admin/unlocks/act/report.html",
            title=f"{act.get_kind_display()}: {counted(done, 'batch', 'batches')}",
            act=act,
            words=WORDS[act.kind],
            was_done=what_was_done(act.kind, done),
            done=done,
            refused=refused,
            groups=[(code, rules.short_name(code), n) for code, n in sorted(counts.items())],
            only=only,
            page=page,
            pages=paginator.get_elided_page_range(page.number),
            now=_by_now(act),
            requests=UnlockRequest.objects.filter(pk__in=lines.values("unlock_request")).select_related("account")[:20],
        )


def _only_case(selection):
    """Return the open request that the batches of a selection are of, if it is one."""
    lines = RequestedBatch.objects.filter(batch__selections=selection, outcome__in=RequestedBatch.OPEN)
    keys = list(lines.order_by().values_list("unlock_request", flat=True).distinct()[:2])
    return UnlockRequest(pk=keys[0]) if len(keys) == 1 else None


def _key(object_id):
    try:
        return uuid.UUID(object_id)
    except ValueError:
        raise Http404("There is no such act.") from None


def _already_done(request, act):
    messages.warning(request, f"This was already done on {moment_with_seconds(act.at)}. Nothing was done twice.")
    return redirect("admin:unlocks_act_change", act.pk)


def _signed_by_others(selection):
    """List the consents to what waits in a selection that were signed in another name than the contact's."""
    waiting = RequestedBatch.objects.filter(batch__selections=selection, outcome=RequestedBatch.Outcome.WAITING)
    consents = Consent.objects.filter(pk__in=waiting.values("consented__consent")).order_by("pk")
    return [one for one in consents.only("signer_name", "contact_name") if one.signed_by_another]


def _grouped_by_verdict(selection, act, user):
    """Group a selection by verdict, what may be done under '': two queries whatever its size."""
    judged = with_recorded_by_phone(act.judge(Batch.objects.filter(selections=selection), by=user))
    by_phone = Count("pk", filter=Q(recorded_by_phone=True))
    counts = (
        doubts.with_doubts(judged)
        .order_by()
        .values("refusal")
        .annotate(n=Count("pk"), amount=Sum("total"), by_phone=by_phone)
        .annotate(**doubts.sums() if act.kind == Act.Kind.UNLOCK else {})
        .order_by("-n")
    )
    groups = {row["refusal"]: row | {"name": rules.short_name(row["refusal"]), "batches": []} for row in counts}
    numbered = judged.annotate(
        position=Window(RowNumber(), partition_by=F("refusal"), order_by=("account__number", "number", "pk"))
    )
    for batch in numbered.filter(position__lte=LISTED_PER_GROUP).select_related("account").order_by("position"):
        batch.sentence = rules.sentence(batch.refusal, batch)
        groups[batch.refusal]["batches"].append(batch)
    for group in groups.values():
        _fold(group)
    return groups


def _fold(group):
    """Give the reason once where it is the same for all that are listed, and set apart what is shown at first."""
    sentences = {batch.sentence for batch in group["batches"]}
    group["sentence"] = sentences.pop() if len(sentences) == 1 else ""
    group["first"], group["rest"] = group["batches"][:OPEN_AT_FIRST], group["batches"][OPEN_AT_FIRST:]
    group["unlisted"] = group["n"] - len(group["batches"])


def _verdicts(act):
    by_phone = ConsentedBatch.objects.filter(pk=OuterRef("line__consented"), consent__how=Consent.How.PHONE)
    return (
        act.verdicts.annotate(recorded_by_phone=Exists(by_phone))
        .order_by("-refusal", "batch__account__number", "batch__number", "pk")
        .select_related("batch__account", "line")
    )


def _sentence(verdict, act, user):
    """Return the sentence for a refusal, in words for readers other than the person who acted, too."""
    if verdict.refusal in rules.BY_ANOTHER_PERSON and act.by_id != user.pk:
        unlock_request = UnlockRequest(pk=verdict.line.unlock_request_id)
        what = rules.BY_ANOTHER_PERSON[verdict.refusal]
        return f"{act.actor} {what}, so someone else must unlock ({unlock_request})."
    return rules.sentence(verdict.refusal, verdict.batch)


def _by_now(act):
    """List what has become by now of the batches that the product was asked about, each with the end of a window."""
    if act.kind not in FOLLOWED:
        return []
    lines = RequestedBatch.objects.filter(pk__in=act.verdicts.filter(refusal="").values("line")).order_by()
    counts = lines.values("outcome").annotate(n=Count("pk"), until=Min("batch__unlocked_until"))
    rows = {row["outcome"]: row for row in counts}
    unlocked = RequestedBatch.Outcome.UNLOCKED
    return [(_now(o, rows[o]["n"]), rows[o]["until"] if o == unlocked else None) for o in NOW if o in rows]


def _now(outcome, count):
    one = count == 1
    verbs = {"is": "is" if one else "are", "was": "was" if one else "were", "waits": "waits" if one else "wait"}
    return NOW[outcome].format(f"{count:,}", **verbs)
