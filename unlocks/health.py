from django.db import DatabaseError
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from .database import guards


@require_safe
def health(request):
    """Say 200 while the database answers and every guard stands in it, else 503. Names nothing to a stranger."""
    try:
        well = not guards.missing()
    except DatabaseError:
        well = False
    return JsonResponse({"well": well}, status=200 if well else 503, headers={"Cache-Control": "no-store"})
