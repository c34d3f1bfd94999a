"""Who calls, and how often: a token in the header `Authorization`, and nothing else. No cookie or session counts."""

from datetime import timedelta

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.utils import timezone
from ninja.security import HttpBearer
from structlog.contextvars import bind_contextvars

from .. import operations
from ..customer import rate_limit
from .problems import Problem

WINDOW = timedelta(minutes=1)


class Token(HttpBearer):
    """Lets in the systems whose token holds a permission; any system when that is ANY."""

    ANY = ""

    def __init__(self, permission=ANY):
        super().__init__()
        self.permission = permission

    def authenticate(self, request, token):
        """Return the system that calls, None when it is none.

        Raises Problem when it called too often, or sends what is no JSON; PermissionDenied when it may not do this.
        """
        by = operations.system_of(token.strip(), request)
        if by is None:
            return None
        bind_contextvars(user=by.name)
        if again := rate_limit.counted(f"API token {by.token.pk}", settings.API_LIMIT, WINDOW):
            seconds = max(1, round((again - timezone.now()).total_seconds()))
            detail = f"More than {settings.API_LIMIT:,} calls in a minute. Try again in {seconds} seconds."
            raise Problem(429, "too_many_calls", detail, headers={"Retry-After": seconds})
        if self.permission and not by.may(self.permission):
            raise PermissionDenied(f"{by.name} may not do this: it needs the permission {self.permission}.")
        if request.method in ("POST", "PUT") and request.content_type != "application/json":
            raise Problem(415, "not_json", "Send JSON: “Content-Type: application/json”.")
        return by
