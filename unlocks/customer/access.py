"""Who may open a customer's page, and what their browser keeps to open it again."""

import re
from functools import wraps

from django.conf import settings
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from .. import operations
from ..actors import Actor
from ..models import Consent, ResentReceipt
from ..operations.tokens import hashed

LINK_COOKIE = "consent"
RECEIPT_COOKIE = "receipt"
TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")


def for_customers(*, staff_may_look=False):
    """Keep a customer's page out of caches and search engines and, unless they may look, from logged-in staff.

    Who may look may do nothing else. Staff are turned away, and that is recorded, before the CSRF check, which a page
    from before their login fails.
    """

    def dressed(view):
        checked = csrf_protect(view)

        @csrf_exempt
        @wraps(view)
        def page(request, **kwargs):
            looks = staff_may_look and request.method in ("GET", "HEAD")
            if request.user.is_authenticated and not looks:
                response = _refuse_staff(request, kwargs.get("token") or kept(request, LINK_COOKIE))
            else:
                response = checked(request, **kwargs)
            response["Cache-Control"] = "no-store"
            response["X-Robots-Tag"] = "noindex"
            return response

        return page

    return dressed


def _refuse_staff(request, token):
    refused_at = (token and operations.link_for(token)) or receipt_here(request, token)
    if refused_at:
        operations.refuse_staff(refused_at, by=Actor.staff(request.user, request))
    return render(request, "unlocks/staff.html", {"noted": bool(refused_at)}, status=403)


def receipt_here(request, token=None):
    """Return the consent whose receipt this browser holds: by the decision made in it, or by the mailed link."""
    held = kept(request, RECEIPT_COOKIE)
    if place(request) == "receipt":
        return operations.receipt_for(token or held) if token or held else None
    consents = Consent.objects.select_related("unlock_request__account", "terms", "contact", "recorded_by")
    return consents.filter(pk=held).first() if held else None


def sent_elsewhere(request, consent):
    """Return the address that this browser's receipt went to if it has no say any more, or ''.

    As with consent links: whoever it was sent to is no Admin any more, or has another address on file now.
    """
    to = consent.email
    if place(request) == "receipt":
        token = hashed(kept(request, RECEIPT_COOKIE))
        to = to if token == consent.receipt_hash else ResentReceipt.objects.get(token_hash=token).email
    return "" if consent.contact.is_admin and consent.contact.email == to else to


def place(request):
    """Return which of the two places with cookies of their own a page is in: 'consent', or 'receipt' by mail."""
    return "receipt" if request.path.startswith(reverse("receipt")) else "consent"


def keep_token(token, cookie, page):
    """Take a token out of the address and into a cookie; return None for what can't be one."""
    if not TOKEN.fullmatch(token):
        return None
    response = redirect(page)
    keep(response, cookie, token, page)
    return response


def keep(response, cookie, value, page):
    response.set_signed_cookie(
        cookie,
        value,
        salt=f"unlocks.{page}",
        path=reverse(page),
        secure=not settings.TRIAL,
        httponly=True,
        samesite="Lax",
    )


def kept(request, cookie):
    return request.get_signed_cookie(cookie, default=None, salt=f"unlocks.{place(request)}")
