"""What is known of a request is on each line that is logged while it is answered: its id, who, from where, which case.

Its own line comes at its end; that of an error holds its traceback. Error pages and the header `X-Request-ID` show the
id.
"""

import re

from django.conf import settings
from django.dispatch import receiver
from django_structlog import signals
from django_structlog.middlewares import RequestMiddleware
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from unlocks.actors import client_ip
from unlocks.models import UnlockRequest

from .errors import status_of


class RequestLog(RequestMiddleware):
    @classmethod
    def bind_ip(cls, request):
        bind_contextvars(ip=client_ip(request))

    def prepare(self, request):
        clear_contextvars()
        super().prepare(request)
        request.log_id = get_contextvars()["request_id"]

    def process_view(self, request, view, args, values):
        if username := request.user.get_username():
            bind_contextvars(user=username)
        if case := _case(request.resolver_match):
            bind_contextvars(case=case)

    def handle_response(self, request, response):
        response["X-Request-ID"] = request.log_id
        if request.path.startswith(settings.STATIC_URL) and response.status_code < 400:
            clear_contextvars()
        else:
            super().handle_response(request, response)


def _case(match):
    """Return the reference of the request that an address is about; None when it is about none."""
    key = match.captured_kwargs.get("case")
    if "unlockrequest/" in match.route:
        key = match.captured_kwargs.get("object_id")
    return UnlockRequest(pk=int(key)).reference if re.fullmatch(r"[0-9]{1,18}", str(key)) else None


@receiver(signals.bind_extra_request_failed_metadata)
def say_how_it_is_answered(sender, exception, log_kwargs, **kwargs):
    log_kwargs["code"] = status_of(exception)
