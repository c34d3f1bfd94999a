"""The page Connections: whether a worker runs, what the product was asked, what waits to be sent, and the seals."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, Q
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe

from ..ledger import seals
from ..models import Instruction, Outgoing, Worker
from ..outbox import heartbeat
from ..product import by_hand, polling
from ..product.port import AT_ONCE
from .lists import ReadOnlyAdmin
from .queue import LATE, instructions_late
from .site import desk

State = Outgoing.State
LISTED = 20


@admin.register(Worker, site=desk)
class WorkerAdmin(ReadOnlyAdmin):
    list_name = footer_name = "Connections"

    def get_urls(self):
        return [address for address in super().get_urls() if address.name == "unlocks_worker_changelist"]

    @method_decorator(require_safe)
    def changelist_view(self, request, extra_context=None):
        if not self.has_view_permission(request):
            raise PermissionDenied
        newest = seals.newest()
        workers = list(heartbeat.running())
        return desk.page(
            request,
            "admin/unlocks/worker/connections.html",
            title=self.list_name,
            workers=workers,
            seen=max((worker.seen_at for worker in workers), default=None),
            product=_product(),
            **_emails(),
            sealed_at=newest and newest.appended_at,
            unsealed=seals.in_words(seals.unsealed()),
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


def _product():
    """Return how the product is reached, what waits there and when it was last called and last answered."""
    asked = Instruction.State
    pending = Instruction.objects.filter(state__in=Instruction.PENDING)
    given_up = Instruction.objects.filter(state=asked.GIVEN_UP)
    ended = Instruction.objects.filter(done_at__isnull=False).exclude(state=asked.CANCELED).order_by("-done_at")
    counts = pending.aggregate(
        waiting=Count("pk", filter=Q(state=asked.QUEUED)),
        oldest=Min("queued_at", filter=Q(state=asked.QUEUED)),
        handed_over=Count("pk", filter=Q(state=asked.SENT)),
        oldest_handed_over=Min("sent_at", filter=Q(state=asked.SENT)),
        asked_about=Count("pk", filter=Q(state=asked.UNKNOWN)),
    )
    return {
        **counts,
        "by_hand": by_hand(),
        "polling": polling(),
        "called": not by_hand() and not polling(),
        "webhook": settings.PRODUCT == "webhook",
        "host": urlsplit(settings.PRODUCT_URL).hostname or "",
        "late": instructions_late(),
        "given_up": given_up.count(),
        "troubles": _troubles(pending, given_up),
        "last_call": _newest_call(pending, ended),
        "last_answer": ended.values_list("done_at", flat=True).first(),
    }


def _troubles(pending, given_up):
    """List what was given up, the newest first, and then what was tried in vain so far."""
    shown = ("line__unlock_request", "batch__account")
    in_vain = Q(state=Instruction.State.UNKNOWN) | Q(state=Instruction.State.QUEUED) & ~Q(answer="")
    tried = pending.filter(in_vain).order_by("next_try_at")
    rows = [*given_up.select_related(*shown).order_by("-pk")[:LISTED], *tried.select_related(*shown)[:LISTED]]
    return rows[:LISTED]


def _newest_call(pending, ended):
    """Return when something was handed over last, by what waits for its answer and by the latest answers."""
    calls = [
        pending.order_by().aggregate(at=Max("sent_at"))["at"],
        *ended.values_list("sent_at", flat=True)[:AT_ONCE],
    ]
    return max(filter(None, calls), default=None)
