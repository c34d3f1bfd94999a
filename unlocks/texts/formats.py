"""How amounts, days and times are written, on screens, in emails and on paper alike."""

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.utils import timezone

from ..models import Account


def zone_of(account: Account) -> ZoneInfo:
    """Return the time zone in which an account's customers read times: its own, or else the desk's."""
    return ZoneInfo(account.time_zone) if account.time_zone else timezone.get_default_timezone()


def current_zone() -> str:
    """Return the name of the time zone that times are written in, such as "America/New York"."""
    return timezone.get_current_timezone_name().replace("_", " ")


def money(amount: Decimal | None) -> str:
    """Return dollars and cents with thousands separators, such as "$11,920.00" or "-$12.50"; '' for None."""
    if amount is None:
        return ""
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


def day(value: date | None) -> str:
    """Return a day such as "Nov 25, 2026", of a time the day in the current time zone; '' for None."""
    value = timezone.localtime(value) if isinstance(value, datetime) else value
    return f"{value:%b} {value.day}, {value.year}" if value else ""


def midnight(value: date) -> datetime:
    """Return when a day begins in the current time zone."""
    return timezone.make_aware(datetime.combine(value, time.min))


def moment(value: datetime | None) -> str:
    """Return a time in the current time zone, such as "Nov 25, 2026, 7:38 PM EST"; '' for None."""
    return _in_zone(value, "%M")


def moment_with_seconds(value: datetime | None) -> str:
    """Return a time such as "Nov 25, 2026, 7:38:05 PM EST"; '' for None."""
    return _in_zone(value, "%M:%S")


def time_of_day(value: datetime | None) -> str:
    """Return a time without its day, such as "7:38 PM EST"; '' for None."""
    return _clock(timezone.localtime(value), "%M") if value else ""


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its noun, such as "1 item" or "1,200 items"."""
    return f"{count:,} {one if count == 1 else many}"


def lasting(length: timedelta) -> str:
    """Return a length of time in its two largest units, such as "3 d 4 h", "2 h 10 min" or "under 1 min"."""
    minutes = int(length.total_seconds() // 60)
    (days, hours), minutes = divmod(minutes // 60, 24), minutes % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    first = next((place for place, (count, _) in enumerate(parts) if count), 2)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "under 1 min"


def in_hours(length: timedelta) -> str:
    """Return a length of working time, such as "25 h 10 min": a day of work is not one of 24 hours."""
    hours, minutes = divmod(int(length.total_seconds() // 60), 60)
    return " ".join(f"{count:,} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count) or "0 min"


def span(hours: int) -> str:
    """Return a number of hours, such as "1 hour" or "24 hours", or of whole days beyond the first, such as "3 days"."""
    if hours > 24 and hours % 24 == 0:
        return counted(hours // 24, "day", "days")
    return counted(hours, "hour", "hours")


def time_left(until: datetime) -> str:
    """Return how long it is until a time, such as "23 hours" or "90 minutes"; '' once it is over."""
    left = until - timezone.now()
    if left <= timedelta(0):
        return ""
    unit, length = next((one for one in _UNITS if left >= one[1] * 2), _UNITS[-1])
    return counted(max(left // length, 1), unit, f"{unit}s")


_UNITS = [("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))]


def _in_zone(value: datetime | None, minutes: str) -> str:
    if not value:
        return ""
    return f"{day(value)}, {_clock(timezone.localtime(value), minutes)}"


def _clock(local: datetime, minutes: str) -> str:
    zone = re.sub(r"^(?=[+-])", "UTC", local.strftime("%Z"))  # some zones have no name but "-03"
    return f"{local.hour % 12 or 12}:{local.strftime(minutes)} {local:%p} {zone}"
