"""The pages of signing in. They are allauth's, in the desk's look; whatever changes an account goes through a verb."""

from functools import partial

from allauth.account.internal.flows.login import record_authentication
from allauth.account.models import Login
from allauth.account.utils import get_next_redirect_url
from allauth.account.views import LoginView, LogoutView, ReauthenticateView
from allauth.mfa.base import views as mfa
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from allauth.mfa.webauthn.internal.flows import perform_passwordless_login
from allauth.socialaccount.providers.base import AuthProcess
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from .. import operations
from ..actors import Actor
from ..admin.site import desk
from ..models import DeskSession
from . import sessions, showed, tries
from .company import before_connecting, is_connected
from .forms import ConfirmForm, OwnPasswordForm
from .provider import PROVIDER, CompanyProvider, origin


class SignInView(LoginView):
    """Sign in by password. What was typed while signed out waits in the session until it is known who it was."""

    extra_context = {
        "second_factor_required": lambda: settings.SECOND_FACTOR_REQUIRED,
        "company": lambda: settings.OIDC_NAME if settings.OIDC_URL else "",
    }

    def form_valid(self, form):
        self.request.session["typed"] = form.cleaned_data["typed"]
        return super().form_valid(form)

    def get_authenticated_redirect_url(self):
        return reverse("admin:index")


class SignInByPasskeyView(webauthn.LoginWebAuthnView):
    def form_valid(self, form):
        self.request.session["typed"] = self.request.POST.get("typed", "")
        authenticator = form.cleaned_data["credential"]
        login = Login(user=authenticator.user, redirect_url=get_next_redirect_url(self.request))
        return perform_passwordless_login(self.request, authenticator, login)

    def form_invalid(self, form):
        if not tries.is_told(self.request, "", "passkey"):
            operations.record_failed_sign_in(None, why="passkey", by=Actor.nobody(self.request))
        return super().form_invalid(form)

    def get_authenticated_redirect_url(self):
        return reverse("admin:index")


@never_cache
def sign_in_with_company(request, provider_id):
    """Lead to the company's provider. This page alone may send a form on to its origin: Chromium asks for that."""
    provider = _provider(request, provider_id)
    if {*request.GET, *request.POST} - {"next", "csrfmiddlewaretoken"}:
        # allauth would connect accounts, too, and hand the provider whatever it is told to
        raise BadRequest("Nothing but signing in is done here.")
    if request.user.is_authenticated:
        if not is_connected(request.user) and (address := before_connecting(request)):
            return redirect(address)
        again = {"prompt": "login", "max_age": int(settings.CONFIRMED_FOR.total_seconds())}
        request.GET = request.GET.copy()
        request.GET["auth_params"] = urlencode(again)
        request.GET["process"] = AuthProcess.LOGIN if is_connected(request.user) else AuthProcess.CONNECT
    origins = [origin(provider.authorize_url)]
    answer = OAuth2LoginView.adapter_view(provider)(request)
    answer._csp_update = {"form-action": origins}
    return answer


@never_cache
def back_from_company(request, provider_id):
    """Take in whoever comes back from the company's provider."""
    return OAuth2CallbackView.adapter_view(_provider(request, provider_id))(request)


def _provider(request, provider_id):
    if provider_id != PROVIDER or not settings.OIDC_URL:
        raise Http404("There is no such provider.")
    return CompanyProvider(request, provider_id)


class SignOutView(LogoutView):
    def post(self, request, *args, **kwargs):
        if request.user.is_authenticated:
            operations.record_session_end(request.user, how="signed_out", by=Actor.staff(request.user, request))
        self.logout()
        return render(request, "account/signed_out.html")


