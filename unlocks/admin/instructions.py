"""What the product is asked to do: the list that staff work off where they do it by hand, and what came of it."""

import re
import uuid
from dataclasses import dataclass

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Q
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from .. import rules
from ..actors import Actor
from ..models import Account, Batch, Instruction, UnlockRequest
from ..product import by_hand
from ..templatetags.desk import ago, row_count, tag
from ..texts import normalize
from ..texts.formats import moment, money
from .batches import account_link
from .filters import OneClickFilter, by_column
from .forms.instructions import WORK_FORMS, WorkForm
from .lists import CappedPaginator, DeskList, ReadOnlyAdmin, column, is_key, keys, on_first_page
from .site import desk
from .tags import INSTRUCTION_TONES

State, What = Instruction.State, Instruction.What

ENDED = (State.DONE, State.REFUSED, State.CANCELED)


@dataclass(frozen=True)
class Part:
    """A part of the list: what it holds, in which order, and what can be done there (names of WORK_FORMS)."""

    name: str
    rows: Q
    order: tuple[str, ...] = ("-pk",)
    verbs: tuple[str, ...] = ()
    empty: str = "Nothing here."


def parts(user):
    """Return the parts of the list for a member of staff, by the word in the address; the first is what opens."""
    if not by_hand():
        asked = {state: Part(label, Q(state=state)) for state, label in State.choices}
        asked[State.GIVEN_UP] = Part(State.GIVEN_UP.label, Q(state=State.GIVEN_UP), verbs=("try_again",))
        return {"": Part("All", Q())} | asked
    mine = Q(state=State.SENT, started_by=user)
    return {
        "waiting": Part(
            "Waiting",
            Q(state=State.QUEUED),
            ("next_try_at", "pk"),
            ("start",),
            "Nothing waits. What an agent unlocks, and what has to be relocked, appears here.",
        ),
        "mine": Part(
            "Started by you",
            mine,
            ("pk",),
            ("done", "not_done", "put_back"),
            "You have started nothing, or have said of all of it what became of it.",
        ),
        "others": Part(
            "Started by others",
            # Two indexes have them, each in part: one condition on both would read the whole table.
            (Q(state__in=[State.SENT, State.UNKNOWN]) | Q(state=State.GIVEN_UP)) & ~mine,
            ("pk",),
            ("put_back_for_others",),
            "Nobody else has started anything.",
        ),
        "ended": Part("Ended", Q(done_at__isnull=False), ("-done_at", "-pk"), (), "Nothing was done here yet."),
    }


def part_of(request):
    """Return the word of the part that an address asks for: the first one where it names none."""
    named = parts(request.user)
    asked = request.GET.get(PartFilter.parameter_name, "")
    return asked if asked in named else next(iter(named))


class PartFilter(OneClickFilter):
    title = "part"
    parameter_name = "show"

    def __init__(self, request, *args):
        self.part = part_of(request)
        super().__init__(request, *args)

    def lookups(self, request, model_admin):
        rows = Instruction.objects.all()
        counted = {
            word: f" {row_count(CappedPaginator(rows.filter(part.rows), 1))}" if by_hand() and word != "ended" else ""
            for word, part in parts(request.user).items()
        }
        return [(word, f"{part.name}{counted[word]}") for word, part in parts(request.user).items()]

    def queryset(self, request, queryset):
        return queryset.filter(parts(request.user)[self.part].rows)

    def choices(self, changelist):
        for word, name in self.lookup_choices:
            yield {
                "selected": word == self.part,
                "query_string": changelist.get_query_string({self.parameter_name: word}, [PAGE_VAR]),
                "display": name,
            }


class Work(DeskList):
    """A page of instructions, with what there is to know before one is done: asked for its rows alone."""

    def get_results(self, request):
        super().get_results(request)
        # The part is where one is, and not what narrows it.
        self.has_active_filters = bool(self.on)
        self.clear_all_filters_qs = self.get_query_string(remove=[spec.parameter_name for spec, _ in self.on])
        self.result_list = self.model_admin.told(request, self.result_list)
        ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
        for row in self.result_list:
            row.ticked = str(row.pk) in ticked
        self.pickable = sum(row.may_be_done for row in self.result_list)


