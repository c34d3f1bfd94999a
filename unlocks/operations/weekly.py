"""The weekly email to managers: queued once, when it is due; its figures are those of the moment it is sent."""

from datetime import datetime, time, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .. import roles
from ..actors import Actor
from ..ledger import chain
from ..models import Outgoing, UnlockRequest
from ..outbox import rows

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
        managers = roles.staff_who_may("unlocks.review_case").exclude(email="")
        addresses = {address.lower(): address for address in managers.values_list("email", flat=True)}.values()
        rows.queue_all(Outgoing.Email.WEEKLY, [(to, {}) for to in addresses], by=by.begin())
    return len(addresses)


def latest_due(now: datetime) -> datetime | None:
    """Return when the weekly email was due last, in the desk's time zone; None where there is to be none."""
    if settings.WEEKLY_EMAIL is None:
        return None
    weekday, hour = settings.WEEKLY_EMAIL
    today, zone = timezone.localdate(now, timezone.get_default_timezone()), timezone.get_default_timezone()
    day = today - timedelta((today.weekday() - weekday) % 7)
    due_at = timezone.make_aware(datetime.combine(day, time(hour)), zone)
    return due_at if due_at <= now else timezone.make_aware(datetime.combine(day - timedelta(7), time(hour)), zone)


def _is_due(due_at: datetime) -> bool:
    queued = Outgoing.objects.filter(email=Outgoing.Email.WEEKLY, queued_at__gte=due_at)
    return timezone.now() - due_at < LATE and not queued.exists() and UnlockRequest.objects.exists()
