"""What this session has shown of who it is. That an account could show more is no proof."""

import time

from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY, get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

BEGAN = "began"  # in the session: when someone signed in, in seconds since 1970
BY_PROVIDER = "second_factor_by_provider"  # in the session: whether the company's provider asked for one
# Whoever may do one of these needs a second factor.
NEEDS_SECOND_FACTOR = (
    "unlocks.unlock_batch",
    "unlocks.record_phone_consent",
    "unlocks.issue_pin",
    "unlocks.withdraw_consent",
    "auth.change_user",
)


def needs_second_factor(user):
    return settings.SECOND_FACTOR_REQUIRED and any(map(user.has_perm, NEEDS_SECOND_FACTOR))


def second_factor(request):
    """Say whether this session has shown a second factor, or a passkey, which is two."""
    records = get_authentication_records(request, request.user)
    return any(one["method"] == "mfa" for one in records) or bool(records and request.session.get(BY_PROVIDER))


def what_is_missing(request):
    """Return the address at which whoever is signed in shows the second factor that they have or need; or None.

    Without it, no page of the desk opens to them.
    """
    if settings.SECOND_FACTOR_REQUIRED and (address := before_factors(request)):
        return address
    if not request.user.is_authenticated or not needs_second_factor(request.user) or second_factor(request):
        return None
    return reverse("mfa_index")


def before_factors(request):
    """Return the address at which whoever is signed in shows the second factor that they have set up; or None.

    Whoever knows the password alone neither sees nor changes what it is not enough without.
    """
    if not request.user.is_authenticated or second_factor(request) or not is_mfa_enabled(request.user):
        return None
    asked = request.get_full_path() if request.method in ("GET", "HEAD") else reverse("admin:index")
    return before("mfa_reauthenticate", asked)


def before(page, then):
    """Return the address of a page that asks who it is, and then leads to another address."""
    return f"{reverse(page)}?{urlencode({'next': then})}"


def recently(request):
    """Say whether this session signed in, or confirmed who it is, in the last CONFIRM_MINUTES."""
    records = get_authentication_records(request, request.user)
    return is_recent(max((one["at"] for one in records), default=request.session.get(BEGAN, 0)))


def is_recent(at):
    return time.time() - at < settings.CONFIRMED_FOR.total_seconds()


def date_by_provider(request):
    """Date what the company's provider said to when it asked who it is: it lets in whoever it still knows."""
    records = get_authentication_records(request, request.user)
    at = getattr(request, "asked_there_at", 0)
    request.session[AUTHENTICATION_METHODS_SESSION_KEY] = [
        one | {"at": at} if one["method"] == "socialaccount" else one for one in records
    ]


def before_file(request, back):
    """Return what asks who it is before a file is sent, and leads back to the page of its button; or None.

    The form is not sent again by itself: the page that asks would stay while the file comes.
    """
    if recently(request):
        return None
    messages.info(request, "Confirm that it is you, then download the file.")
    return redirect(before("account_reauthenticate", back))


def confirm(request):
    """Go on if this session showed recently who it is.

    Raises ReauthenticationRequired, upon which allauth asks for it, and then sends the same form again.
    """
    if not recently(request):
        raise ReauthenticationRequired
