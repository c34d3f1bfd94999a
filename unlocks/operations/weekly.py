"""The weekly email to managers: queued once, when it is due; its figures are those of the moment it is sent."""

from datetime import date, datetime, time, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from .. import roles
from ..actors import Actor
from ..ledger import chain
from ..models import Outgoing, UnlockRequest
from ..outbox import rows

WEEK = timedelta(days=7)
LATE = timedelta(days=2)  # when no worker ran for longer, the next one comes in time


def queue_weekly(*, by: Actor) -> int:
    """Queue the weekly email to each manager with an address, if it is due; return how many were queued."""
    due_at = latest_due(timezone.now())
    if due_at is None or not _is_due(due_at):
        return 0
    with transaction.atomic():
        chain.lock()  # another worker may be at it
        if not _is_due(due_at):
            return 0
        addresses = {address.lower(): address for address in managers().values_list("email", flat=True)}.values()
        rows.queue_all(Outgoing.Email.WEEKLY, [(to, {}) for to in addresses], by=by.begin())
    return len(addresses)


def managers() -> QuerySet[User]:
    """Return who gets the email: managers with an address. A superuser who has no such role looks after the desk."""
    return roles.staff_who_may("unlocks.review_case", superusers=False).exclude(email="")


def latest_due(now: datetime) -> datetime | None:
    """Return when the weekly email was due last, in the desk's time zone; None where there is to be none."""
    if settings.WEEKLY_EMAIL is None:
        return None
    weekday, hour = settings.WEEKLY_EMAIL
    today = timezone.localdate(now, timezone.get_default_timezone())
    day = today - timedelta((today.weekday() - weekday) % 7)
    due_at = _at(day, hour)
    return due_at if due_at <= now else _at(day - WEEK, hour)


def _is_due(due_at: datetime) -> bool:
    queued = Outgoing.objects.filter(email=Outgoing.Email.WEEKLY, queued_at__gte=_counts_since(due_at))
    return timezone.now() - due_at < LATE and not queued.exists() and UnlockRequest.objects.exists()


def _counts_since(due_at: datetime) -> datetime:
    """Return since when an email is that of this week, though WEEKLY_EMAIL was another day of it.

    One that came late, after a Sunday, is that of the week before.
    """
    day = timezone.localdate(due_at, timezone.get_default_timezone())
    return max(_at(day - timedelta(day.weekday()), 0), due_at - WEEK + LATE)


def _at(day: date, hour: int) -> datetime:
    return timezone.make_aware(datetime.combine(day, time(hour)), timezone.get_default_timezone())
