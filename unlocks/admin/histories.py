"""The pages that show the history of a tracked record: who changed what, when, from where and why."""

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, prefetch_related_objects
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.utils.text import capfirst
from django.views.decorators.http import require_safe
from simple_history.admin import SimpleHistoryAdmin

from .. import operations
from ..actors import Actor
from ..models import Account, Batch, LedgerEntry, UnlockRequest
from ..texts.fields import shown
from .lists import Listed, is_key


class DeskAdmin(Listed, SimpleHistoryAdmin):
    """A tracked model: it is written through `history`, and its history can be read, never written."""

    history_per_page = 50

    def save_model(self, request, obj, form, change):
        operations.save_record(obj, by=Actor.staff(request.user, request))

    def save_formset(self, request, form, formset, change):
        for obj in formset.save(commit=False):
            operations.save_record(obj, by=Actor.staff(request.user, request))
        formset.save_m2m()

    @method_decorator(require_safe)
    def history_view(self, request, object_id, extra_context=None):
        """Show who changed what, when, from where and why; the newest first."""
        obj = self.found(request, object_id)
        if not self.has_view_history_permission(request, obj):
            raise PermissionDenied
        versions, most = self._records(obj.pk), self.history_per_page
        first = list(versions[: most + 1])  # mostly all there are: none is counted then
        page = Paginator(first if len(first) <= most else versions, most).get_page(request.GET.get("p"))
        return self.admin_site.page(
            request,
            "simple_history/object_history.html",
            title=f"History of {self.opts.verbose_name} {obj}",
            opts=self.opts,
            list_name=self.list_name,
            object=obj,
            page=page,
            entries=list(self._entries(page, obj, request.user)),
        )

    @method_decorator(require_safe)
    def history_form_view(self, request, object_id, version_id, extra_context=None):
        """Show one version. Safe methods only: simple-history's own view would write it back on POST."""
        if not (is_key(object_id) and is_key(version_id)):
            raise Http404("There is no such version.")
        named = [field.name for field in self._fields() if field.is_relation]
        record = get_object_or_404(self._records(object_id).select_related(*named), history_id=version_id)
        if not self.has_view_history_permission(request, record.instance):
            raise PermissionDenied
        return self.admin_site.page(
            request,
            "simple_history/object_history_form.html",
            title=f"{capfirst(self.opts.verbose_name)} {record.instance} as it stood",
            opts=self.opts,
            list_name=self.list_name,
            object=record.instance,
            record=record,
            facts=[(capfirst(field.verbose_name), shown(record, field)) for field in self._fields()],
        )

    def _fields(self):
        return [field for field in self.model.history.model.tracked_fields if not field.primary_key]

    def _records(self, pk):
        return self.model.history.filter(**{self.opts.pk.attname: pk}).order_by("-history_date", "-history_id")

    def _entries(self, page, obj, user):
        """Pair each record of a page with what it changed in the one before it, and with the ledger entry of its act.

        The entry is for those who may see the ledger.
        """
        first = max(page.start_index() - 1, 0)
        records = list(page.paginator.object_list[first : page.end_index() + 1])
        acts = {record.history_act for record in records}
        told = _told_by(acts, obj) if user.has_perm("unlocks.view_ledgerentry") else {}
        pairs = list(zip(records[: page.end_index() - first], [*records[1:], None], strict=False))
        changed = [self._changed(before, record) if before else [] for record, before in pairs]
        named = {field.name for fields in changed for field in fields if field.is_relation}
        prefetch_related_objects(records, *sorted(named))
        for (record, before), fields in zip(pairs, changed, strict=True):
            changes = [(capfirst(one.verbose_name), shown(before, one), shown(record, one)) for one in fields]
            told_by = told.get(record.history_act)
            yield {"record": record, "first": before is None, "changes": changes, "told_by": told_by}

    def _changed(self, before, record):
        return [one for one in self._fields() if getattr(before, one.attname) != getattr(record, one.attname)]


def _told_by(acts, obj):
    """Return {act: the ledger entry that tells of it}: of an act on several requests, that of a request with `obj`."""
    account = obj if isinstance(obj, Account) else getattr(obj, "batch", obj).account
    entries = LedgerEntry.objects.filter(Q(account=account) | Q(account=None), act__in=acts)
    entries = list(entries.order_by("sequence").only("act", "sequence", "unlock_request"))
    told = {entry.act: entry for entry in reversed(entries)}
    requests = _requests_of(obj) if entries else set()
    return told | {entry.act: entry for entry in entries if entry.unlock_request_id in requests}


def _requests_of(obj):
    match obj:
        case UnlockRequest():
            return {obj.pk}
        case Batch():
            return set(obj.lines.values_list("unlock_request_id", flat=True))
    return set()
