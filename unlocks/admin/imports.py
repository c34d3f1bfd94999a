"""Imports: uploading files, what they would change, what became of it, and confirming the contacts that came in."""

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db.models import F
from django.http import Http404, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from django.utils.text import capfirst
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from .. import operations
from ..actors import Actor
from ..customer.certificates import attachment
from ..imports import judging, samples
from ..imports.kinds import KINDS
from ..imports.problems import errors_csv
from ..ledger import chain, events
from ..models import Account, Batch, Contact, Import, ImportProblem, Judgment, LedgerEntry
from ..outbox import heartbeat
from ..templatetags.desk import nowrap, tag
from ..texts.fields import shown
from ..texts.formats import counted, moment, money
from . import files
from .filters import by_column
from .forms.imports import ConfirmImportForm, UploadForm
from .lists import ReadOnlyAdmin, column
from .next_step import ask
from .site import desk
from .tags import IMPORT_TONES

State = Import.State
LISTED = 8  # records of a group in the preview
LISTED_PROBLEMS = 20
LISTED_RE_EXPORTED = 50
CONTACTS_A_PAGE = 100
ENTRIES = 500  # of imports in the ledger, among which those of one are looked for
RE_EXPORT = operations.mark_re_exported.permission
FOLLOW = 3  # seconds, until a page looks again what became of an import

# How a batch came to its status, where the status does not say it.
NOT_USUAL = (Batch.ReachedBy.IMPORTED, Batch.ReachedBy.MARKED_BY_API, Batch.ReachedBy.ZERO_PAYMENT)
JUDGMENTS = {
    "new": "New",
    "changed": "Changed",
    "same": "As on file",
    "no_longer_listed": "No longer listed",
    "left_alone": "Left alone",
    "refused": "Refused",
}


