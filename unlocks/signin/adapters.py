"""What allauth asks the desk: whether someone may sign in, and what comes of it."""

import time

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from django.contrib.auth import authenticate
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils import timezone

from .. import operations, roles
from ..actors import Actor, client_ip
from ..admin.site import desk
from ..texts.formats import counted
from . import tries
from .sessions import BEGAN

WRONG = "That username and password are not those of an account that may sign in. Check both, capitals too."
NOT_RECORDED = (
    "Your password is not the one that the record tells of, so it is not accepted. "
    "Ask a superuser to send you a link, and to run the audit."
)
METHODS = {"password": "password"}


class SignInAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request):
        return False

    def is_ajax(self, request):
        return False

    def get_client_ip(self, request):
        return client_ip(request) or "not known"

    def add_message(self, request, level, message_template=None, *args, **kwargs):
        """Say nothing of signing in and out: the next page shows it."""
        if message_template not in ("account/messages/logged_in.txt", "account/messages/logged_out.txt"):
            super().add_message(request, level, message_template, *args, **kwargs)

    def authenticate(self, request, **credentials):
        """Return whose username and password these are; None, told in the ledger, if nobody's who may sign in.

        A try is counted before it is judged. Raises ValidationError when there were too many.
        """
        username = credentials.get("username", "")
        again, give_back = tries.take(request, username)
        named = roles.user_named(username)
        if again:
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

    def validation_error(self, code, *args):
        return ValidationError(WRONG) if code == "username_password_mismatch" else super().validation_error(code, *args)

    def pre_login(self, request, user, **kwargs):
        """Refuse whoever may not sign in, whatever they showed for it."""
        if not user.is_active or not user.is_staff:
            raise PermissionDenied("This account may not sign in.")

    def post_login(self, request, user, **kwargs):
        response = super().post_login(request, user, **kwargs)
        how = [METHODS.get(one.get("type", one["method"]), "") for one in get_authentication_records(request, user)]
        operations.record_sign_in(user, how=how, by=Actor.staff(user, request))
        request.session[BEGAN] = int(time.time())
        tries.remember(response, user)
        return desk.signed_in(request, response, request.session.pop("typed", ""))