def _judged(rows, user):
    """Yield (tone, what to know, whether it can be picked) of each row: '' where there is nothing to know."""
    unlocking = [row.batch_id for row in rows if row.what == What.UNLOCK and row.state in (State.QUEUED, State.SENT)]
    batches = rules.judged_again(Batch.objects.filter(pk__in=unlocking), by=user, at=timezone.now())
    batches = {batch.pk: batch for batch in batches.exclude(refusal="")}
    queued = [row.batch_id for row in rows if row.state == State.QUEUED]
    pending = Instruction.objects.filter(batch__in=queued, done_at=None).exclude(state=State.GIVEN_UP)
    first = {one.batch_id: one for one in pending.select_related("started_by").order_by("-pk")}
    for row in rows:
        if row.state == State.QUEUED:
            yield _before_it_is_started(row, first[row.batch_id], batches.get(row.batch_id))
        elif row.state == State.SENT:
            yield _before_it_is_done(row, batches.get(row.batch_id), mine=row.started_by_id == user.pk)
        else:
            yield "", "", True


def _before_it_is_started(row, first, batch):
    if first.pk < row.pk:
        who = f", which {first.started_by} started," if first.started_by else ""
        return "wait", f"Waits until its unlock{who} is answered.", False
    if row.what == What.LOCK or batch is None:
        return "", "", True
    if batch.refusal in rules.BY_ANOTHER_PERSON:
        return "wait", f"Someone else has to do it: you {rules.BY_ANOTHER_PERSON[batch.refusal]}.", False
    return "bad", f"{_why_not(batch)} Start cancels it.", True


def _before_it_is_done(row, batch, *, mine):
    if row.what == What.LOCK and row.batch.status == Batch.Status.EXPORTED:
        return (
            "bad",
            "Exported meanwhile, so there is nothing to lock. Say Not done." if mine else "Exported meanwhile.",
            True,
        )
    if batch is None or batch.refusal in rules.BY_ANOTHER_PERSON:
        return "", "", True
    if not mine:
        return "bad", _why_not(batch), True
    return "bad", f"{_why_not(batch)} Don't unlock it. If you have not done it yet, say Not done.", True


def _why_not(batch):
    if batch.refusal == rules.Refusal.NOT_UNLOCKING:
        return "Exported meanwhile." if batch.status == Batch.Status.EXPORTED else "The customer withdrew."
    return rules.sentence(batch.refusal, batch)


