"""The request list, and the ways from it to opening a request and to the page of one."""

import re

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Q
from django.http import StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..models import Act, Batch, Consent, RequestedBatch, UnlockRequest
from ..models.consents import consented, how_consented
from ..models.ordering import UnknownLast
from ..signin import showed
from ..templatetags.desk import RECORDED_BY_PHONE, ago, nowrap, tag, thousands
from ..texts import normalize
from ..texts.formats import moment, money
from . import queue
from .changes import changes_page
from .filters import AccountFilter, AtLeast, AtMost, ChoiceFilter, OneClickFilter, Since, Until, by_column
from .histories import DeskAdmin
from .lists import account_is, column, freeze, keys
from .opening import find_accounts, open_request
from .phone_consent import record_by_phone_page
from .request_page import find_request, live_parts, request_page
from .site import desk
from .tags import standing, with_what_became_of_it

Step = UnlockRequest.Step


class StatusFilter(OneClickFilter):
    """The requests by what they wait for, in one click."""

    title = "status"
    parameter_name = "show"

    def lookups(self, request, model_admin):
        sections = [(key, queue.title(section)) for key, section in queue.SECTIONS.items()]
        return [("mine", "My open requests"), *sections, ("closed", "Closed")]

    def queryset(self, request, queryset):
        if self.value() in queue.SECTIONS:
            return queue.in_section(queryset, self.value())
        if self.value() == "mine":
            return queryset.filter(assignee=request.user).exclude(status=UnlockRequest.Status.CLOSED)
        return queryset.filter(status=UnlockRequest.Status.CLOSED) if self.value() == "closed" else queryset


class AssigneeFilter(ChoiceFilter):
    """The requests of a colleague; `me` is whoever looks, so that a view with it serves everyone."""

    title = "assigned to"
    parameter_name = "assignee"

    def options(self):
        staff = User.objects.filter(is_staff=True).order_by("-is_active", "username")
        return [
            ("me", "Me"),
            ("team", "My team"),
            ("nobody", "Nobody"),
            *((str(one.pk), f"{one}{'' if one.is_active else ' (deactivated)'}") for one in staff),
        ]

    def narrow(self, queryset, key):
        if key == "team":
            return queue.those_of(queryset, key, self.user)
        return queryset.filter(assignee={"me": self.user.pk, "nobody": None}.get(key, key))


class HowFilter(ChoiceFilter):
    """The requests whose latest answer came this way, as the list marks them."""

    title = "consent given"
    parameter_name = "how"

    def options(self):
        return Consent.How.choices

    def narrow(self, queryset, how):
        return consented(queryset, how)


class OpenedByFilter(ChoiceFilter):
    title, parameter_name = "opened by", "opened_by"

    def options(self):
        # A system opens requests too, and is no staff.
        return [(str(one.pk), str(one)) for one in User.objects.order_by("username")]

    def narrow(self, queryset, key):
        return queryset.filter(opened_by=key)


class StepFilter(ChoiceFilter):
    """The requests that came to a step; the days of the filters beside it are those on which they first did."""

    title, parameter_name = "step reached", "step"

    def options(self):
        return Step.choices

    def narrow(self, queryset, step):
        return queryset.filter(**{f"{step}_at__isnull": False})


class _OfStep:
    """A day on which requests first came to the step that is chosen, or were opened."""

    def __init__(self, request, *args):
        step = request.GET.get(StepFilter.parameter_name)
        step = Step(step) if step in Step else Step.OPENED
        self.path, self.title = f"{step}_at", f"{step.label.lower()} {self.parameter_name}"
        super().__init__(request, *args)


class StepSince(_OfStep, Since):
    parameter_name = "since"


class StepUntil(_OfStep, Until):
    parameter_name = "until"


class AmountFrom(AtLeast):
    title, parameter_name = "total from", "total_from"


class AmountTo(AtMost):
    title, parameter_name = "total to", "total_to"


def _ago_and_when(at):
    return format_html(
        '<span class="nowrap">{}</span><br><span class="muted small nowrap">{}</span>', ago(at), moment(at)
    )


