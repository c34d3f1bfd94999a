"""The audit log: the ledger's entries, narrowed by who, what, where, when and how much."""

import json
import re
from functools import reduce
from itertools import product
from operator import and_, itemgetter, or_

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator, validate_ipv46_address
from django.db import connection
from django.db.models import Prefetch, Q
from django.shortcuts import redirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..ledger import chain, events
from ..models import BY_CUSTOMERS, BY_THE_DESK, Account, Batch, LedgerEntry, RequestedBatch, UnlockRequest, Verdict
from ..rules import short_name
from ..templatetags.desk import nowrap, tag
from ..texts import normalize
from ..texts.formats import moment_with_seconds, money
from .batches import account_link
from .filters import AccountFilter, AtLeast, AtMost, ChoiceFilter, ChoicesFilter, Filter, Since, Until
from .lists import KeysetList, ReadOnlyAdmin, accounts_numbered, column, keys
from .record import state_of_record
from .site import desk

GROUPS = {
    "unlocks": (
        "Unlocks and relocks",
        (
            events.UnlockInstructed,
            events.UnlockCanceled,
            events.Unlocked,
            events.UnlockedLate,
            events.WindowExtended,
            events.RelockInstructed,
            events.Relocked,
            events.ReExported,
        ),
    ),
    "refusals": (
        "Refusals",
        (
            events.UnlockRefused,
            events.ProductRefused,
            events.RelockRefused,
            events.Declined,
            events.StaffRefused,
            events.PinLocked,
        ),
    ),
    "consents": (
        "Consents",
        (
            events.LinkSent,
            events.LinkOpened,
            events.LinkRevoked,
            events.Consented,
            events.RecordedByPhone,
            events.Declined,
            events.Withdrawn,
            events.EvidenceAttached,
            events.ReceiptResent,
            events.Certified,
            events.CertificateKey,
            events.TermsDrafted,
            events.TermsPublished,
        ),
    ),
    "phone": ("By phone", (events.RecordedByPhone, events.PinTyped, events.EvidenceAttached)),
    "pins": (
        "PINs",
        (
            events.PinDrawn,
            events.PinDropped,
            events.PinIssued,
            events.PinTyped,
            events.PinVerified,
            events.PinWrong,
            events.PinLocked,
        ),
    ),
    "requests": (
        "Requests",
        (
            events.Opened,
            events.BatchesAdded,
            events.BatchesTakenOut,
            events.Note,
            events.Assigned,
            events.Advised,
            events.Closed,
        ),
    ),
    "reviews": ("Reviews", (events.ReviewDue, events.SignedOff, events.Flagged, events.FlagResolved)),
    "people": (
        "Accounts, contacts and staff",
        (
            events.AccountChanged,
            events.ContactChanged,
            events.ContactConfirmed,
            events.StaffChanged,
            events.ApiTokenMade,
            events.ApiTokenRevoked,
        ),
    ),
    "sign_ins": (
        "Signing in",
        (
            events.SignedIn,
            events.FirstStep,
            events.SignInFailed,
            events.SessionEnded,
            events.BreakGlassUsed,
            events.StaffLinkSent,
            events.StaffLinkUsed,
            events.FactorResetAsked,
        ),
    ),
    "emails": ("Emails", (events.EmailSent, events.EmailFailed, events.EmailCanceled)),
    "product": (
        "The product and imports",
        (
            events.Unlocked,
            events.UnlockedLate,
            events.ProductRefused,
            events.Relocked,
            events.RelockRefused,
            events.Imported,
        ),
    ),
    "exports": (
        "Exports and opened evidence",
        (
            events.Exported,
            events.EvidenceOpened,
            events.CaseFileMade,
            events.CaseFilesOrdered,
            events.CaseFilesCanceled,
            events.CaseFilesMade,
            events.CaseFilesTaken,
        ),
    ),
    "record": (
        "The record itself",
        (
            events.Sealed,
            events.Anchored,
            events.VerificationOrdered,
            events.Verified,
            events.NotVerified,
            events.Restored,
        ),
    ),
}
# Who acts and is no user: as the address says it, in words, and which entries are theirs.
OTHERS = {
    "desk": ("The desk itself", lambda: [BY_THE_DESK]),
    "product": ("The product", lambda: [Q(user__isnull=True, actor=Actor.product().name)]),
    "customers": ("Customers", lambda: [BY_CUSTOMERS]),
}


class Parts:
    """A filter that leaves the entries of several parts, each of which has an index with their order.

    `LogList` narrows by them.
    """

    def parts(self):
        """Return the conditions of the parts that are chosen."""
        raise NotImplementedError

    def narrow(self, queryset, chosen):
        return queryset


class GroupFilter(Parts, ChoiceFilter):
    title, parameter_name = "what it is about", "group"

    def options(self):
        return [(key, label) for key, (label, _) in GROUPS.items()]

    def parts(self):
        return [Q(kind=kind.kind) for kind in GROUPS[self.chosen][1]]