@admin.register(Instruction, site=desk)
class InstructionAdmin(ReadOnlyAdmin):
    list_per_page = list_max_show_all = 100
    row_is, rows_are = "batch", "batches"
    list_display_links = None
    list_select_related = ("batch__account", "act", "started_by", "line")
    list_filter = (PartFilter, by_column("what"))
    sortable_by = ()
    search_fields = ("batch__number_plain",)
    search_help_text = "Whole batch number, account number, or reference of a request (UR-000123)"

    @property
    def list_name(self):
        return f"To do in {settings.VENDOR_NAME}" if by_hand() else "Instructions"

    footer_name = list_name

    def get_urls(self):
        pages = {self.name_of(page) for page in ("changelist", "file", "views", "view")}
        return [address for address in super().get_urls() if address.name in pages]

    def told(self, request, rows):
        rows = list(rows)
        judged = _judged(rows, request.user)
        for row, to_know in zip(rows, judged, strict=True):
            row.tone, row.remark, row.may_be_done = to_know
        return rows

    def get_changelist(self, request, **kwargs):
        return Work

    def get_ordering(self, request):
        return parts(request.user)[part_of(request)].order

    def get_list_display(self, request):
        part = part_of(request)
        return [
            *(["action_checkbox"] if self._forms(request) else []),
            "what_text",
            "numbered",
            "on_account",
            "money_text",
            "in_request",
            "instructed",
            *(["started"] if part == "others" else []),
            *(["to_know"] if part in ("waiting", "mine", "others") else ["state_tag", "answer_text"]),
        ]

    def matching(self, term):
        spellings = normalize.spellings(term)
        found = Q(batch__in=keys(Batch.objects.filter(number_plain__in=spellings)))
        found |= Q(batch__account__in=keys(Account.objects.filter(number_plain__in=spellings)))
        if reference := re.fullmatch(r"(?:UR-?)?0*([0-9]{1,15})", term, re.IGNORECASE):
            found |= Q(line__unlock_request=int(reference[1]))
        try:
            return found | Q(key=uuid.UUID(term))
        except ValueError:
            return found

    # The columns

    money_text = column("Total", "batch.total", money)
    on_account = column("Account", "batch.account", account_link)

    def action_checkbox(self, row):
        """Return the tick box of a row; one that can't be picked is disabled, and Django's script leaves it out."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" {} {} aria-label="{} batch {} of {}">',
            ACTION_CHECKBOX_NAME,
            row.pk,
            mark_safe('class="action-select"') if row.may_be_done else "disabled",
            "checked" if row.ticked and row.may_be_done else "",
            row.get_what_display(),
            row.batch.number,
            row.batch.account.name,
        )

    @admin.display(description="What")
    def what_text(self, row):
        return tag("good" if row.what == What.UNLOCK else "info", row.get_what_display())

    @admin.display(description="Batch")
    def numbered(self, row):
        return format_html(
            '<a class="nowrap" href="{}">{}</a><br><span class="muted small">{}</span>',
            reverse("admin:unlocks_batch_change", args=[row.batch_id]),
            row.batch.number,
            row.batch.name,
        )

    @admin.display(description="Request")
    def in_request(self, row):
        unlock_request = UnlockRequest(pk=row.line.unlock_request_id)
        return format_html('<a class="nowrap" href="{}">{}</a>', unlock_request.get_absolute_url(), unlock_request)

    @admin.display(description="Instructed")
    def instructed(self, row):
        return _by_and_since(row.act.actor, row.queued_at)

    @admin.display(description="Started")
    def started(self, row):
        return _by_and_since(row.started_by or "the desk, in the product", row.sent_at)

    @admin.display(description="To know first")
    def to_know(self, row):
        state = (
            ""
            if row.state in (State.QUEUED, State.SENT)
            else tag(INSTRUCTION_TONES[row.state], row.get_state_display())
        )
        return format_html('{} <span class="{}">{}</span>', state, f"note {row.tone}" if row.tone else "", row.remark)

    @admin.display(description="State")
    def state_tag(self, row):
        at = row.done_at or row.sent_at
        when = format_html('<span class="small muted nowrap">{}</span>', moment(at)) if at else ""
        return format_html("{}{}", tag(INSTRUCTION_TONES[row.state], row.get_state_display()), when)

    @admin.display(description="Answer")
    def answer_text(self, row):
        by = format_html('<br><span class="small muted">by {}</span>', row.started_by) if row.started_by else ""
        return format_html("{}{}", row.answer, by) if row.answer or by else None

    # The page

    def changelist_view(self, request, extra_context=None):
        """Show a part of the list; on POST do what the form says to what was picked there."""
        form_class = self._form_of(request)
        form = form_class(request.POST or None, ticked=request.POST.getlist(ACTION_CHECKBOX_NAME))
        if request.method == "POST" and (said := self._carry_out(request, form)) is not None:
            for level, message in said:
                self.message_user(request, message, getattr(messages, level.upper()))
            return redirect(self._afterwards(request, form))
        part = part_of(request)
        context = {"form": form, "forms": self._forms(request), "part": part, "empty": parts(request.user)[part].empty}
        context["by_hand"] = by_hand()
        response = super().changelist_view(request, context | (extra_context or {}))
        if form.errors:
            response.status_code = 422
        return response

    def _forms(self, request):
        """Return the forms of the part that is shown, by verb, that this person may send."""
        verbs = parts(request.user)[part_of(request)].verbs
        return {verb: WORK_FORMS[verb] for verb in verbs if request.user.has_perm(WORK_FORMS[verb].permission)}

    def _form_of(self, request):
        """Return the class of the form that a POST names; one that refuses where it names none."""
        if request.method != "POST":
            return WorkForm
        if not all(is_key(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest("What was ticked names no row.")
        forms = self._forms(request)
        if not forms:
            raise PermissionDenied
        verb = request.POST.get("verb", "")
        if verb and verb not in forms:
            raise BadRequest("There is no such verb.")
        return forms.get(verb, WorkForm)

    def _carry_out(self, request, form):
        if not form.is_valid():
            return None
        every = form.cleaned_data["all"]
        picked = form.meant(self._listed(request)) if every else Instruction.objects.filter(pk__in=form.ticked)
        return form.carry_out(picked, Actor.staff(request.user, request))

    def _listed(self, request):
        """Return all that the list shows, on every page; the one that was shown may be gone by now."""
        try:
            return self.get_changelist_instance(on_first_page(request)).queryset
        except IncorrectLookupParameters:
            raise BadRequest("There is no such list.") from None

    def _afterwards(self, request, form):
        """Return where to go on: what is started now is the person's own, and a page may be gone."""
        if form.verb == "start" and Instruction.objects.filter(parts(request.user)["mine"].rows).exists():
            return f"{request.path}?{PartFilter.parameter_name}=mine"
        return f"{request.path}?{on_first_page(request).GET.urlencode()}"


def _by_and_since(who, at):
    return format_html(
        '<span class="nowrap">{}</span><br><span class="muted small nowrap">{} · {}</span>', who, moment(at), ago(at)
    )