@admin.register(UnlockRequest, site=desk)
class UnlockRequestAdmin(DeskAdmin):
    list_name = "Requests"
    row_is, rows_are = "request", "requests"
    list_display = (
        "case",
        "in_account",
        "asked_by",
        "status_tag",
        "bypass_reason",
        "batches",
        "total",
        "assigned_to",
        "opened",
        "in_stage",
    )
    list_display_links = ("case",)
    list_select_related = ("account", "requester", "assignee")
    list_filter = (
        StatusFilter,
        AssigneeFilter,
        AccountFilter,
        by_column("bypass_reason"),
        by_column("channel"),
        by_column("resolution"),
        HowFilter,
        StepFilter,
        StepSince,
        StepUntil,
        AmountFrom,
        AmountTo,
        by_column("stage"),
        by_column("advice"),
        OpenedByFilter,
        by_column("rework"),
        by_column("warned"),
    )
    search_fields = ("account__number",)
    search_help_text = "Reference (UR-000123), account number or batch number"
    actions = ("unlock_their_batches", "take", "case_files")

    # Permissions. Requests are changed by verbs, never in a form.

    def has_add_permission(self, request):
        return request.user.has_perm(operations.open_request.permission)

    def has_change_permission(self, request, obj=None):
        return False

    def has_unlock_permission(self, request):
        return request.user.has_perm(operations.unlock.permission)

    def has_take_permission(self, request):
        return request.user.has_perm(operations.open_request.permission)

    def has_case_files_permission(self, request):
        return request.user.has_perm(operations.order_case_files.permission)

    # The list

    def get_queryset(self, request):
        return with_what_became_of_it(super().get_queryset(request)).annotate(how=how_consented(OuterRef("pk")))

    def matching(self, term):
        lines = RequestedBatch.objects.filter(batch__number_plain__in=normalize.spellings(term))
        found = account_is(term) | Q(pk__in=keys(lines, "unlock_request"))
        if reference := re.fullmatch(r"(?:UR-?)?0*([0-9]{1,15})", term, re.IGNORECASE):
            found |= Q(pk=int(reference[1]))
        return found

    case = column("Reference", "reference", nowrap, ordering="-id")
    in_account = column("Account", "account", ordering="account__number")
    asked_by = column("Asked by", "requester.name")
    batches = column("Batches", "batch_count", thousands)
    total = column("Total", "amount", money)
    opened = column("Opened", "opened_at", _ago_and_when, ordering="-id")

    @admin.display(description="Status", ordering="status")
    def status_tag(self, obj):
        by_phone = [RECORDED_BY_PHONE] if obj.how == Consent.How.PHONE else []
        return format_html_join(" ", "{}", ((tag(*one),) for one in [*standing(obj), *by_phone]))

    @admin.display(description="Assigned to", empty_value="Nobody")
    def assigned_to(self, obj):
        return obj.assignee and obj.assignee.get_username()

    @admin.display(description="In this stage", ordering=UnknownLast("stage_since"))
    def in_stage(self, obj):
        time, missed = queue.in_stage(obj, timezone.now())
        return tag("bad", time) if missed else time and nowrap(time)

    # The bulk actions

    @admin.action(description="Unlock the batches of selected requests", permissions=["unlock"])
    def unlock_their_batches(self, request, queryset):
        lines = RequestedBatch.objects.filter(
            unlock_request__in=queryset.order_by().values("pk"), outcome__in=RequestedBatch.OPEN
        )
        selection = freeze(request, Batch.objects.filter(pk__in=lines.values("batch")))
        return redirect("admin:selection_act", selection.pk, Act.Kind.UNLOCK)

    @admin.action(description="Take selected requests", permissions=["take"])
    def take(self, request, queryset):
        taken, refused = [], []
        for case in queryset.select_related(None).order_by("pk"):
            try:
                operations.assign(case, to=request.user, by=Actor.staff(request.user, request))
            except operations.Refused as why:
                refused.append(f"{case}: {why}")
            else:
                taken.append(case.reference)
        if taken:
            self.message_user(request, f"Yours now: {', '.join(taken)}.", messages.SUCCESS)
        if refused:
            self.message_user(request, "\n".join(["Not taken:", *refused]), messages.WARNING)

    @admin.action(description="Case files of selected requests (ZIP)", permissions=["case_files"])
    def case_files(self, request, queryset):
        picked = UnlockRequest.objects.filter(pk__in=queryset.order_by().values("pk"))
        all_shown = request.POST.get("select_across") == "1"
        narrowed = self.get_changelist_instance(request).narrowed if all_shown else ["Chosen one by one"]
        try:
            ordered = operations.order_case_files(picked, narrowed=narrowed, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            return self.message_user(request, str(refused), messages.ERROR)
        return redirect("admin:unlocks_casefiles_change", ordered.pk)

    # The pages

    def get_urls(self):
        by_phone = self.admin_site.admin_view(record_by_phone_page)
        changed = self.admin_site.admin_view(changes_page)
        find = self.admin_site.admin_view(find_accounts)
        return [
            path("accounts/", find, name="find_accounts"),
            path("<path:object_id>/record-by-phone/", by_phone, name="record_by_phone"),
            path("<path:object_id>/changes/", changed, name="changes_while_unlocked"),
            path("<path:object_id>/case-file/", self.admin_site.admin_view(self.case_file_view), name="case_file"),
            path("<path:object_id>/live/", self.admin_site.admin_view(self.live_view), name="live_case"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    def live_view(self, request, object_id):
        """Answer a page that follows a case: what changed since, or nothing."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return live_parts(request, object_id)

    @method_decorator(require_POST)
    def case_file_view(self, request, object_id):
        """Send the case file of a request, once it is on record who got it."""
        if not request.user.has_perm(operations.make_case_file.permission):
            raise PermissionDenied
        case = find_request(object_id, request.user)
        if asked := showed.before_file(request, case.get_absolute_url()):
            return asked
        try:
            made = operations.make_case_file(case, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            messages.error(request, f"No case file was made. {refused}")
            return redirect(case)
        headers = {"Content-Disposition": content_disposition_header(True, made.name)}
        return StreamingHttpResponse(made.zip(), content_type="application/zip", headers=headers)

    def add_view(self, request, form_url="", extra_context=None):
        if not self.has_add_permission(request):
            raise PermissionDenied
        return open_request(request)

    @method_decorator(sensitive_post_parameters("pin"))
    def change_view(self, request, object_id, form_url="", extra_context=None):
        if not self.has_view_permission(request):
            raise PermissionDenied
        return request_page(request, object_id)
