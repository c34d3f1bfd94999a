import sys

from django.db import InterfaceError, InternalError, OperationalError
from django.shortcuts import render
from django.views import csrf, defaults

from unlocks.admin.site import desk
from unlocks.admin.typed import may_be_of_another
from unlocks.api import problems
from unlocks.ledger.chain import WrongKey

_AWAY = (OperationalError, InternalError, InterfaceError)


def form_expired(request, reason=""):
    """Answer a form whose token fits no more; a page of the desk from before signing in again can be sent again."""
    own = request.META.get("HTTP_ORIGIN") == f"{request.scheme}://{request.get_host()}"
    expired = reason == "CSRF token from POST incorrect."
    if own and expired and desk.has_page(request.path) and not may_be_of_another(request):
        return desk.keep_typed(request, expired=True)
    return csrf.csrf_failure(request, reason=reason)


def status_of(error):
    """Return 503 when the database was locked, full or out of reach, which passes, or the ledger's key is wrong.

    Otherwise 500.
    """
    return 503 if isinstance(error, (WrongKey, *_AWAY)) else 500


def server_error(request):
    """Answer what nothing else answered, with `status_of` it."""
    error = sys.exc_info()[1]
    if request.path_info.startswith("/api/"):
        return problems.of_a_bug(error).response
    if isinstance(error, WrongKey):
        return render(None, "wrong_key.html", status=503)
    if isinstance(error, _AWAY):
        response = render(None, "503.html", status=503)
        response["Retry-After"] = 30
        return response
    return defaults.server_error(request)