class KindFilter(Parts, ChoicesFilter):
    title, parameter_name = "kind", "kind"

    def options(self):
        return sorted(((kind.kind, kind.label) for kind in events.KINDS.values()), key=itemgetter(1))

    def parts(self):
        return [Q(kind=kind) for kind in self.chosen]


class ActorFilter(Parts, ChoicesFilter):
    """The entries of these users, and of nobody whose name begins alike."""

    title, parameter_name = "who", "actor"

    def options(self):
        others = [(key, label) for key, (label, _) in OTHERS.items()]
        return [*others, *((str(user.pk), str(user)) for user in User.objects.order_by("username"))]

    def parts(self):
        return [part for key in self.chosen for part in (OTHERS[key][1]() if key in OTHERS else [Q(user=key)])]


class OwnFilter(ChoiceFilter):
    title, parameter_name = "the desk’s own acts", "own"

    def options(self):
        return [("no", "Leave them out")]

    def narrow(self, queryset, value):
        return queryset.exclude(BY_THE_DESK)


class BatchFilter(Filter):
    """The entries whose act wrote a row of the batch with a number, in the batch's own requests."""

    title, parameter_name = "batch number", "batch"

    def make_field(self):
        return forms.CharField(max_length=40, required=False)

    def narrow(self, queryset, number):
        return queryset.filter(about_batches(number))


class RequestFilter(Filter):
    title, parameter_name = "request", "request"
    shape = re.compile(r"\s*(?:UR-?)?0*([0-9]{1,15})\s*", re.IGNORECASE)

    def make_field(self):
        return forms.CharField(required=False, validators=[RegexValidator(self.shape, "Write it as UR-000123.")])

    def narrow(self, queryset, reference):
        return queryset.filter(unlock_request=int(self.shape.fullmatch(reference)[1]))


class FieldFilter(ChoiceFilter):
    """The entries that tell of a change of one field."""

    title, parameter_name = "field changed", "field"

    def options(self):
        return _labeled("fields", events.field_label)

    def narrow(self, queryset, name):
        return queryset.filter(fields__in=_sets_with("fields", name))


class RefusalFilter(ChoiceFilter):
    """The entries that tell of batches that were not unlocked for one reason."""

    title, parameter_name = "why refused", "refusal"

    def options(self):
        return _labeled("refusals", short_name)

    def narrow(self, queryset, code):
        return queryset.filter(refusals__in=_sets_with("refusals", code))


class AddressFilter(Filter):
    title, parameter_name = "IP address", "ip"

    def make_field(self):
        return forms.GenericIPAddressField(required=False, unpack_ipv4=True)

    def narrow(self, queryset, address):
        return queryset.filter(ip=address)


class AmountFrom(AtLeast):
    title, parameter_name = "amount from", "amount_from"


class AmountTo(AtMost):
    title, parameter_name = "amount to", "amount_to"


class HappenedSince(Since):
    title = parameter_name = "since"
    path = "at"


class HappenedUntil(Until):
    title = parameter_name = "until"
    path = "at"


# In the words of the index's own condition: SQLite takes no others for it.
_SETS = """
WITH RECURSIVE step(names) AS (
    SELECT min({column}) FROM unlocks_ledgerentry WHERE NOT ({column} = '')
    UNION ALL
    SELECT (SELECT min(e.{column}) FROM unlocks_ledgerentry e WHERE NOT (e.{column} = '') AND e.{column} > step.names)
    FROM step WHERE step.names IS NOT NULL
) SELECT names FROM step WHERE names IS NOT NULL
"""


def about_batches(number):
    """Return the condition that an entry is about a batch with this number, by the rows that its act wrote."""
    batches = keys(Batch.objects.filter(number_plain__in=normalize.spellings(number)))
    lines = RequestedBatch.objects.filter(batch__in=batches)
    written = (
        keys(Batch.history.filter(id__in=batches), "history_act"),
        keys(RequestedBatch.history.filter(id__in=keys(lines)), "history_act"),
        keys(Verdict.objects.filter(batch__in=batches), "act_id"),
    )
    in_its_requests = Q(unlock_request=None) | Q(unlock_request__in=keys(lines, "unlock_request"))
    return Q(in_its_requests, act__in={act for acts in written for act in acts})


def _labeled(column, label):
    """Return the choices of what stands in a column of names, by their labels."""
    names = {name for together in _sets_of(column) for name in together.split()}
    return sorted(((name, label(name)) for name in names), key=itemgetter(1))


def _sets_with(column, name):
    return [together for together in _sets_of(column) if name in together.split()]


def _sets_of(column):
    """Return each set of names that ever stood together in a column, as that has it: by its index, one step each."""
    with connection.cursor() as cursor:
        cursor.execute(_SETS.format(column=connection.ops.quote_name(column)))
        return [together for (together,) in cursor.fetchall()]


