"""The reviews: closed cases that a second person looks at, those that wait, are flagged, or were reviewed."""

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_safe

from .. import operations
from ..models import Review, ReviewDecision, UnlockRequest
from ..templatetags.desk import nowrap, tag
from ..texts.formats import moment, money
from .batches import account_link
from .filters import OneClickFilter, Since, Until, by_column
from .lists import ReadOnlyAdmin, account_is, column, keys
from .site import desk

Decision = ReviewDecision.Decision
TONES = {None: "wait", Decision.SIGNED_OFF: "good", Decision.FLAGGED: "bad", Decision.RESOLVED: "good"}


class StateFilter(OneClickFilter):
    title = "state"
    parameter_name = "show"

    def lookups(self, request, model_admin):
        return [("waiting", "To review"), ("flagged", "Flagged"), ("reviewed", "Reviewed")]

    def queryset(self, request, queryset):
        decided = Exists(ReviewDecision.objects.filter(review=OuterRef("pk")))
        match self.value():
            case "waiting":
                return queryset.waiting()
            case "flagged":
                return queryset.flagged()
            case "reviewed":
                return queryset.filter(decided).exclude(state=Decision.FLAGGED)
        return queryset


class DueSince(Since):
    title, parameter_name, path = "closed since", "since", "due_at"


class DueUntil(Until):
    title, parameter_name, path = "closed until", "until", "due_at"


@admin.register(Review, site=desk)
class ReviewAdmin(ReadOnlyAdmin):
    list_name = "Reviews"
    row_is, rows_are = "case", "cases"
    list_display = ("in_request", "on_account", "why", "amount", "closed", "outcome", "reviewer", "decided")
    list_display_links = None
    list_select_related = ("unlock_request__account",)
    list_filter = (
        StateFilter,
        *map(by_column, Review.REASONS),
        DueSince,
        DueUntil,
    )
    sortable_by = ()
    ordering = ("-id",)
    search_fields = ("unlock_request__account__number",)
    search_help_text = "A whole account number"
    empty_list = "No closed case is to be reviewed."

    closed = column("Closed", "due_at", lambda at: nowrap(moment(at)))
    on_account = column("Account", "unlock_request.account", account_link)
    amount = column("Amount", "unlock_request.amount", lambda amount: nowrap(money(amount)))

    def get_queryset(self, request):
        return operations.with_state(super().get_queryset(request))

    def matching(self, term):
        return Q(unlock_request__in=keys(UnlockRequest.objects.filter(account_is(term))))

    @admin.display(description="Request")
    def in_request(self, review):
        return format_html(
            '<a class="nowrap" href="{}#review">{}</a>',
            review.unlock_request.get_absolute_url(),
            review.unlock_request.reference,
        )

    @admin.display(description="Why")
    def why(self, review):
        return ", ".join(review.reasons)

    @admin.display(description="State")
    def outcome(self, review):
        return tag(TONES[review.state], Decision(review.state).label if review.state else "To review")

    @admin.display(description="Reviewer")
    def reviewer(self, review):
        return review.decided_by

    @admin.display(description="Reviewed")
    def decided(self, review):
        return review.decided_at and nowrap(moment(review.decided_at))

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Lead to the case, where all of its evidence is."""
        return redirect(f"{self.found(request, object_id).unlock_request.get_absolute_url()}#review")