@admin.register(Import, site=desk)
class ImportAdmin(ReadOnlyAdmin):
    list_name = footer_name = "Imports"
    empty_list = "Nothing was imported yet."
    list_display = ("named", "files_text", "state_tag", "source", "who", "at_when", "what")
    list_display_links = ("named",)
    list_filter = (by_column("state"), by_column("source"))
    sortable_by = ()

    who = column("By", "actor")
    at_when = column("When", "at", lambda at: nowrap(moment(at)))

    def has_add_permission(self, request):
        return request.user.has_perm(operations.stage_import.permission)

    def get_urls(self):
        pages = {
            "columns/": (self.columns, "unlocks_import_columns"),
            "<str:kind>/template.csv": (self.template, "unlocks_import_template"),
            "<str:kind>/sample.csv": (self.sample, "unlocks_import_sample"),
            "<uuid:pk>/errors.csv": (self.errors_csv, "unlocks_import_errors"),
            "<uuid:pk>/confirm/": (self.confirm, "unlocks_import_confirm"),
        }
        own = [path(at, self.admin_site.admin_view(view), name=name) for at, (view, name) in pages.items()]
        return [*own, *super().get_urls()]

    # The list

    named = column("Import", "__str__", lambda name: name())

    @admin.display(description="Files")
    def files_text(self, imported):
        names = [file["name"] for file in imported.files]
        return names[0] if len(names) == 1 else counted(len(names), "file", "files")

    @admin.display(description="State")
    def state_tag(self, imported):
        return tag(IMPORT_TONES[imported.state], imported.get_state_display())

    @admin.display(description="Records")
    def what(self, imported):
        totals = _totals(imported.counts)
        return " · ".join(f"{totals[name]:,} {said.lower()}" for name, said in JUDGMENTS.items() if totals.get(name))

    # The files

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def add_view(self, request, form_url="", extra_context=None):
        """Ask for files; on POST read them, and go on to what they would change."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        posted = request.method == "POST"
        form = UploadForm(request.POST if posted else None, request.FILES if posted else None)
        if posted and form.is_valid():
            try:
                imported = form.carry_out(Actor.staff(request.user, request))
            except operations.Refused as refused:
                form.add_error(None, str(refused))
            else:
                return redirect("admin:unlocks_import_change", imported.pk)
        return desk.page(
            request,
            "admin/unlocks/import/upload.html",
            status=422 if form.errors else 200,
            title="Import files",
            form=form,
            kinds=KINDS,
        )

    @method_decorator(require_safe)
    def columns(self, request):
        """Say which columns each kind of file has, and what they hold."""
        self._refuse_strangers(request)
        kinds = [(kind, [(one, _holds(kind.name, one.name)) for one in kind.columns]) for kind in KINDS.values()]
        return desk.page(request, "admin/unlocks/import/columns.html", title="Columns of import files", kinds=kinds)

    @method_decorator(require_safe)
    def template(self, request, kind):
        return self._file(request, kind, f"{kind}.csv", samples.template)

    @method_decorator(require_safe)
    def sample(self, request, kind):
        return self._file(request, kind, f"sample-{kind}.csv", samples.sample)

    def _file(self, request, kind, name, content):
        self._refuse_strangers(request)
        if kind not in KINDS:
            raise Http404("There is no such kind of file.")
        return attachment(name, content(kind), "text/csv; charset=utf-8")

    def _refuse_strangers(self, request):
        if not self.has_view_permission(request):
            raise PermissionDenied

    # An import

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show what an import would change, how far it is, or what it did; on POST start or discard it."""
        imported = self.found(request, object_id)
        if request.method == "POST":
            return self._decide(request, imported)
        response = desk.page(
            request,
            "admin/unlocks/import/page.html",
            title=str(imported),
            imported=imported,
            tone=IMPORT_TONES[imported.state],
            may_import=self.has_add_permission(request),
            table=_table(imported.counts),
            totals=_totals(imported.counts),
            problems=list(_problems(imported)),
            **self._of_its_state(request, imported),
        )
        if imported.state in (State.STAGING, State.APPLYING):
            response["Refresh"] = FOLLOW
        return response

    def _decide(self, request, imported):
        """Do what a button of the preview says; who comes too late is told what became of the import."""
        verb, by = request.POST.get("verb"), Actor.staff(request.user, request)
        if verb not in ("import", "discard"):
            raise BadRequest("There is no such verb.")
        try:
            if verb == "discard":
                operations.discard_import(imported, by=by)
                self.message_user(request, f"{imported} was discarded. Nothing of it was written.", messages.SUCCESS)
                return redirect("admin:unlocks_import_changelist")
            operations.start_import(imported, re_exported="re_exported" in request.POST, by=by)
        except operations.Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
        return redirect("admin:unlocks_import_change", imported.pk)

    def _of_its_state(self, request, imported):
        """Return what the page has beyond the counts."""
        match imported.state:
            case State.READY:
                lost = operations.what_was_lost(imported)
                return {
                    "lost": lost,
                    "own": _is_own(imported, request.user),
                    "groups": () if lost else _groups(imported),
                    "re_exported": _re_exported(imported) if request.user.has_perm(RE_EXPORT) else None,
                    "nothing": lost
                    or not any(_totals(imported.counts).get(name) for name in ("new", "changed", "same")),
                }
            case State.STAGING | State.APPLYING:
                return {"worker_runs": heartbeat.running().exists()}
            case State.DONE | State.FAILED:
                return {
                    "written": list(_written(imported)) if imported.done else [],
                    "differs": _differs(imported),
                    "waiting": operations.waiting_contacts(imported).count(),
                    "obstacle": _obstacle(imported, request.user),
                }
        return {}

    @method_decorator(require_GET)  # HEAD would be told as a download, and hands nothing out
    def errors_csv(self, request, pk):
        """Send what is wrong with the rows of an import, a row for each problem."""
        imported = self.found(request, pk)
        back = reverse("admin:unlocks_import_change", args=[imported.pk])
        if asked := files.before_many(request, imported.problems.all(), back):
            return asked
        narrowed = [f"errors of import {imported.number}"]
        operations.record_export(Import, form="csv", narrowed=narrowed, by=Actor.staff(request.user, request))
        pieces = errors_csv(operations.problems_of(imported))
        response = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = content_disposition_header(True, f"errors of import {imported.number}.csv")
        return response

    # The second person

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def confirm(self, request, pk):
        """List the Admins of an import whose addresses nobody confirmed yet; on POST confirm them all."""
        imported = self.found(request, pk)
        if not request.user.has_perm(operations.confirm_import.permission):
            raise PermissionDenied
        form = ConfirmImportForm(request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            try:
                confirmed = operations.confirm_import(
                    imported, how=form.cleaned_data["how"], by=Actor.staff(request.user, request)
                )
            except operations.Refused as refused:
                form.add_error(None, str(refused))
            else:
                addresses = counted(confirmed, "address is", "addresses are")
                self.message_user(request, f"{addresses} confirmed: links and PINs may go there now.", messages.SUCCESS)
                return redirect("admin:unlocks_import_change", imported.pk)
        waiting = (
            operations.waiting_contacts(imported).select_related("account").order_by("account__number", "name", "pk")
        )
        page = Paginator(waiting, CONTACTS_A_PAGE).get_page(request.GET.get("page"))
        return desk.page(
            request,
            "admin/unlocks/import/confirm.html",
            status=422 if form.errors else 200,
            title=f"Confirm the Admin contacts of {str(imported).lower()}",
            imported=imported,
            form=form,
            page=page,
            pages=page.paginator.get_elided_page_range(page.number),
            obstacle=_obstacle(imported, request.user),
        )


def _is_own(imported, user):
    """Say whether `user` read the files: whoever did is the one who imports them, and can't confirm what is in them."""
    return imported.user_id == user.pk


# Counts


def _totals(counts):
    """Add up {kind: {judgment: number}} over the kinds."""
    totals = {}
    for of_kind in counts.values():
        for judgment, n in of_kind.items():
            totals[judgment] = totals.get(judgment, 0) + n
    return totals


def _table(counts):
    """Return the counts as a table: the judgments that occur, and a row for each kind."""
    shown_here = [name for name in JUDGMENTS if _totals(counts).get(name) or name in ("new", "changed", "same")]
    rows = [
        (kind.capitalize(), [(JUDGMENTS[name], counts[kind].get(name, 0)) for name in shown_here])
        for kind in KINDS
        if counts.get(kind)
    ]
    return {"head": [JUDGMENTS[name] for name in shown_here], "rows": rows}


def _differs(imported):
    """List in words what became of other records than the preview said: the two may be hours apart."""
    before, after = _totals(imported.previewed), _totals(imported.counts)
    if imported.re_exported:  # the preview could not know that this would be ticked
        for totals in (before, after):
            totals["changed"] = totals.get("changed", 0) + totals.pop("left_alone", 0)
    if not before or imported.state != State.DONE:
        return []
    return [
        f"{after.get(name, 0):,} {said.lower()} instead of {before.get(name, 0):,}"
        for name, said in JUDGMENTS.items()
        if before.get(name, 0) != after.get(name, 0)
    ]


# What is wrong


def _problems(imported):
    """Yield what came of the rows that have problems: its title and tone, how many there are, and the first of them."""
    titles = {
        Judgment.REFUSED.value: ("Refused", "bad"),
        Judgment.LEFT_ALONE.value: ("Left alone", "wait"),
        ImportProblem.DOES_NOT_ADD_UP: ("Totals that don't add up", "wait"),
    }
    for judgment, (title, tone) in titles.items():
        rows = imported.problems.filter(judgment=judgment)
        if listed := list(rows.order_by("line", "pk")[:LISTED_PROBLEMS]):
            for problem in listed:
                problem.file, problem.at_line = imported.file_and_line(problem.line)
            yield {
                "title": title,
                "tone": tone,
                "rows": _totals(imported.counts).get(judgment) or rows.count(),
                "n": rows.count(),
                "listed": listed,
                "all_the_same": judgment == ImportProblem.DOES_NOT_ADD_UP,
                "of_columns": any(problem.column for problem in listed),
            }


# What would be written


def _re_exported(imported):
    """Return the unlocked batches that the files say are exported, and that are left alone unless that is ticked."""
    rows = judging.left_alone_until_ticked(imported.places).select_related("batch__account").order_by("place")
    batches = [row.batch for row in rows[: LISTED_RE_EXPORTED + 1]]
    return {"batches": batches[:LISTED_RE_EXPORTED], "more": len(batches) > LISTED_RE_EXPORTED, "n": rows.count()}


def _groups(imported):
    """Yield a table for each kind of records: the first that would change, and the first new ones."""
    for kind, (rows, values, model, target) in {
        "accounts": (judging.accounts, judging.values_of_accounts, Account, "account"),
        "contacts": (judging.contacts, judging.values_of_contacts, Contact, "contact"),
        "batches": (judging.batches, judging.values_of_batches, Batch, "batch"),
    }.items():
        of_kind, listed, n = rows(imported.places), [], 0
        for judgment, tone in ((Judgment.CHANGED, "info"), (Judgment.NEW, "good"), (Judgment.SAME, "")):
            records = of_kind.filter(judgment=judgment).order_by("place")
            if judgment == Judgment.SAME and listed:
                break
            n += records.count()
            for row in _with_changes(records, values(), target)[:LISTED]:
                changes = _changes(row, model, target, values()) if judgment == Judgment.CHANGED else []
                said = "" if changes else _in_short(row, model)
                listed.append(
                    {"tone": tone, "judgment": judgment.label, "record": row, "changes": changes, "said": said}
                )
        if listed:
            yield {"kind": kind, "one": target, "rows": listed, "more": n - len(listed)}


def _with_changes(rows, values, target):
    new = {f"new_{name}": value for name, value in values.items()}
    old = {f"old_{name}": F(f"{target}__{name}") for name in values}
    return rows.annotate(**new, **old)


def _in_short(row, model):
    """Write what a record would be like, in a few words."""
    if model is Account:
        words = [Account.Software(row.new_accounting_software).label, row.new_time_zone.replace("_", " ")]
    elif model is Contact:
        words = ["Admin" if row.new_is_admin else "Not an Admin", row.new_phone]
    else:
        reached_by = Batch.ReachedBy(row.new_reached_by).label if row.new_reached_by in NOT_USUAL else ""
        items = counted(row.new_item_count, "item", "items")
        words = [Batch.Status(row.new_status).label, items, money(row.new_total), reached_by]
    return ", ".join(filter(None, words))


def _changes(row, model, target, values):
    """List (what, from, to) of the columns of a record that change, and in words what changes of its items."""
    changes = [
        (capfirst(field.verbose_name), *(shown(model(**{field.attname: value}), field) for value in (old, new)))
        for name in values
        for field, old, new in [(model._meta.get_field(name), getattr(row, f"old_{name}"), getattr(row, f"new_{name}"))]
        if old != new
    ]
    return changes + (_changes_of_items(row) if model is Batch else [])


def _changes_of_items(batch):
    said = []
    if batch.items_same is not None:  # else they came as they came the last time
        known = max(batch.items_known, batch.items_same)
        counts = {
            "new": batch.items - known,
            "changed": known - batch.items_same,
            "no longer listed": batch.items_listed - known,
        }
        if differ := [f"{n:,} {what}" for what, n in counts.items() if n > 0]:
            said.append(("Items", "", ", ".join(differ)))
    if batch.other_lines:
        said.append(("Lines", "", f"those of {counted(batch.other_lines, 'item', 'items')}"))
    return said


# What was written


def _written(imported):
    """Yield (title, records and their addresses, how many more, name of their list) of what was written."""
    entries = LedgerEntry.objects.filter(kind=events.Imported.kind, at__range=(imported.at, imported.done_at))
    acts = {
        entry.act: entry.at
        for entry in entries.order_by("-at", "-sequence")[:ENTRIES]
        if chain.event_of(entry).number == imported.number
    }
    for title, model in (("Accounts", Account), ("Batches", Batch)):
        rows = model.history.filter(history_date__in=set(acts.values()), history_act__in=list(acts))
        keys = list(dict.fromkeys(rows.order_by("id").values_list("id", flat=True)[: 2 * LISTED]))[:LISTED]
        records = model.objects.in_bulk(keys)
        if records:
            address = f"admin:unlocks_{model._meta.model_name}"
            counts = imported.counts.get(title.lower(), {})
            yield (
                title,
                [(records[key], reverse(f"{address}_change", args=[key])) for key in keys],
                counts.get("new", 0) + counts.get("changed", 0) - len(keys),
                f"{address}_changelist",
            )


# Confirming


def _obstacle(imported, user):
    """Say why `user` can't confirm the contacts of an import, and who can; '' when they can."""
    why = operations.obstacle_to_confirming_import(imported, user)
    return why and f"{why} {ask(operations.confirm_import.permission, but=user)}"


# The columns

HOLDS = {
    "account_number": "What identifies the account.",
    "batch_number": "What identifies the batch within its account.",
    "external_id": "What the product knows the record by. It finds a contact again whose address changed, and an item "
    "whose number changed.",
    "accounts.name": "The company.",
    "accounting_software": "One of: quickbooks_online, quickbooks_desktop, sage_intacct, none.",
    "active": "Yes or no.",
    "time_zone": "Such as America/New_York.",
    "contacts.name": "The person.",
    "email": "One address.",
    "phone": "A phone number.",
    "is_admin": "Yes or no. Only an Admin can ask for an unlock and consent to it.",
    "batches.name": "What the batch is called.",
    "status": "One of: pending, posted, exported, bypassed.",
    "reached_by": "How it came to that: sent, bypassed, imported, marked_by_api, zero_payment. Exported and bypassed "
    "is a bypassed batch.",
    "posted_on": "The day.",
    "bypassed_on": "The day. A bypassed batch has to have it.",
    "exported_on": "The day. An exported batch has to have it.",
    "period_closed": "Yes or no: is its accounting period closed?",
    "item_count": "How many items it has. The desk compares.",
    "batches.total": "What its items come to. The desk compares.",
    "as_of": "When the product said so, with its zone, such as 2026-11-25T19:38:05Z.",
    "kind": "One of: invoice, payment, credit_memo, vendor_bill, vendor_credit, bill_payment, inventory_adjustment, "
    "transfer, return.",
    "number": "What identifies the item within its batch, together with the kind.",
    "date": "The day.",
    "customer": "The customer or vendor.",
    "amount": "Such as 1,234.50, or (45.00) for a negative one.",
    "memo": "A note.",
    "export_id": "What the accounting software knows it by. It may be in the books already.",
    "job_number": "The job.",
    "business_unit": "The business unit.",
    "line": "The place of the line in its item: 1, 2, 3.",
    "sku": "The code of the product or service.",
    "description": "What it is.",
    "quantity": "How many.",
    "price": "Of one.",
    "lines.total": "Of the line.",
    "gl_account": "The account in the general ledger.",
}


def _holds(kind, name):
    return HOLDS.get(f"{kind}.{name}") or HOLDS[name]
