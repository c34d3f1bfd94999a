import sys

from django.db import InterfaceError, InternalError, OperationalError
from django.shortcuts import render
from django.views import defaults

from unlocks.ledger.chain import WrongKey


def server_error(request):
    """Answer 503 when the database was locked, full or out of reach, which passes, or the ledger's key is wrong.

    Otherwise 500.
    """
    error = sys.exc_info()[1]
    if isinstance(error, WrongKey):
        return render(None, "wrong_key.html", status=503)
    if isinstance(error, (OperationalError, InternalError, InterfaceError)):
        response = render(None, "503.html", status=503)
        response["Retry-After"] = 30
        return response
    return defaults.server_error(request)
