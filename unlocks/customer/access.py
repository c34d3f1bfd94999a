"""Access to the customer's pages, which have no login: the links that open them, and the cookies that do so again."""

import re
from functools import wraps

from django.conf import settings
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from structlog.contextvars import bind_contextvars

from .. import operations
from ..actors import Actor
from ..models import Consent, ResentReceipt
from ..outbox.secrets import hashed
from ..texts.formats import zone_of

LINK_COOKIE = "consent"
OPENING_COOKIE = "opening"
RECEIPT_COOKIE = "receipt"
TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")


def customer_page(*, staff_may_view=False):
    """Keep a customer's page out of caches and search engines, and refuse logged-in staff.

    With `staff_may_view`, staff may send GET and HEAD. Staff are refused before the CSRF check, which a page from
    before their login fails, so that each attempt is recorded. Times are in the zone of the account, once it is known.
    """

    def decorator(view):
        protected = csrf_protect(view)

        @csrf_exempt
        @wraps(view)
        def page(request, **kwargs):
            views_only = staff_may_view and request.method in ("GET", "HEAD")
            with timezone.override(None):
                if request.user.is_authenticated and not views_only:
                    response = _refuse_staff(request, kwargs.get("token") or get_cookie(request, LINK_COOKIE))
                else:
                    response = protected(request, **kwargs)
            response["Cache-Control"] = "no-store"
            response["X-Robots-Tag"] = "noindex"
            return response

        return page

    return decorator


def _refuse_staff(request, token):
    link_or_consent = (token and operations.link_for(token)) or consent_of_receipt(request, token)
    if link_or_consent:
        operations.refuse_staff(link_or_consent, by=Actor.staff(request.user, request))
    return render(request, "unlocks/staff_refused.html", {"recorded": bool(link_or_consent)}, status=403)


def consent_of_receipt(request, token=None):
    """Return the consent whose receipt this browser may open, or None.

    Under /receipt/ the token of an emailed link opens it, and under /consent/ the decision made in this browser.
    """
    consent = _consent_of_receipt(request, token)
    if consent:
        turn_to(consent.unlock_request)
    return consent


def turn_to(unlock_request):
    """To the end of the page, write times in the zone of its account, and name it on what is logged."""
    timezone.activate(zone_of(unlock_request.account))
    bind_contextvars(case=unlock_request.reference)


def _consent_of_receipt(request, token):
    cookie = get_cookie(request, RECEIPT_COOKIE)
    if cookie_scope(request) == "receipt":
        return operations.receipt_for(token or cookie) if token or cookie else None
    consents = Consent.objects.select_related("unlock_request__account", "terms", "contact", "recorded_by", "opening")
    return consents.filter(pk=cookie).first() if cookie else None


def outdated_address(request, consent):
    """Return the address that this browser's receipt was sent to if it is no longer an Admin's, or ''.

    Then the receipt is read-only: its reader may no longer decide for the account.
    """
    sent_to = consent.email
    if cookie_scope(request) == "receipt":
        token_hash = hashed(get_cookie(request, RECEIPT_COOKIE))
        if token_hash != consent.receipt_hash:
            sent_to = ResentReceipt.objects.get(token_hash=token_hash).email
    return "" if consent.contact.is_confirmed_admin and consent.contact.email == sent_to else sent_to


def cookie_scope(request):
    """Return the name of the address that the page's cookies belong to: "consent", or "receipt" for emailed links."""
    return "receipt" if request.path.startswith(reverse("receipt")) else "consent"


def redirect_with_token(token, cookie, scope):
    """Move a token out of the address and into a cookie; return None when it can't be one."""
    if not TOKEN.fullmatch(token):
        return None
    response = redirect(scope)
    set_cookie(response, cookie, token, scope)
    return response


def set_cookie(response, cookie, value, scope):
    response.set_signed_cookie(
        cookie,
        value,
        salt=f"unlocks.{scope}",
        path=reverse(scope),
        secure=not settings.TRIAL,
        httponly=True,
        samesite="Lax",
    )


def get_cookie(request, cookie):
    return request.get_signed_cookie(cookie, default=None, salt=f"unlocks.{cookie_scope(request)}")
