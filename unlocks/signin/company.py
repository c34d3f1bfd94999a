"""Signing in with the company's provider (OpenID Connect): for staff who are on the desk, and nobody else."""

from allauth.account.internal.emailkit import valid_email_or_none
from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.reauthentication import resume_request
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.stages import AuthenticateStage
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import AuthProcess
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode

from .. import operations, pins
from ..actors import Actor
from ..factors import factors_of
from ..rules import Refusal
from . import provider, showed, tries
from .provider import PROVIDER, CompanyProvider

FIRST_STEP = "first_step"  # in the session: the HMAC of the password that someone has who was asked for the second step


class CompanyAdapter(DefaultSocialAccountAdapter):
    """Lets in whoever the provider names, if they are staff. Nobody gets an account by this."""

    def is_open_for_signup(self, request, sociallogin):
        return False

    def get_provider(self, request, provider, client_id=None):
        found = super().get_provider(request, provider, client_id)
        found.oauth2_adapter_class = CompanyProvider
        return found

    def on_authentication_error(self, request, provider, **kwargs):
        self._refuse(request, "failed")

    def pre_social_login(self, request, sociallogin):
        """Find out who it is, and give them the roles that the provider says they have.

        Raises ImmediateHttpResponse, with a page that says why, for strangers and for those without a role.
        """
        connects = sociallogin.state.get("process") == AuthProcess.CONNECT
        user = sociallogin.user if sociallogin.is_existing else self._new_to(request, sociallogin, connects)
        if user is None or (connects and user != request.user):
            self._refuse(request, "stranger", request.user if request.user.is_authenticated else None)
        groups = provider.groups(sociallogin)
        by = Actor.provider(request)
        if settings.OIDC_GROUPS and not groups:
            if sociallogin.is_existing:
                operations.give_roles(user, [], by=by)
            if request.user == user and not connects:
                logout(request)
            self._refuse(request, "no_role", user)
        if not sociallogin.is_existing:
            sociallogin.user = sociallogin.account.user = user
            self._link(request, user, sociallogin.account.save, by=Actor.staff(user, request) if connects else by)
        if settings.OIDC_GROUPS:
            operations.give_roles(user, groups, by=by)
        request.second_factor_by_provider = provider.showed_two(sociallogin)
        request.asked_there_at = provider.asked_at(sociallogin)
        if connects:
            messages.success(request, f"{settings.OIDC_NAME} is connected: from now on you may sign in with it.")
            raise ImmediateHttpResponse(redirect("mfa_index"))
        if request.user == user:
            raise ImmediateHttpResponse(self._confirmed(request, sociallogin))

    def _new_to(self, request, sociallogin, connects):
        """Return whose an account becomes that is nobody's, or None.

        An address says who was invited, and nobody else: a superuser can type one's own as a colleague's.
        """
        if not request.user.is_authenticated:
            return _invited(provider.address(sociallogin))
        if connects and before_connecting(request):
            self._refuse(request, "failed")
        return request.user if connects and not is_connected(request.user) else None

    def _link(self, request, user, write, by):
        try:
            operations.link_company_account(user, write, by=by)
        except operations.Refused as refused:
            self._refuse(request, "factors" if refused.code == Refusal.FACTORS_NOT_RECORDED else "stranger", user)

    def _confirmed(self, request, sociallogin):
        """Go on with what waits until whoever is signed in has confirmed that it is they, if the provider asked now."""
        if not showed.is_recent(request.asked_there_at):
            self._refuse(request, "not_again", request.user)
        account = {"provider": sociallogin.account.provider, "uid": sociallogin.account.uid}
        record_authentication(request, request.user, "socialaccount", at=request.asked_there_at, **account)
        by_provider = request.session.get(showed.BY_PROVIDER, False)
        request.session[showed.BY_PROVIDER] = by_provider or request.second_factor_by_provider
        request.GET = QueryDict(urlencode({"next": sociallogin.get_redirect_url(request) or reverse("admin:index")}))
        return resume_request(request)

    def _refuse(self, request, why, user=None):
        if why != "failed":  # which whoever calls the address can bring about as often as they like
            by = Actor.staff(user, request) if request.user == user else Actor.nobody(request)
            operations.record_failed_sign_in(user, why=why, by=by)
        context = {"why": why, "provider": settings.OIDC_NAME}
        raise ImmediateHttpResponse(render(request, "account/company_refused.html", context, status=403))


def _invited(email):
    """Return the colleague with an address that the provider has verified, if that is one who never signed in."""
    if not valid_email_or_none(email):
        return None
    colleagues = User.objects.filter(email__iexact=email, is_active=True, is_staff=True)
    found = [user for user in colleagues if user.email.lower() == email.lower()]  # as in roles.user_named
    if len(found) != 1 or found[0].last_login or found[0].has_usable_password() or factors_of(found[0].pk):
        return None
    return found[0]


def is_connected(user):
    """Say whether an account at the company's provider is this colleague's."""
    return SocialAccount.objects.filter(user=user.pk).exists()


def before_connecting(request):
    """Return the address at which whoever is signed in shows who it is, before an account becomes theirs; or None."""
    if address := showed.before_factors(request):
        return address
    if showed.recently(request):
        return None
    return showed.before("account_reauthenticate", reverse("openid_connect_login", args=[PROVIDER]))


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
