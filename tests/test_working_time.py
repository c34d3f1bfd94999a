"""Working time: never more than passed, the same in one piece as in two, also when the clock is turned."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlocks.working_time import worked

NEW_YORK = ZoneInfo("America/New_York")
MONDAY_TO_FRIDAY = frozenset(range(5))
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
minutes = st.integers(0, 24 * 60).map(lambda count: timedelta(minutes=count))
desks = st.fixed_dictionaries(
    {
        "hours": st.tuples(minutes, minutes).map(lambda pair: tuple(sorted(pair))),
        "days": st.frozensets(st.integers(0, 6)),
        "zone": st.sampled_from([NEW_YORK, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Santiago")]),
    }
)
ALWAYS = {"hours": (timedelta(), timedelta(days=1)), "days": frozenset(range(7))}


@given(st.tuples(moments, moments, moments).map(sorted), desks)
def test_time_is_worked_in_one_piece_as_in_two(three, desk):
    first, between, last = three
    whole = worked(first, last, **desk)
    assert whole == worked(first, between, **desk) + worked(between, last, **desk)
    assert timedelta() <= whole <= last - first
    assert worked(last, first, **desk) == timedelta()
    assert worked(first, last, **ALWAYS, zone=desk["zone"]) == last - first


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ((11, 27, 16), (11, 30, 9, 30), 1.5),  # Friday afternoon to Monday morning
        ((11, 27, 7), (11, 27, 22), 8),
        ((11, 28, 10), (11, 29, 18), 0),
        ((11, 23, 9), (11, 30, 9), 40),
    ],
)
def test_only_working_hours_count(since, until, hours):
    since, until = (datetime(2026, *parts, tzinfo=NEW_YORK) for parts in (since, until))
    desk = {"hours": (timedelta(hours=9), timedelta(hours=17)), "days": MONDAY_TO_FRIDAY, "zone": NEW_YORK}
    assert worked(since, until, **desk) == timedelta(hours=hours)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 8), 23), ((2026, 3, 9), 24), ((2026, 11, 1), 25)])
def test_a_day_on_which_the_clock_is_turned_is_as_long_as_it_is(day, hours):
    since = datetime(*day, tzinfo=NEW_YORK)
    assert worked(since, since + timedelta(days=1), **ALWAYS, zone=NEW_YORK) == timedelta(hours=hours)
