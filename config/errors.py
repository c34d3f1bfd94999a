import sys

from django.db import InterfaceError, InternalError, OperationalError
from django.shortcuts import render
from django.views import defaults


def server_error(request):
    """Answer 503 when the database was locked, full or out of reach, which passes; otherwise 500."""
    if isinstance(sys.exc_info()[1], (OperationalError, InternalError, InterfaceError)):
        response = render(None, "503.html", status=503)
        response["Retry-After"] = 30
        return response
    return defaults.server_error(request)
