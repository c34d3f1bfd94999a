"""How amounts, days and times are written, on screens, in emails and on paper alike."""

from datetime import date, datetime
from decimal import Decimal

from django.utils import timezone


def money(amount: Decimal | None) -> str:
    """Return dollars and cents with thousands separators, such as "$11,920.00" or "-$12.50"; '' for None."""
    if amount is None:
        return ""
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


def day(value: date | None) -> str:
    """Return a day such as "Nov 25, 2026"; '' for None."""
    return f"{value:%b} {value.day}, {value.year}" if value else ""


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


def span(hours: int) -> str:
    """Return a number of hours, such as "1 hour" or "24 hours", or of whole days beyond the first, such as "3 days"."""
    if hours > 24 and hours % 24 == 0:
        return counted(hours // 24, "day", "days")
    return counted(hours, "hour", "hours")


def _in_zone(value: datetime | None, minutes: str) -> str:
    if not value:
        return ""
    local = timezone.localtime(value)
    return f"{day(local)}, {_clock(local, minutes)}"


def _clock(local: datetime, minutes: str) -> str:
    return f"{local.hour % 12 or 12}:{local.strftime(minutes)} {local:%p %Z}"
