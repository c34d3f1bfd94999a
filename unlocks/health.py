from datetime import UTC, datetime

from django.db import DatabaseError
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from .database import guards
from .ledger import chain
from .models import CheckAttempts
from .outbox import heartbeat


def answer_health(get_response):
    """Answer /health/ before any other middleware: those refuse to be asked by address and without TLS."""

    def answer(request):
        return health(request) if request.path_info == "/health/" else get_response(request)

    return answer


@require_safe
def health(request):
    """Say 200 while rows can be written, the ledger's key fits and every guard stands, else 503; name nothing.

    Whether a worker runs is said beside it: without one pages work, and emails wait.
    """
    try:
        _write()
        chain.fitting_head()
        well = not guards.missing()
        said = {"well": True, "worker": heartbeat.running().exists()} if well else {"well": False}
    except (DatabaseError, chain.WrongKey):
        well, said = False, {"well": False}
    return JsonResponse(said, status=200 if well else 503, headers={"Cache-Control": "no-store"})


def _write():
    """Commit one row, always the same, where nothing is kept. What is rolled back reaches no full disk."""
    row = CheckAttempts(network="health", window_start=datetime(2026, 1, 1, tzinfo=UTC), count=1)
    once = ["network", "window_start"]
    CheckAttempts.objects.bulk_create([row], update_conflicts=True, unique_fields=once, update_fields=["count"])
