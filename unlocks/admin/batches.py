"""The batch list with its verdicts and bulk actions, and the page of a batch. No form edits a status."""

import json
from functools import partial

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Count, F, Prefetch, Q, Sum
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_safe

from .. import operations, rules
from ..models import Batch, BatchItem, RequestedBatch, UnlockRequest
from ..models.ordering import UnknownLast
from ..templatetags.desk import nowrap, recorded_by_phone, tag, thousands
from ..texts.formats import day, moment, money
from .bulk_actions import WORDS
from .doubts import is_outdated, with_doubts
from .filters import AccountFilter, DayFilter, OneClickFilter, by_column
from .histories import DeskAdmin
from .instructed import how_far
from .lists import (
    DeskList,
    ReadOnly,
    account_is,
    accounts_numbered,
    by_number,
    column,
    freeze,
    starts_with,
)
from .site import desk
from .tags import (
    BATCH_TONES,
    INSTRUCTION_TONES,
    ON_ITS_WAY,
    in_words,
    verdict,
    with_recorded_by_phone,
    with_what_became_of_it,
)

ITEMS_A_PAGE = 100
LISTED_REQUESTS = LISTED_INSTRUCTIONS = 20


class StatusFilter(OneClickFilter):
    title = "status"
    parameter_name = "show"

    def lookups(self, request, model_admin):
        return [
            ("ready", "Ready to unlock"),
            ("bypassed", "Bypassed"),
            ("unlocking", "Unlocking"),
            ("unlocked", "Unlocked"),
            ("relocking", "Relocking"),
            ("exported", "Exported"),
            ("posted", "Posted"),
            ("pending", "Pending"),
        ]

    def queryset(self, request, queryset):
        if self.value() == "ready":
            # Only what a consent covers is judged: all others would be judged for nothing. By an F() the line is joined
            # once.
            judged = rules.judged(queryset, by=request.user).alias(consented=F("line__consented"))
            return judged.filter(consented__isnull=False, refusal="")
        if self.value():
            return queryset.filter(status=self.value())
        return queryset


class BypassedSince(DayFilter):
    title = "bypassed since"
    parameter_name = "bypassed_since"

    def narrow(self, queryset, day):
        return queryset.filter(bypassed_on__gte=day)


class JudgedList(DeskList):
    """A page of batches, judged by their keys: the rows of other pages are not judged for nothing."""

    def get_results(self, request):
        super().get_results(request)
        rows = self.result_list
        if not self.multi_page:  # otherwise the paginator has read the keys already
            rows = rows.filter(pk__in=list(rows.values_list("pk", flat=True)))
        self.result_list = self.model_admin.told(request, rows)


def account_link(account):
    return format_html(
        '<a href="{}">{}</a> <span class="muted nowrap">{}</span>',
        reverse("admin:unlocks_account_change", args=[account.pk]),
        account.name,
        account.number,
    )


def _short(batch):
    """Return why a batch can't be unlocked, in a few words; '' where the tag says it."""
    if batch.status == Batch.Status.UNLOCKED:
        return f"until {moment(batch.unlocked_until)}"
    if batch.refusal in ON_ITS_WAY or batch.refusal in rules.BY_ANOTHER_PERSON:
        return ""
    return batch.refusal.replace("_", " ").capitalize()


