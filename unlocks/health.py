from datetime import UTC, datetime

from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Min
from django.http import JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import evidence
from .admin.queue import instructions_late, waiting_long
from .database import guards
from .ledger import chain
from .models import CheckAttempts, Outgoing
from .operations.handing_over import due
from .outbox import heartbeat
from .product import by_hand


def answer_health(get_response):
    """Answer /health/live and /health/ready before any other middleware.

    Those refuse to be asked by address and without TLS.
    """
    pages = {"/health/live": live, "/health/ready": ready}
    return lambda request: pages.get(request.path_info, get_response)(request)


@require_safe
def live(request):
    """Say 200 while this process answers, whatever its database does: to start it again would not help that."""
    return _said({"live": True})


@require_safe
def ready(request):
    """Say 200 while what is asked of the desk can be recorded, else 503: by true and false, with no names.

    Without a worker, or where files can't be kept, pages work: that is said beside it, and `well` is false.
    """
    reads = _holds(_reads)
    checks = {"read": reads} | {name: reads and _holds(check) for name, check in (_NEEDED | _BESIDE).items()}
    is_ready = all(checks[name] for name in ("read", *_NEEDED))
    said = {"ready": is_ready, "well": all(checks.values()), "checks": checks}
    return _said(said | {"oldest_seconds": _oldest() if is_ready else {}}, status=200 if is_ready else 503)


def _said(data, status=200):
    return JsonResponse(data, status=status, headers={"Cache-Control": "no-store"})


def _holds(check):
    """Say whether a check holds; one that the database doesn't answer does not."""
    try:
        return check()
    except Error:
        return False


def _reads():
    with connection.cursor() as cursor:
        return cursor.execute("SELECT 1") is not None


def _write():
    """Commit one row, always the same, where nothing is kept. What is rolled back reaches no full disk."""
    row = CheckAttempts(network="health", window_start=datetime(2026, 1, 1, tzinfo=UTC), count=1)
    once = ["network", "window_start"]
    CheckAttempts.objects.bulk_create([row], update_conflicts=True, unique_fields=once, update_fields=["count"])
    return True


def _migrated():
    return MigrationLoader(None).disk_migrations.keys() <= MigrationRecorder(connection).applied_migrations().keys()


def _key_fits():
    try:
        chain.fitting_head()
    except chain.WrongKey:
        return False
    return True


def _oldest():
    """Return for how many seconds the oldest email and the oldest instruction wait for the worker, None without one."""
    waiting = {"outgoing": Outgoing.objects.filter(state=Outgoing.State.QUEUED), "instruction": due()}
    if by_hand():
        waiting["instruction"] = waiting["instruction"].none()
    since = {name: rows.aggregate(since=Min("queued_at"))["since"] for name, rows in waiting.items()}
    return {name: at and round((timezone.now() - at).total_seconds()) for name, at in since.items()}


_NEEDED = {
    "write": _write,
    "migrations": _migrated,
    "guards": lambda: not guards.missing(),
    "ledger_key": _key_fits,
}
_BESIDE = {
    "worker": lambda: heartbeat.running().exists(),
    "outgoing": lambda: not waiting_long()["emails"],
    "instruction": lambda: not instructions_late()["batches"],
    "evidence": lambda: not evidence.trouble_with_place(),
    "case_files": lambda: not evidence.trouble_with_place("case_files"),
}
