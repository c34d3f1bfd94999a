"""The audit log: the ledger's entries, to be looked at."""

import json
import re
from operator import itemgetter

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Q
from django.shortcuts import redirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..ledger import chain, events
from ..models import LedgerEntry
from ..templatetags.desk import nowrap, tag
from ..texts.formats import moment_with_seconds
from .filters import ChoiceFilter, Since, Until
from .lists import ReadOnlyAdmin, column, keys, starts_with
from .record import state_of_record
from .site import desk


class KindFilter(ChoiceFilter):
    title = "kind"
    parameter_name = "kind__exact"

    def options(self):
        return sorted(((kind.kind, kind.label) for kind in events.KINDS.values()), key=itemgetter(1))

    def narrow(self, queryset, kind):
        return queryset.filter(kind=kind)


class HappenedSince(Since):
    title = parameter_name = "since"
    path = "at"


class HappenedUntil(Until):
    title = parameter_name = "until"
    path = "at"


def _readable(text):
    """Set a text out for reading; one that was tampered with may be no JSON any more."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _named(event):
    """Name what an entry without request and account is about; '' when it is about nothing with a name."""
    match event:
        case events.TermsDrafted() | events.TermsPublished():
            return f"Consent terms, version {event.version}"
        case events.StaffChanged():
            return f"Staff account {event.name}"
    return ""


@admin.register(LedgerEntry, site=desk)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("sequence", "at_the_second", "what", "about_what", "actor", "from_where")
    list_select_related = ("unlock_request", "account")
    row_is, rows_are = "entry", "entries"
    list_name = "Audit log"
    list_filter = (KindFilter, HappenedSince, HappenedUntil)
    sortable_by = ("sequence",)
    ordering = ("-at", "-sequence")
    search_fields = ("actor",)
    search_help_text = "Reference of a request (UR-000123), or who acted"

    def matching(self, term):
        if reference := re.fullmatch(r"UR-?0*([0-9]{1,15})", term, re.IGNORECASE):
            return Q(unlock_request=int(reference[1]))
        colleagues = keys(User.objects.filter(username__icontains=term))
        return starts_with("actor", term) | Q(user__in=colleagues)

    def get_urls(self):
        view = self.admin_site.admin_view(self.verify)
        return [path("verify/", view, name="unlocks_ledgerentry_verify"), *super().get_urls()]

    def changelist_view(self, request, extra_context=None):
        record = state_of_record(request.user)
        return super().changelist_view(request, {**(extra_context or {}), "record": record})

    @method_decorator(require_POST)
    def verify(self, request):
        """Have the worker verify the record, and show the list again."""
        if operations.order_verification(by=Actor.staff(request.user, request)):
            messages.success(request, "The worker verifies the record. What it found is shown here.")
        else:
            messages.info(request, "That is ordered already. What the worker found is shown here.")
        return redirect("admin:unlocks_ledgerentry_changelist")

    at_the_second = column("When", "at", lambda at: nowrap(moment_with_seconds(at)), ordering="at")
    from_where = column("From", "ip")

    @admin.display(description="What")
    def what(self, entry):
        event = chain.event_of(entry)
        return tag(event.tone, event.label)

    @admin.display(description="About")
    def about_what(self, entry):
        if entry.unlock_request:
            return format_html(
                '<a href="{}">{}</a>', entry.unlock_request.get_absolute_url(), entry.unlock_request.reference
            )
        return _named(chain.event_of(entry)) or entry.account

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show an entry with all that its hash covers."""
        entry = self.found(request, object_id)
        event = chain.event_of(entry)
        return desk.page(
            request,
            "admin/unlocks/ledgerentry/change_form.html",
            title=f"{event.label}: entry {entry.sequence:,}",
            entry=entry,
            event=event,
            named=_named(event),
            facts=_readable(entry.facts),
            personal=_readable(entry.personal),
            older=LedgerEntry.objects.filter(sequence=entry.sequence - 1).first(),
            newer=LedgerEntry.objects.filter(sequence=entry.sequence + 1).first(),
        )