@admin.register(Batch, site=desk)
class BatchAdmin(ReadOnly, DeskAdmin):
    comes_by_import = True
    empty_list = "No batch is on file yet. A manager imports batches from files, or the product sends them."
    list_display = (
        "numbered",
        "name",
        "on_account",
        "status_tag",
        "bypassed",
        "count_text",
        "money_text",
        "verdict_text",
    )
    list_display_links = ("numbered",)
    list_filter = (StatusFilter, AccountFilter, BypassedSince, by_column("period_closed"))
    sortable_by = ("numbered", "bypassed")
    search_fields = ("number_plain",)
    search_help_text = "Batch number or the start of one, or a whole account number"
    actions = ("open_a_request",)

    def get_changelist(self, request, **kwargs):
        return JudgedList

    def told(self, request, rows):
        return with_recorded_by_phone(rules.judged(rows, by=request.user))

    def get_ordering(self, request):
        # In the order of the index that the search reads, which is not that of an account; otherwise the newest first.
        if not (term := request.GET.get("q", "").replace("\0", "").strip()):
            return ("-id",)
        return (by_number().asc() if accounts_numbered(term).exists() else "number_plain", "-id")

    def matching(self, term):
        return starts_with("number_plain", term) | account_is(term)

    numbered = column("Number", "number", ordering="number_plain")
    on_account = column("Account", "account", account_link)
    bypassed = column("Bypassed on", "bypassed_on", lambda on: nowrap(day(on)), ordering=UnknownLast("bypassed_on"))
    count_text = column("Items", "item_count", thousands)
    money_text = column("Total", "total", money)

    @admin.display(description="Status", ordering="status")
    def status_tag(self, batch):
        return tag(BATCH_TONES[batch.status], batch.get_status_display())

    @admin.display(description="Can it be unlocked?")
    def verdict_text(self, batch):
        by_phone = recorded_by_phone() if batch.recorded_by_phone else ""
        tags = format_html("{} {}", tag(*verdict(batch.refusal)), by_phone)
        if not batch.refusal:
            return tags
        return format_html(
            '<details class="why" name="why"><summary>{} <span class="small">{}</span></summary><p>{}</p></details>',
            tags,
            _short(batch),
            rules.sentence(batch.refusal, batch),
        )

    # The actions. Each keeps the picked set as it is now; the page that follows shows and acts on just that.

    def has_open_request_permission(self, request):
        return request.user.has_perm(operations.open_request.permission)

    def get_actions(self, request):
        """Offer each bulk action to whoever may carry it out."""
        bulk = {
            f"{kind}_selected": (partial(_preview, kind), f"{kind}_selected", WORDS[kind].choice)
            for kind, action in operations.ACTIONS.items()
            if request.user.has_perm(action.permission)
        }
        return bulk | super().get_actions(request)

    @admin.action(description="Open a request for selected batches", permissions=["open_request"])
    def open_a_request(self, request, queryset):
        return redirect(f"{reverse('admin:unlocks_unlockrequest_add')}?selection={freeze(request, queryset).pk}")

    # The page

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("account")

    def changelist_view(self, request, extra_context=None):
        orders = operations.waiting_orders(request.user)
        return super().changelist_view(request, {"orders": orders, **(extra_context or {})})

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show the batch, the verdict on it, its items, its requests, and what the product was asked."""
        judged = with_doubts(rules.judged(Batch.objects.filter(pk=self.found(request, object_id).pk), by=request.user))
        batch = judged.select_related("account", "unlocked_by", "grant__consent").get()
        requests = Prefetch("unlock_request", with_what_became_of_it(UnlockRequest.objects.all()))
        lines = batch.lines.select_related("consented__consent__recorded_by").prefetch_related(requests)
        lines = list(lines.defer("consented__consent__text").order_by("-id")[:LISTED_REQUESTS])
        instructions = list(batch.instructions.select_related("started_by")[:LISTED_INSTRUCTIONS])
        under = [line.consented.consent for line in lines if line.outcome in RequestedBatch.OPEN and line.consented]
        return desk.page(
            request,
            "admin/unlocks/batch/change_form.html",
            title=f"Batch {batch.number}",
            original=batch,
            sentence=rules.sentence(batch.refusal, batch),
            reference=batch.open_request and UnlockRequest.reference_of(batch.open_request),
            tone=BATCH_TONES[batch.status],
            outdated=is_outdated(batch.as_of),
            # What is not listed any more comes last.
            items=Paginator(batch.items.order_by(F("left_at").asc(nulls_first=True), "id"), ITEMS_A_PAGE).get_page(
                request.GET.get("items")
            ),
            listed=batch.items.listed().aggregate(
                n=Count("pk"), amount=Sum("amount"), flagged=Count("pk", filter=~Q(export_id=""))
            ),
            lines=[(line, in_words(line.unlock_request)) for line in lines],
            instructions=[(one, INSTRUCTION_TONES[one.state]) for one in instructions],
            how_far=how_far(instructions[0]) if instructions else "",
            consent=next(iter(under), None),
            may_open=self.has_open_request_permission(request),
        )


@admin.register(BatchItem, site=desk)
class BatchItemAdmin(ReadOnly, DeskAdmin):
    """The page and the history of one transaction; staff come here from its batch."""

    list_display = ("number", "kind", "batch", "date", "customer", "money_text")
    list_select_related = ("batch",)
    sortable_by = ()
    ordering = ("-id",)
    fields = (
        "batch",
        "kind",
        "number",
        "date",
        "customer",
        "money_text",
        "memo",
        "export_id",
        "job_number",
        "business_unit",
        "content",
        "disposition",
        "left_at",
        "external_id",
    )

    def has_module_permission(self, request):
        return False

    money_text = column("Amount", "amount", money)

    @admin.display(description="Lines")
    def content(self, item):
        lines = [" · ".join(filter(None, map(line.get, item.LINE))) for line in json.loads(item.lines)]
        return "\n".join(lines) or self.get_empty_value_display()


def _preview(kind, model_admin, request, queryset):
    return redirect("admin:selection_act", freeze(request, queryset).pk, kind)