@never_cache
def staff_link(request, token):
    """Keep the token of an emailed link in the session, and lead to an address that holds none."""
    request.session["staff_link"] = token
    return redirect("set_password")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def set_password(request):
    """Have whoever opened an emailed link choose a password of their own."""
    link = operations.staff_link_for(request.session.get("staff_link", ""))
    if link is None:
        return render(request, "account/link_dead.html", status=410)
    form = OwnPasswordForm(link.user, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        by = Actor.staff(link.user, request)
        try:
            operations.set_password_by_link(link, form.cleaned_data["new_password1"], by=by)
        except operations.Refused:
            return render(request, "account/link_dead.html", status=410)
        logout(request)
        messages.success(request, "Your password is set. Sign in with it.")
        return redirect("account_login")
    return render(request, "account/set_password.html", {"form": form, "colleague": link.user})


class ConfirmView(ReauthenticateView):
    """Confirm by password who it is, before what counts most."""

    form_class = ConfirmForm


class ConfirmByPasskeyView(webauthn.ReauthenticateWebAuthnView):
    def form_invalid(self, form):
        for said in (one for errors in form.errors.values() for one in errors):
            messages.error(self.request, said)
        return redirect(self.passthrough_next_url(self.request.path))


class OnTheDesk:
    """A page with the desk's navigation."""

    title = ""

    def get_context_data(self, **kwargs):
        return {**desk.each_context(self.request), "title": self.title, **super().get_context_data(**kwargs)}


class OfFactors(OnTheDesk):
    """A page of second factors: for a session that has shown one, if there is one."""

    def dispatch(self, request, *args, **kwargs):
        if address := showed.before_factors(request):
            return redirect(address)
        return super().dispatch(request, *args, **kwargs)


class Told(OfFactors):
    """A form that changes the second factors of whoever sends it: the ledger tells what became different."""

    shown = ""  # the kind that was shown to work just now

    def form_valid(self, form):
        by = Actor.staff(self.request.user, self.request)
        try:
            answer = operations.change_own_factors(partial(super().form_valid, form), by=by)
        except operations.Refused as refused:
            messages.error(self.request, str(refused))
            return redirect("mfa_index")
        if self.shown:
            newest = Authenticator.objects.filter(user=self.request.user, type=self.shown).latest("pk")
            record_authentication(self.request, self.request.user, "mfa", id=newest.pk, type=newest.type)
        return answer


class YourSignInView(OfFactors, mfa.IndexView):
    """How whoever looks signs in, and where they are signed in."""

    title = "Your sign-in"

    def get_context_data(self, **kwargs):
        return {
            **super().get_context_data(**kwargs),
            "required": showed.needs_second_factor(self.request.user),
            "asked_of_nobody": not settings.SECOND_FACTOR_REQUIRED,
            "missing": showed.what_is_missing(self.request),
            "sessions": sessions.of_user(self.request),
            "company": settings.OIDC_NAME if settings.OIDC_URL else "",
            "connected": is_connected(self.request.user),
        }


class SetUpAppView(Told, totp.ActivateTOTPView):
    title, shown = "Set up an authenticator app", Authenticator.Type.TOTP


class RemoveAppView(Told, totp.DeactivateTOTPView):
    title = "Remove the authenticator app?"


class NewCodesView(Told, recovery_codes.GenerateRecoveryCodesView):
    title = "Make new recovery codes?"


class CodesView(OfFactors, recovery_codes.ViewRecoveryCodesView):
    title = "Recovery codes"


class AddPasskeyView(Told, webauthn.AddWebAuthnView):
    title, shown = "Add a passkey", Authenticator.Type.WEBAUTHN


class RemovePasskeyView(Told, webauthn.RemoveWebAuthnView):
    title, success_url = "Remove a passkey?", reverse_lazy("mfa_index")


@require_POST
@login_required
def end_session(request, key):
    """End another session of whoever asks for it."""
    if address := showed.before_factors(request):
        return redirect(address)
    session = get_object_or_404(DeskSession, session_key=key, user=request.user)
    session.delete()
    operations.record_session_end(request.user, how="ended", by=Actor.staff(request.user, request))
    messages.success(request, "That session has ended.")
    return redirect("mfa_index")
