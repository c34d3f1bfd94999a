"""The request list, and the ways from it to opening a request and to the page of one."""

import re

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.shortcuts import redirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.views.decorators.debug import sensitive_post_parameters

from .. import operations
from ..actors import Actor
from ..models import Act, Batch, Consent, RequestedBatch, UnlockRequest
from ..templatetags.desk import RECORDED_BY_PHONE, ago, nowrap, tag, thousands
from ..texts import normalize
from ..texts.formats import moment, money
from .histories import DeskAdmin
from .lists import OneClickFilter, account_is, column, freeze, keys
from .opening import find_accounts, open_request
from .phone_consent import record_by_phone_page
from .request_page import request_page
from .site import SHOWN, desk, held_up_title
from .tags import how_consented, standing, with_what_became_of_it


class StatusFilter(OneClickFilter):
    """The requests by what they wait for, in one click."""

    title = "status"
    parameter_name = "show"

    def lookups(self, request, model_admin):
        return [
            ("mine", "My open requests"),
            ("waiting", "Waiting for the customer"),
            ("ready", "Ready to unlock"),
            ("under_way", "Unlocking or relocking"),
            ("held_up", held_up_title()),
            ("unlocked", "Unlocked"),
            ("to_close", "To be closed"),
            ("closed", "Closed"),
        ]

    def queryset(self, request, queryset):
        return SHOWN[self.value()](queryset, request.user) if self.value() in SHOWN else queryset


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
        "batch_count",
        "total",
        "assigned_to",
        "opened",
    )
    list_display_links = ("case",)
    list_select_related = ("account", "requester", "assignee")
    list_filter = (StatusFilter,)
    search_fields = ("account__number",)
    search_help_text = "Reference (UR-000123), account number or batch number"
    actions = ("unlock_their_batches", "take")

    # Permissions. Requests are changed by verbs, never in a form.

    def has_add_permission(self, request):
        return request.user.has_perm(operations.open_request.permission)

    def has_change_permission(self, request, obj=None):
        return False

    def has_unlock_permission(self, request):
        return request.user.has_perm(operations.unlock.permission)

    def has_take_permission(self, request):
        return request.user.has_perm(operations.open_request.permission)

    # The list

    def get_queryset(self, request):
        lines = RequestedBatch.objects.filter(unlock_request=OuterRef("pk")).order_by().values("unlock_request")
        return with_what_became_of_it(super().get_queryset(request)).annotate(
            batches=Coalesce(Subquery(lines.annotate(n=Count("pk")).values("n")), 0),
            amount=Subquery(lines.annotate(amount=Sum("batch__total")).values("amount")),
            how=how_consented(OuterRef("pk")),
        )

    def matching(self, term):
        lines = RequestedBatch.objects.filter(batch__number_plain__in=normalize.spellings(term))
        found = account_is(term) | Q(pk__in=keys(lines, "unlock_request"))
        if reference := re.fullmatch(r"(?:UR-?)?0*([0-9]{1,15})", term, re.IGNORECASE):
            found |= Q(pk=int(reference[1]))
        return found

    case = column("Reference", "reference", nowrap, ordering="-id")
    in_account = column("Account", "account", ordering="account__number")
    asked_by = column("Asked by", "requester.name")
    batch_count = column("Batches", "batches", thousands)
    total = column("Total", "amount", money)

    @admin.display(description="Status", ordering="status")
    def status_tag(self, obj):
        by_phone = [RECORDED_BY_PHONE] if obj.how == Consent.How.PHONE else []
        return format_html_join(" ", "{}", ((tag(*one),) for one in [*standing(obj), *by_phone]))

    @admin.display(description="Assigned to", empty_value="Nobody")
    def assigned_to(self, obj):
        return obj.assignee and obj.assignee.get_username()

    @admin.display(description="Opened", ordering="-id")
    def opened(self, obj):
        return format_html(
            '<span class="nowrap">{}</span><br><span class="muted small nowrap">{}</span>',
            ago(obj.opened_at),
            moment(obj.opened_at),
        )

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

    # The pages

    def get_urls(self):
        by_phone = self.admin_site.admin_view(record_by_phone_page)
        find = self.admin_site.admin_view(find_accounts)
        return [
            path("accounts/", find, name="find_accounts"),
            path("<path:object_id>/record-by-phone/", by_phone, name="record_by_phone"),
            *super().get_urls(),
        ]

    def add_view(self, request, form_url="", extra_context=None):
        if not self.has_add_permission(request):
            raise PermissionDenied
        return open_request(request)

    @method_decorator(sensitive_post_parameters("pin"))
    def change_view(self, request, object_id, form_url="", extra_context=None):
        if not self.has_view_permission(request):
            raise PermissionDenied
        return request_page(request, object_id)
