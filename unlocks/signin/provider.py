"""What the company's provider (OpenID Connect) says, as far as the desk believes it."""

import time
from functools import lru_cache

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount import app_settings
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.base import ProviderException
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.shortcuts import render
from requests import RequestException

PROVIDER = "company"
_KEPT = 10 * 60  # seconds
_NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


class CompanyProvider(OpenIDConnectOAuth2Adapter):
    """Asks the provider who someone is. Of its answer only its own key for them is kept."""

    @property
    def openid_config(self):
        """Return what the provider says of itself. Raises ImmediateHttpResponse, with a page, if it is away."""
        try:
            return _configuration(self.get_provider().server_url, int(time.time()) // _KEPT)
        except (RequestException, ValueError, LookupError, TypeError) as error:
            context = {"why": "away", "provider": settings.OIDC_NAME}
            page = render(self.request, "account/company_refused.html", context, status=503)
            raise ImmediateHttpResponse(page) from error

    def complete_login(self, request, app, token, response, **kwargs):
        """Return a login of whom the provider names, with what its two documents, `id_token` and `userinfo`, say.

        Raises ProviderException if they are not about one and the same person.
        """
        id_token, userinfo = self._decode_id_token(app, response.get("id_token")), self._fetch_user_info(token.token)
        key = id_token.get("sub")
        if not _is_key(key) or not isinstance(userinfo, dict) or userinfo.get("sub") != key:
            raise ProviderException("The ID token and the userinfo do not name one person.")
        login = self.get_provider().sociallogin_from_response(request, {"sub": key})
        login.id_token, login.userinfo = id_token, userinfo
        return login


@lru_cache(maxsize=1)
def _configuration(address, time_slice):
    """Ask the provider for its configuration, once in each slice of time. What lacks something is not kept."""
    with get_adapter().get_requests_session() as session:
        answer = session.get(address)
    answer.raise_for_status()
    said = answer.json()
    return said | {name: said[name] for name in _NEEDED}


def _is_key(sub):
    return isinstance(sub, str) and sub.isascii() and sub.isprintable() and 0 < len(sub) <= app_settings.UID_MAX_LENGTH


def address(login):
    """Return the address that one of the documents has, and calls verified itself; None if neither does."""
    for said in (login.id_token, login.userinfo):
        if isinstance(email := said.get("email"), str) and said.get("email_verified") in (True, "true"):
            return email
    return None


def groups(login):
    """Return the desk's groups that the provider's stand for; those that the desk does not know are ignored."""
    named = (login.id_token | login.userinfo).get(settings.OIDC_GROUPS_CLAIM) or []
    named = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return sorted({settings.OIDC_GROUPS[name] for name in map(str, named) if name in settings.OIDC_GROUPS})


def showed_two(login):
    """Say whether the provider asked for a second factor. Only the ID token says how someone signed in there."""
    amr = login.id_token.get("amr")
    return (isinstance(amr, list) and "mfa" in amr) or login.id_token.get("acr") in settings.OIDC_ACR


def asked_at(login):
    """Return when the provider last asked who it is, in seconds since 1970; 0 if it doesn't say."""
    at = login.id_token.get("auth_time")
    return min(at, time.time()) if isinstance(at, int | float) and at > 0 else 0


def origin(address):
    """Return scheme and host of an address."""
    return "/".join(address.split("/")[:3])
