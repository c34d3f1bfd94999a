"""Working time between two moments: what the targets of the stages are counted in."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo


def worked(
    since: datetime, until: datetime, *, hours: tuple[timedelta, timedelta], days: frozenset[int], zone: tzinfo
) -> timedelta:
    """Return how much of the time between two moments is working time; none when the second is the earlier one.

    `hours` are when work begins and ends, by the clock of `zone` and counted from midnight; `days` are weekdays, of
    which Monday is 0.
    """
    since, until = since.astimezone(UTC), until.astimezone(UTC)  # times of one zone are subtracted by its clock
    total, day = timedelta(), since.astimezone(zone).date()
    while day <= until.astimezone(zone).date():
        if day.weekday() in days:
            begins, ends = (_at(day, after_midnight, zone) for after_midnight in hours)
            total += max(min(until, ends) - max(since, begins), timedelta())
        day += timedelta(days=1)
    return total


def _at(day: date, after_midnight: timedelta, zone: tzinfo) -> datetime:
    """Return when the clock of a zone shows a time, in UTC: a day on which it is turned is shorter or longer."""
    return (datetime.combine(day, time.min, zone) + after_midnight).astimezone(UTC)
