"""What allauth asks the desk: whether someone may sign in, and what comes of it."""

import time

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.core.exceptions import ValidationError
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from .. import operations, pins, roles
from ..actors import Actor, client_ip
from ..admin.site import desk
from ..factors import NAMES
from ..keys import box
from ..texts.formats import counted
from . import showed, tries
from .company import FIRST_STEP, is_connected
from .provider import PROVIDER

WRONG = "That username and password are not those of an account that may sign in. Check both, capitals too."
NOT_RECORDED = (
    "Your password is not the one that the record tells of, so it is not accepted. "
    "Ask a superuser to send you a link, and to run the audit."
)
SILENT = {  # the next page shows it
    "account/messages/logged_in.txt",
    "account/messages/logged_out.txt",
    "mfa/messages/recovery_codes_generated.txt",
}


class SignInAdapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": WRONG,
        "incorrect_password": "That is not your password.",
        "too_many_login_attempts": "Too many tries. Try again in ten minutes.",
    }

    def is_open_for_signup(self, request):
        return False

    def is_ajax(self, request):
        """Answer pages, but for what a passkey is asked by."""
        return request.method == "GET" and request.path == reverse("mfa_login_webauthn")

    def get_client_ip(self, request):
        return client_ip(request) or "not known"

    def add_message(self, request, level, message_template=None, *args, **kwargs):
        if message_template not in SILENT:
            super().add_message(request, level, message_template, *args, **kwargs)

    def authenticate(self, request, **credentials):
        """Return whose username and password these are; None, told in the ledger, if nobody's who may sign in.

        A try is counted before it is judged. Raises ValidationError when there were too many.
        """
        username = credentials.get("username", "")
        again, give_back = tries.take(request, username)
        named = roles.user_named(username)
        if again:
            if not tries.is_told(request, username, "too many"):
                self._failed(request, named, "too_many")
            minutes = max(1, round((again - timezone.now()).total_seconds() / 60))
            raise ValidationError(f"Too many tries. Try again in {counted(minutes, 'minute', 'minutes')}.")
        if (user := authenticate(request, **credentials)) is None:
            self._failed(request, named, self._why(named))
            return None
        if not operations.password_is_recorded(user):
            self._failed(request, user, "not_recorded")
            raise ValidationError(NOT_RECORDED)
        give_back()
        operations.renew_hash(user, credentials["password"], by=Actor.staff(user, request))
        return user

    def _why(self, named):
        if named is None:
            return "unknown"
        return "password" if named.is_active and named.is_staff else "not_allowed"

    def _failed(self, request, named, why):
        operations.record_failed_sign_in(named, why=why, by=Actor.nobody(request))

    def pre_login(self, request, user, **kwargs):
        """Refuse whoever may not sign in, or has second factors that no entry tells of, whatever they showed."""
        request.session.pop(FIRST_STEP, None)  # someone else's may be left over
        if not (user.is_active and user.is_staff):
            self._refuse(request, user, "not_allowed")
        if not operations.factors_are_recorded(user):
            self._refuse(request, user, "factors")

    def _refuse(self, request, user, why):
        self._failed(request, user, why)
        raise ImmediateHttpResponse(render(request, "account/refused.html", {"why": why}, status=403))

    def post_login(self, request, user, **kwargs):
        """Begin the session. What was shown first counts only if it has not been changed, or the account, since."""
        first = request.session.pop(FIRST_STEP, None)
        user.refresh_from_db()
        if not (user.is_active and user.is_staff) or first not in (None, pins.password_mac(user.pk, user.password)):
            logout(request)
            self._refuse(request, user, "changed")
        if not operations.factors_are_recorded(user):  # some were put there between the two steps
            logout(request)
            self._refuse(request, user, "factors")
        response = super().post_login(request, user, **kwargs)
        by = Actor.staff(user, request)
        showed.date_by_provider(request)
        how = [_shown(one) for one in get_authentication_records(request, user)]
        operations.record_sign_in(user, how=how, by=by)
        request.session[showed.BEGAN] = int(time.time())
        request.session[showed.BY_PROVIDER] = getattr(request, "second_factor_by_provider", False)
        request.session["from"] = [by.ip or "", by.browser]
        tries.remember(response, user)
        return desk.signed_in(request, response, request.session.pop("typed", ""))

    def get_login_stages(self):
        return ["unlocks.signin.company.SecondStep"]

    def get_reauthentication_methods(self, user):
        """Let whoever signs in by the company alone sign in there again."""
        methods = super().get_reauthentication_methods(user)
        if not methods and settings.OIDC_URL and user.is_authenticated and is_connected(user):
            again = reverse("openid_connect_login", args=[PROVIDER])
            methods = [{"id": "company", "description": settings.OIDC_NAME, "url": again}]
        return methods

    def is_reauthentication_required(self, *, app, **kwargs):
        return not showed.recently(context.request)


def _shown(record):
    """Say in a word what someone showed for who they are."""
    return "company account" if record["method"] == "socialaccount" else NAMES.get(record.get("type"), record["method"])


class FactorAdapter(DefaultMFAAdapter):
    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "That is not right, or was used before. Try again.",
    }

    def encrypt(self, text):
        return box("second factors").encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text):
        return box("second factors").decrypt(encrypted_text.encode()).decode()

    def get_totp_label(self, user):
        return user.get_username()

    def generate_authenticator_name(self, user, type):
        return ""

    def get_public_key_credential_rp_entity(self):
        return {**super().get_public_key_credential_rp_entity(), "name": "Unlock Desk"}

    def get_public_key_credential_user_entity(self, user):
        return {**super().get_public_key_credential_user_entity(user), "name": user.get_username()}
