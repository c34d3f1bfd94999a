"""Signing in with the company's provider (OpenID Connect): for staff who are on the desk, and nobody else."""

import time

from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.reauthentication import resume_request
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.stages import AuthenticateStage
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.contrib.auth.models import User
from django.http import QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode

from .. import operations, pins
from ..actors import Actor
from . import showed, tries

PROVIDER = "company"
FIRST_STEP = "first_step"  # in the session: the HMAC of the password that someone has who was asked for the second step


class CompanyAdapter(DefaultSocialAccountAdapter):
    """Lets in whoever the provider names, if they are staff. Nobody gets an account by this."""

    def is_open_for_signup(self, request, sociallogin):
        return False

    def on_authentication_error(self, request, provider, **kwargs):
        self._refuse(request, "failed", 403)

    def pre_social_login(self, request, sociallogin):
        """Find out who it is, and give them the roles that the provider says they have.

        Raises ImmediateHttpResponse, with a page that says why, for strangers and for those without a role.
        """
        claims = {**sociallogin.account.extra_data.get("id_token", {})}
        claims |= sociallogin.account.extra_data.get("userinfo", {})
        user = sociallogin.user if sociallogin.is_existing else _colleague(claims)
        if user is None:
            self._refuse(request, "stranger", 403)
        groups = _groups(claims)
        if settings.OIDC_GROUPS and not groups:
            self._refuse(request, "no_role", 403, user)
        by = Actor.provider(request)
        if not sociallogin.is_existing:
            sociallogin.user = sociallogin.account.user = user
            operations.link_company_account(user, sociallogin.account.save, by=by)
        if settings.OIDC_GROUPS:
            operations.give_roles(user, groups, by=by)
        id_token = sociallogin.account.extra_data.get("id_token", {})
        request.second_factor_by_provider, request.asked_there_at = _showed_two(id_token), _asked_at(id_token)
        if request.user == user:
            raise ImmediateHttpResponse(self._confirmed(request, sociallogin))

    def _confirmed(self, request, sociallogin):
        """Go on with what waits until whoever is signed in has confirmed that it is they, if the provider asked now."""
        if not showed.is_recent(request.asked_there_at):
            self._refuse(request, "not_again", 403, request.user)
        account = {"provider": sociallogin.account.provider, "uid": sociallogin.account.uid}
        record_authentication(request, request.user, "socialaccount", at=request.asked_there_at, **account)
        by_provider = request.session.get(showed.BY_PROVIDER, False)
        request.session[showed.BY_PROVIDER] = by_provider or request.second_factor_by_provider
        request.GET = QueryDict(urlencode({"next": sociallogin.get_redirect_url(request) or reverse("admin:index")}))
        return resume_request(request)

    def _refuse(self, request, why, status, user=None):
        if why != "failed":  # which whoever calls the address can bring about as often as they like
            by = Actor.staff(user, request) if request.user == user else Actor.nobody(request)
            operations.record_failed_sign_in(user, why=why, by=by)
        context = {"why": why, "provider": settings.OIDC_NAME}
        raise ImmediateHttpResponse(render(request, "account/company_refused.html", context, status=status))


def _colleague(claims):
    """Return the active member of staff with the address that the provider has verified, if there is exactly one."""
    if not claims.get("email") or claims.get("email_verified") not in (True, "true"):
        return None
    found = User.objects.filter(email__iexact=claims["email"], is_active=True, is_staff=True)
    return found.get() if found.count() == 1 else None


def _groups(claims):
    """Return the desk's groups that the provider's stand for; those that the desk does not know are ignored."""
    named = claims.get(settings.OIDC_GROUPS_CLAIM) or []
    named = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return sorted({settings.OIDC_GROUPS[name] for name in map(str, named) if name in settings.OIDC_GROUPS})


def _showed_two(id_token):
    """Say whether the provider asked for a second factor. Only the ID token says how someone signed in there."""
    amr = id_token.get("amr")
    return (isinstance(amr, list) and "mfa" in amr) or id_token.get("acr") in settings.OIDC_ACR


def _asked_at(id_token):
    """Return when the provider last asked who it is, in seconds since 1970; 0 if it doesn't say."""
    at = id_token.get("auth_time")
    return min(at, time.time()) if isinstance(at, int | float) else 0


class SecondStep(AuthenticateStage):
    """Asks for the desk's own second factor, unless the provider has asked for one just now.

    That is told: who never gets any further may know a colleague's password.
    """

    def handle(self):
        response, goes_on = super().handle()
        user = self.login.user
        if not response:
            return response, goes_on
        self.request.session[FIRST_STEP] = pins.password_mac(user.pk, user.password)
        if not tries.is_told(self.request, user.get_username(), "first step"):
            operations.record_first_step(user, by=Actor.nobody(self.request))
        return response, goes_on

    def _should_handle(self, request):
        return not getattr(request, "second_factor_by_provider", False) and super()._should_handle(request)


def origin(address):
    """Return scheme and host of an address."""
    return "/".join(address.split("/")[:3])
