"""What the record tells of signing in: who did, who tried, and how a session ended. None of it changes an account."""

from collections.abc import Sequence

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from .. import history, pins, roles
from ..actors import Actor
from ..ledger import chain, events
from ..models import DeskSession, Outgoing
from ..outbox import rows
from ..texts import normalize
from .staff import changes_told, noted


@transaction.atomic
def record_sign_in(user: User, *, how: Sequence[str], by: Actor) -> None:
    """Tell that someone signed in, and by what they showed for it. Of the emergency account, managers are told, too."""
    by = by.begin()
    told = [chain.Entry(events.SignedIn(about_id=user.pk, how=list(how), browser=by.browser))]
    if normalize.look_alike(user.get_username()) == normalize.look_alike(settings.BREAK_GLASS_USERNAME):
        rows.queue_all(Outgoing.Email.BREAK_GLASS, [(to, {}) for to in told_of_emergency(user)], by=by)
        told.append(chain.Entry(events.BreakGlassUsed(about_id=user.pk, name=user.get_username())))
    chain.append_all(told, by=by)


def told_of_emergency(user: User) -> list[str]:
    """Return the addresses that are told when the emergency account is used: of managers and other superusers."""
    managers = roles.staff_who_may("unlocks.review_case").exclude(pk=user.pk).exclude(email__in=["", user.email])
    return sorted(set(managers.values_list("email", flat=True)))


@transaction.atomic
def record_first_step(user: User, *, by: Actor) -> None:
    """Tell that someone gave the password of a user, or their company account, and was asked for the second step."""
    event = events.FirstStep(about_id=user.pk, name=user.get_username(), browser=by.browser)
    chain.append(event, by=by.begin())


@transaction.atomic
def record_failed_sign_in(user: User | None, *, why: str, by: Actor) -> None:
    """Tell that someone failed to sign in, as `user` if there is one of the name. `why` is a key of its WHY."""
    name = user.get_username() if user else ""
    event = events.SignInFailed(about_id=user.pk if user else None, why=why, name=name, browser=by.browser)
    chain.append(event, by=by.begin())


@transaction.atomic
def record_session_end(user: User, *, how: str, by: Actor) -> None:
    """Tell that a session ended. `how` is a key of SessionEnded.HOW."""
    event = events.SessionEnded(about_id=user.pk, how=how, name=user.get_username())
    chain.append(event, by=by.begin())


@transaction.atomic
def end_idle_sessions(*, by: Actor) -> None:
    """Delete sessions that expired because nobody used them, and tell whose they were."""
    now = timezone.now()
    expired = DeskSession.objects.filter(expire_date__lte=now)
    history.lock(expired)
    ended = expired.filter(user__isnull=False).order_by("expire_date", "pk").select_related("user")
    told = [
        chain.Entry(events.SessionEnded(about_id=session.user.pk, how="idle", name=session.user.get_username()))
        for session in ended
        if session.user
    ]
    DeskSession.objects.filter(expire_date__lte=now).delete()
    if told:
        chain.append_all(told, by=by.begin())


def password_is_recorded(user: User) -> bool:
    """Say whether the newest entry that tells of this user's password tells of this one."""
    told = (event.password_mac for _, event in changes_told(user.pk) if event.password_mac)
    return next(told, "") == pins.password_mac(user.pk, user.password)


def renew_hash(user: User, password: str, *, by: Actor) -> None:
    """Store the same password once more if it is stored in an outdated way. The entry says that it was set."""
    if not pins.password_matches(password, user.password)[1]:
        return

    def write() -> None:
        user.set_password(password)
        user.save(update_fields=["password"])

    noted(user, write, by.begin())
