"""The case files of several requests: those that were ordered, how far each is, and its ZIP."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import filesizeformat
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..models import CaseFiles, UnlockRequest
from ..outbox import heartbeat
from ..signin import showed
from ..templatetags.desk import nowrap, tag
from ..texts.formats import counted, moment, moment_with_seconds
from .bulk_actions import FOLLOWED_CLOSELY
from .filters import by_column
from .lists import ReadOnlyAdmin, column
from .site import desk

ROWS_A_PAGE = 100
State = CaseFiles.State
TONES = {State.QUEUED: "wait", State.MADE: "good", State.FAILED: "bad", State.DELETED: "", State.CANCELED: ""}


@admin.register(CaseFiles, site=desk)
class CaseFilesAdmin(ReadOnlyAdmin):
    list_name = footer_name = "Case files"
    row_is, rows_are = "order", "orders"
    list_display = ("when", "who", "which", "how_many", "stands", "size_text", "until")
    list_display_links = ("when",)
    list_select_related = ("by",)
    list_filter = (by_column("state"),)
    sortable_by = ()
    ordering = ("-at",)
    empty_list = "Choose requests in their list, and then “Case files of selected requests”."

    when = column("Ordered", "at", lambda at: nowrap(moment_with_seconds(at)))
    who = column("By", "by.username")
    until = column("Kept until", "keep_until", lambda at: nowrap(moment(at)))
    size_text = column("ZIP", "size", filesizeformat)

    @admin.display(description="Requests")
    def which(self, ordered):
        return "; ".join(ordered.narrowed) or "All of them"

    @admin.display(description="How many")
    def how_many(self, ordered):
        return f"{len(ordered.requests):,}"

    @admin.display(description="State")
    def stands(self, ordered):
        return tag(TONES[ordered.state], ordered.get_state_display())

    def get_urls(self):
        take, cancel = self.admin_site.admin_view(self.take_view), self.admin_site.admin_view(self.cancel_view)
        return [
            path("<uuid:pk>/zip/", take, name="take_case_files"),
            path("<uuid:pk>/cancel/", cancel, name="cancel_case_files"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show how far an order is; a page that follows it is answered with 204 while nothing has changed."""
        ordered = self.found(request, object_id)
        runs = heartbeat.running().exists()
        stamp = f"{ordered.state}-{ordered.tries}-{ordered.done}-{runs}"
        if request.GET.get("stamp") == stamp:
            return HttpResponse(status=204)
        count = counted(len(ordered.requests), "request", "requests")
        requests = UnlockRequest.objects.filter(pk__in=ordered.requests).select_related("account").order_by("pk")
        return desk.page(
            request,
            "admin/unlocks/casefiles/change_form.html",
            title=f"Case files of {count}: {ordered.get_state_display().lower()}",
            ordered=ordered,
            count=count,
            page=Paginator(requests, ROWS_A_PAGE).get_page(request.GET.get("page")),
            waits=ordered.state == State.QUEUED,
            may_cancel=_may_cancel(ordered, request.user),
            stamp=stamp,
            worker_runs=runs,
            every=FOLLOWED_CLOSELY,
            now=timezone.now(),
        )

    @method_decorator(require_POST)
    def take_view(self, request, pk):
        """Send the ZIP, once it is on record who downloads it."""
        if not request.user.has_perm(operations.take_case_files.permission):
            raise PermissionDenied
        if asked := showed.before_file(request, reverse("admin:unlocks_casefiles_change", args=[pk])):
            return asked
        ordered = get_object_or_404(CaseFiles, pk=pk)
        try:
            file = operations.take_case_files(ordered, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            messages.error(request, str(refused))
            return redirect("admin:unlocks_casefiles_change", pk)
        return FileResponse(file, as_attachment=True, filename=f"{ordered}.zip", content_type="application/zip")

    @method_decorator(require_POST)
    def cancel_view(self, request, pk):
        """Have the worker stop with an order."""
        try:
            operations.cancel_case_files(get_object_or_404(CaseFiles, pk=pk), by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            messages.error(request, str(refused))
        return redirect("admin:unlocks_casefiles_change", pk)

    def get_object(self, request, object_id, from_field=None):
        try:
            return super().get_object(request, object_id, from_field)
        except ValueError:
            raise Http404("There is no such order.") from None


def _may_cancel(ordered, user):
    may_others = user.has_perm(operations.CANCELS_OTHERS)
    return user.has_perm(operations.cancel_case_files.permission) and (ordered.by_id == user.pk or may_others)