def _readable(text):
    """Set a text out for reading; one that was tampered with may be no JSON any more."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


class LogList(KeysetList):
    """The audit log: of several kinds or people, a page is made of the first entries of each.

    PostgreSQL can't tell that someone never did something, and would walk through all that was ever done.
    """

    MOST_PARTS = 100

    def get_queryset(self, request, **kwargs):
        # Asked for once a page, or once a part of a file: a joined one is made again for each row.
        accounts = Prefetch("account", Account.objects.only("number", "name"))
        self.whole = super().get_queryset(request, **kwargs).prefetch_related(accounts)
        chosen = [spec.parts() for spec in self.filter_specs if isinstance(spec, Parts) and spec.is_on]
        self.parts = [reduce(and_, part) for part in product(*chosen)] if chosen else []
        return reduce(lambda rows, parts: rows.filter(reduce(or_, parts)), chosen, self.whole)

    def first(self, condition, order, n):
        by_parts = connection.features.supports_slicing_ordering_in_compound
        if not (by_parts and 1 < len(self.parts) <= self.MOST_PARTS):
            return super().first(condition, order, n)
        rows = self.whole.filter(condition).order_by(*order)
        first, *others = (rows.filter(part).values_list("pk", flat=True)[:n] for part in self.parts)
        return super().first(Q(pk__in=list(first.union(*others, all=True))), order, n)


def event_of(entry):
    """Return the event of an entry, which is read and verified once."""
    if not hasattr(entry, "event"):
        entry.event = chain.event_of(entry)
    return entry.event


def reference(entry):
    return entry.unlock_request_id and UnlockRequest.reference_of(entry.unlock_request_id)


def sentence(entry):
    return f"{event_of(entry).label}{event_of(entry).rest}"


def _is_address(term):
    try:
        validate_ipv46_address(term)
    except ValidationError:
        return False
    return True


@admin.register(LedgerEntry, site=desk)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("happened", "who", "what", "why", "in_account", "total", "case")
    in_file = (
        "sequence",
        "happened",
        "actor",
        "ip",
        "kind_label",
        "what",
        "why",
        "account_number",
        "account_name",
        "batches",
        "total",
        "case",
    )
    row_is, rows_are = "entry", "entries"
    list_name = "Audit log"
    list_filter = (
        GroupFilter,
        AccountFilter,
        BatchFilter,
        RequestFilter,
        HappenedSince,
        HappenedUntil,
        AmountFrom,
        AmountTo,
        FieldFilter,
        RefusalFilter,
        AddressFilter,
        OwnFilter,
        KindFilter,
        ActorFilter,
    )
    sortable_by = ()
    ordering = ("-at", "-sequence")
    search_fields = ("actor",)
    search_help_text = "Reference of a request (UR-000123), number of an account or batch, username or IP address"

    def get_changelist(self, request, **kwargs):
        return LogList

    def matching(self, term):
        """Find the first that it can be: a request, who acted, an account or a batch, or where from."""
        if reference := re.fullmatch(r"UR-?0*([0-9]{1,15})", term, re.IGNORECASE):
            return Q(unlock_request=int(reference[1]))
        if colleagues := keys(User.objects.filter(username__iexact=term)):
            return Q(user__in=colleagues)
        if accounts := keys(accounts_numbered(term)):
            return Q(account__in=accounts)
        if _is_address(term):
            return Q(ip=term)
        return about_batches(term)

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

    happened = column("When", "at", lambda at: nowrap(moment_with_seconds(at)))
    in_account = column("Account", "account", account_link)
    total = column("Amount", "amount", money)

    @admin.display(description="Who")
    def who(self, entry):
        return format_html('{} <span class="small muted">{}</span>', entry.actor, entry.ip or "")

    @admin.display(description="What")
    def what(self, entry):
        event = event_of(entry)
        return format_html("{} {}", tag(event.tone, event.label), event.rest.lstrip(":, "))

    @admin.display(description="Why")
    def why(self, entry):
        return event_of(entry).quote

    @admin.display(description="Request")
    def case(self, entry):
        pk = entry.unlock_request_id
        address = pk and UnlockRequest(pk=pk).get_absolute_url()
        return address and format_html('<a class="nowrap" href="{}">{}</a>', address, reference(entry))

    what.plain = sentence
    case.plain = reference

    # What a file has besides.

    @admin.display(description="Kind")
    def kind_label(self, entry):
        return event_of(entry).label

    @admin.display(description="Account number")
    def account_number(self, entry):
        return entry.account and entry.account.number

    @admin.display(description="Account")
    def account_name(self, entry):
        return entry.account and entry.account.name

    @admin.display(description="Batches")
    def batches(self, entry):
        return getattr(event_of(entry), "batches", None)

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show an entry with all that its hash covers."""
        entry = self.found(request, object_id)
        event = event_of(entry)
        return desk.page(
            request,
            "admin/unlocks/ledgerentry/change_form.html",
            title=f"{event.label}: entry {entry.sequence:,}",
            entry=entry,
            event=event,
            facts=_readable(entry.facts),
            personal=_readable(entry.personal),
            older=LedgerEntry.objects.filter(sequence=entry.sequence - 1).first(),
            newer=LedgerEntry.objects.filter(sequence=entry.sequence + 1).first(),
        )
