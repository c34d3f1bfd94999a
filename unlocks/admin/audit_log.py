"""The audit log: the ledger's entries, to be looked at."""

import json
import re
from datetime import datetime, time, timedelta

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_safe

from ..ledger import chain
from ..models import LedgerEntry
from ..texts.formats import moment_with_seconds
from .base import DayFilter, ReadOnlyAdmin, is_key, tag
from .timeline import told

GOOD = {LedgerEntry.Kind.CONSENTED, LedgerEntry.Kind.UNLOCKED, LedgerEntry.Kind.PIN_VERIFIED}
BAD = {
    LedgerEntry.Kind.PIN_WRONG,
    LedgerEntry.Kind.PIN_LOCKED,
    LedgerEntry.Kind.STAFF_REFUSED,
    LedgerEntry.Kind.REFUSED,
    LedgerEntry.Kind.DECLINED,
    LedgerEntry.Kind.WITHDRAWN,
    LedgerEntry.Kind.EMAIL_FAILED,
}
# Weaker than what the customer did, and worth a look.
WAIT = {LedgerEntry.Kind.RECORDED_BY_PHONE, LedgerEntry.Kind.STAFF_CHANGED}
INFO = {LedgerEntry.Kind.EVIDENCE, LedgerEntry.Kind.CERTIFIED, LedgerEntry.Kind.TERMS_PUBLISHED}
TONES = {kind: tone for tone, kinds in {"good": GOOD, "bad": BAD, "wait": WAIT, "info": INFO}.items() for kind in kinds}
TERMS = {LedgerEntry.Kind.TERMS_DRAFTED, LedgerEntry.Kind.TERMS_PUBLISHED}


class Since(DayFilter):
    title = "since"
    parameter_name = "since"

    def narrow(self, queryset, day):
        return queryset.filter(at__gte=_midnight(day))


class Until(DayFilter):
    title = "until"
    parameter_name = "until"

    def narrow(self, queryset, day):
        return queryset.filter(at__lt=_midnight(day + timedelta(days=1)))


def _midnight(day):
    return timezone.make_aware(datetime.combine(day, time.min))


def _readable(body):
    """Set a body out for reading; one that was tampered with may be no JSON any more."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body


def _named(event):
    """Name what an entry without request and account is about, '' when it doesn't say (it may be tampered with)."""
    try:
        facts = event.facts
        if event.kind in TERMS:
            return f"Consent terms, version {facts['version']}"
        return f"Staff account {facts['username']}" if event.kind == LedgerEntry.Kind.STAFF_CHANGED else ""
    except (ValueError, TypeError, LookupError):
        return ""


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("sequence", "at_the_second", "what", "about", "actor", "from_where")
    list_select_related = ("unlock_request", "account")
    rows_are = "entries"
    list_filter = ("kind", Since, Until)
    sortable_by = ("sequence",)
    ordering = ("-sequence",)
    search_fields = ("actor",)
    search_help_text = "Reference of a request (UR-000123), or who acted"

    def matching(self, term):
        if reference := re.fullmatch(r"UR-?0*([0-9]{1,15})", term, re.IGNORECASE):
            return Q(unlock_request=int(reference[1]))
        return Q(actor__icontains=term)

    @admin.display(description="When", ordering="sequence")
    def at_the_second(self, event):
        return format_html('<span class="nowrap">{}</span>', moment_with_seconds(event.at))

    @admin.display(description="What")
    def what(self, event):
        return tag(TONES.get(event.kind, ""), event.get_kind_display())

    @admin.display(description="About")
    def about(self, event):
        if event.unlock_request:
            return format_html(
                '<a href="{}">{}</a>', event.unlock_request.get_absolute_url(), event.unlock_request.reference
            )
        return _named(event) or event.account

    @admin.display(description="From")
    def from_where(self, event):
        return event.ip

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show an entry with all that its hash covers."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        event = (
            is_key(object_id)
            and self.get_queryset(request)
            .select_related("unlock_request", "account", "user")
            .filter(pk=object_id)
            .first()
        )
        if not event:
            raise Http404("There is no such entry.")
        return TemplateResponse(
            request,
            "admin/unlocks/ledgerentry/change_form.html",
            {
                **self.admin_site.each_context(request),
                "title": f"{event.get_kind_display()}: entry {event.sequence:,}",
                "opts": self.opts,
                "event": event,
                "named": _named(event),
                "told": told(event) if event.kind == LedgerEntry.Kind.STAFF_CHANGED and chain.fits(event) else None,
                "body": _readable(event.body),
                "older": LedgerEntry.objects.filter(sequence=event.sequence - 1).first(),
                "newer": LedgerEntry.objects.filter(sequence=event.sequence + 1).first(),
            },
        )
