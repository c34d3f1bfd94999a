"""The page Connections: whether a worker runs, what waits to be sent, and whether the history is sealed."""

from datetime import timedelta

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Min
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe

from ..ledger import events, seals
from ..models import LedgerEntry, Outgoing, Worker
from ..outbox import heartbeat
from .lists import ReadOnlyAdmin
from .site import desk

State = Outgoing.State
LISTED = 20
LATE = timedelta(minutes=10)


@admin.register(Worker, site=desk)
class WorkerAdmin(ReadOnlyAdmin):
    list_name = footer_name = "Connections"

    def get_urls(self):
        return [address for address in super().get_urls() if address.name == "unlocks_worker_changelist"]

    @method_decorator(require_safe)
    def changelist_view(self, request, extra_context=None):
        if not self.has_view_permission(request):
            raise PermissionDenied
        newest = LedgerEntry.objects.filter(kind=events.Sealed.kind).order_by("-sequence").first()
        return desk.page(
            request,
            "admin/unlocks/worker/connections.html",
            title=self.list_name,
            workers=heartbeat.running(),
            **_emails(),
            sealed_at=newest and newest.appended_at,
            unsealed=seals.unsealed(),
        )


def _emails():
    waiting = Outgoing.objects.filter(state=State.QUEUED)
    oldest = waiting.aggregate(oldest=Min("queued_at"))["oldest"]
    sent = Outgoing.objects.filter(state=State.SENT).order_by("-done_at")
    return {
        "waiting": waiting.count(),
        "oldest": oldest,
        "late": waiting.filter(next_try_at__lt=timezone.now() - LATE).exists(),
        "tried": waiting.filter(tries__gt=0)
        .select_related("unlock_request", "account")
        .order_by("next_try_at")[:LISTED],
        "last_sent": sent.first(),
        "sent_lately": sent.filter(done_at__gt=timezone.now() - timedelta(days=1)).count(),
    }
