"""Systems and the tokens of the API that they act by."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from .. import history
from ..actors import Actor
from ..keys import derived
from ..ledger import chain, events
from ..models import ApiToken, LedgerEntry
from ..rules import Refusal
from .staff import lock_account, noted
from .verbs import Refused, once, staff_verb

_SEEN_EVERY = timedelta(minutes=1)  # a busy system is not written down at each call


@staff_verb("api.make_tokens")  # a permission that nobody can be given: superusers alone have it
@once(events.ApiTokenMade, lambda entry: (_of_entry(entry), ""))
@transaction.atomic
def make_api_token(
    system: str, *, name: str, scopes: Iterable[str], expires_at: datetime, by: Actor
) -> tuple[ApiToken, str]:
    """Make a token for the system with this username, which is made with its first one; return both.

    The token itself is known here and nowhere else: what is kept is an HMAC of it. Raises Refused: NOT_A_SYSTEM,
    MAKES_UP_CUSTOMERS.
    """
    user, token = _system(system, by), f"ud_{secrets.token_urlsafe(32)}"
    held = {scope for row in user.api_tokens.all() for scope in row.scope_set} | set(scopes)
    if held.intersection(ApiToken.MAKES_CUSTOMERS) and held.intersection(ApiToken.ACTS_ON_REQUESTS):
        raise Refused.because(Refusal.MAKES_UP_CUSTOMERS, name=user)
    made = ApiToken.objects.create(
        name=name,
        system=user,
        scopes=" ".join(sorted(set(scopes))),
        token_hash=_hashed(token),
        made_by=by.member,
        made_at=by.act.at,
        expires_at=expires_at,
    )
    chain.append(events.ApiTokenMade.of(made), by=by)
    return made, token


@staff_verb("api.make_tokens")
@transaction.atomic
def revoke_api_token(token: ApiToken, *, by: Actor) -> ApiToken:
    """Make a token useless at once. Raises Refused: ALREADY_RECORDED."""
    token = history.lock_row(ApiToken.objects.select_related("system"), token.pk)
    if token.revoked_at:
        raise Refused.because(Refusal.ALREADY_RECORDED, names="revoked")
    token.revoked_at, token.revoked_by = by.act.at, by.member
    token.save(update_fields=["revoked_at", "revoked_by"])
    chain.append(events.ApiTokenRevoked.of(token), by=by)
    return token


def system_of(token: str, request: HttpRequest) -> Actor | None:
    """Return the system that shows this token, or None if it is none, over or revoked, or its system deactivated."""
    now = timezone.now()
    tokens = ApiToken.objects.filter(token_hash=_hashed(token), revoked_at=None, expires_at__gt=now)
    found = tokens.filter(system__is_active=True).select_related("system").first()
    if found is None:
        return None
    if found.last_used_at is None or found.last_used_at <= now - _SEEN_EVERY:
        unseen = Q(last_used_at=None) | Q(last_used_at__lt=now)
        ApiToken.objects.filter(unseen, pk=found.pk).update(last_used_at=now)
    return Actor.system(found, request)


def _hashed(token: str) -> str:
    """Return the HMAC (hex) of a token, by which it is found: nobody can steer towards one that is kept."""
    return hmac.new(derived("API token"), token.encode(), sha256).hexdigest()


def _system(username: str, by: Actor) -> User:
    """Lock the system with this username, or make it. Raises Refused when it is someone's who signs in."""
    user = User(username=username)

    def write() -> None:
        user.set_unusable_password()
        user.save()

    if found := User.objects.filter(username__iexact=username).first():
        lock_account(found.pk)
        found.refresh_from_db()
        if found.is_staff or found.is_superuser or is_password_usable(found.password):
            raise Refused.because(Refusal.NOT_A_SYSTEM, name=found)
        return found
    noted(user, write, by)
    return user


def _of_entry(entry: LedgerEntry) -> ApiToken:
    return ApiToken.objects.get(pk=entry.about_id or 0)
