"""How a colleague comes to a password of their own, and to the desk again without a second factor that is lost.

Nobody sets a colleague's password. A superuser has a link emailed to them, and two take away lost factors.
"""

from datetime import timedelta

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from ..actors import Actor
from ..factors import factors_of
from ..ledger import chain, events
from ..models import DeskSession, LedgerEntry, Outgoing, StaffLink
from ..outbox import rows, secrets
from ..rules import Refusal
from .staff import changes_told, is_system, lock_account, noted
from .verbs import Refused, staff_verb

ASKED_FOR = timedelta(hours=24)  # how long what one superuser asked for waits for another


@staff_verb("auth.change_user")
@transaction.atomic
def send_staff_link(user: User, *, by: Actor) -> StaffLink:
    """Email a colleague a link to set their own password. Earlier ones no longer work.

    Raises Refused: SYSTEM_SIGNS_IN, NOT_A_COLLEAGUE, NO_ADDRESS, ADDRESS_TYPED. Who had it sent to an address of their
    own would become a colleague who has been here before.
    """
    lock_account(user.pk)
    user.refresh_from_db()
    if is_system(user):
        raise Refused.because(Refusal.SYSTEM_SIGNS_IN, name=user)
    if not user.is_active or not user.is_staff:
        raise Refused.because(Refusal.NOT_A_COLLEAGUE, name=user)
    if not user.email:
        raise Refused.because(Refusal.NO_ADDRESS, name=user)
    if (user.last_login or user.has_usable_password()) and _typed_address(user, by):
        raise Refused.because(Refusal.ADDRESS_TYPED, name=user)
    nonce = secrets.new_nonce()
    link = StaffLink.objects.create(
        user=user,
        sent_by=by.member,
        sent_at=by.act.at,
        expires_at=by.act.at + settings.STAFF_LINK_LIFETIME,
        token_hash=secrets.hashed(secrets.token(nonce)),
    )
    rows.queue(Outgoing.Email.STAFF_LINK, user.email, by=by, nonce=nonce)
    chain.append(events.StaffLinkSent.of(link, to=user.email), by=by)
    return link


def _typed_address(user: User, by: Actor) -> bool:
    newest = next((entry for entry, event in changes_told(user.pk) if "email" in event.changed), None)
    return newest is not None and newest.user_id == by.member.pk


def staff_link_for(token: str) -> StaffLink | None:
    """Return the link with this token if it works: the newest one of an active colleague, unused and in time."""
    link = StaffLink.objects.select_related("user").filter(token_hash=secrets.hashed(token)).first()
    return link if link and staff_link_works(link) else None


def is_newest(link: StaffLink) -> bool:
    return not StaffLink.objects.filter(user=link.user_id, pk__gt=link.pk).exists()


def staff_link_works(link: StaffLink) -> bool:
    """Say whether a link sets a password: newest, unused, in time, as an entry tells, to the address on file."""
    user = link.user
    in_time = link.used_at is None and link.expires_at > timezone.now()
    return in_time and user.is_active and user.is_staff and is_newest(link) and _is_as_told(link)


def _is_as_told(link: StaffLink) -> bool:
    """Say whether an entry tells of this link, and the address that it went to is still the colleague's."""
    entry = LedgerEntry.objects.filter(kind=events.StaffLinkSent.kind, about_id=link.pk).first()
    told = entry and chain.event_of(entry)
    return isinstance(told, events.StaffLinkSent) and told == events.StaffLinkSent.of(link, to=link.user.email)


@transaction.atomic
def set_password_by_link(link: StaffLink, password: str, *, by: Actor) -> User:
    """Set the password of whoever a link was emailed to, once, and end their sessions.

    Raises Refused: STAFF_LINK_DEAD.
    """
    lock_account(link.user_id)
    link = StaffLink.objects.select_related("user").get(pk=link.pk)
    if not staff_link_works(link):
        raise Refused.because(Refusal.STAFF_LINK_DEAD)
    user, by = link.user, by.begin()

    def write() -> None:
        user.set_password(password)
        user.save(update_fields=["password"])

    link.used_at = by.act.at
    link.save(update_fields=["used_at"])
    DeskSession.objects.filter(user=user).delete()
    noted(user, write, by)
    chain.append(events.StaffLinkUsed.of(link), by=by)
    return user


def factor_reset_of(user: User) -> LedgerEntry | None:
    """Return the entry by which someone asked to take away a colleague's second factors, if it still waits."""
    kinds = [events.FactorResetAsked.kind, events.StaffChanged.kind]
    entries = LedgerEntry.objects.filter(kind__in=kinds, about_id=user.pk, at__gt=timezone.now() - ASKED_FOR)
    for entry in entries.order_by("-sequence").iterator():
        event = chain.event_of(entry)
        if isinstance(event, events.FactorResetAsked):
            return entry if entry.user and entry.user.is_active and entry.user.is_superuser else None
        if isinstance(event, events.StaffChanged) and "factors" in event.changed:
            return None
    return None


@staff_verb("auth.change_user")
@transaction.atomic
def ask_factor_reset(user: User, *, by: Actor) -> None:
    """Ask another superuser to take away a colleague's lost second factors. Raises Refused: NO_FACTORS, OWN_FACTORS."""
    _check(user, by)
    chain.append(events.FactorResetAsked(about_id=user.pk, name=user.get_username()), by=by)


@staff_verb("auth.change_user")
@transaction.atomic
def reset_factors(user: User, *, by: Actor) -> None:
    """Take away a colleague's second factors and company account, as another superuser asked; end their sessions.

    They connect a company account again from inside: “Your sign-in”.
    Raises Refused: NO_FACTORS, OWN_FACTORS, RESET_NOT_ASKED, ASKED_YOURSELF.
    """
    _check(user, by)
    if (asked := factor_reset_of(user)) is None:
        raise Refused.because(Refusal.RESET_NOT_ASKED)
    if asked.user_id == by.member.pk:
        raise Refused.because(Refusal.ASKED_YOURSELF)
    DeskSession.objects.filter(user=user).delete()

    def write() -> None:
        Authenticator.objects.filter(user=user).delete()
        SocialAccount.objects.filter(user=user).delete()

    noted(user, write, by)


def _check(user: User, by: Actor) -> None:
    lock_account(user.pk)
    if user == by.member:
        raise Refused.because(Refusal.OWN_FACTORS)
    if not factors_of(user.pk):
        raise Refused.because(Refusal.NO_FACTORS, name=user)
