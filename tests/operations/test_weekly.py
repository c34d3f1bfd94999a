"""The weekly email: when it is due, to whom, once, and what it says."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from config.settings import weekday_and_hour
from tests import factories
from tests.factories import acting, make_user
from unlocks import operations
from unlocks.actors import Actor
from unlocks.models import LedgerEntry, Outgoing
from unlocks.operations.weekly import latest_due, queue_weekly
from unlocks.outbox import emails, worker
from unlocks.texts import formats

A_MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)  # 7 in New York
MONDAY = latest_due(timezone.now()) - timedelta(days=14)  # the guards let no email wait for long
WEEKLY = Outgoing.Email.WEEKLY


@pytest.fixture
def managers(db):
    """Two managers, one of whom has no address, and an auditor."""
    make_user("mona", group="Manager", email="mona@example.com")
    make_user("max", group="Manager")
    make_user("away", group="Manager", email="away@example.com", is_active=False)
    make_user("audrey", group="Auditor", email="audrey@example.com")


def queued(at):
    with time_machine.travel(at, tick=False):
        return queue_weekly(by=Actor.desk())


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (A_MONDAY, A_MONDAY),
        (A_MONDAY - timedelta(seconds=1), A_MONDAY - timedelta(days=7)),
        (A_MONDAY + timedelta(days=6, hours=23), A_MONDAY),
        (datetime(2026, 11, 2, 13, tzinfo=UTC), datetime(2026, 11, 2, 12, tzinfo=UTC)),  # after the clocks went back
    ],
)
def test_it_is_due_at_a_local_hour(now, due):
    assert latest_due(now) == due


def test_each_manager_with_an_address_gets_it_once(managers, agent):
    factories.open_case(agent)
    moments = [MONDAY - timedelta(hours=1), MONDAY, MONDAY, MONDAY + timedelta(days=1)]
    assert [queued(moment) for moment in moments] == [0, 1, 0, 0]
    assert list(Outgoing.objects.filter(email=WEEKLY).values_list("address", "actor")) == [
        ("mona@example.com", "Unlock Desk")
    ]
    assert queued(MONDAY + timedelta(days=7)) == 1


def test_a_superuser_gets_it_as_a_manager_alone(managers, agent):
    make_user("root", email="root@example.com", is_superuser=True)
    make_user("both", group="Manager", email="both@example.com", is_superuser=True)
    factories.open_case(agent)
    assert queued(MONDAY) == 2
    assert set(Outgoing.objects.values_list("address", flat=True)) == {"mona@example.com", "both@example.com"}


@pytest.mark.parametrize(("first", "then", "sent"), [("mon", "wed", 0), ("mon", "sat", 0), ("wed", "mon", 1)])
def test_one_comes_in_a_week_whichever_day_is_set(managers, agent, settings, first, then, sent):
    factories.open_case(agent)
    settings.WEEKLY_EMAIL = weekday_and_hour(f"{first} 7")
    due_at = latest_due(MONDAY + timedelta(days=6))
    assert queued(due_at) == 1
    settings.WEEKLY_EMAIL = weekday_and_hour(f"{then} 7")
    assert queued(latest_due(due_at + timedelta(days=6))) == sent


def test_one_that_is_late_is_not_that_of_the_week_in_which_it_comes(managers, agent, settings):
    factories.open_case(agent)
    settings.WEEKLY_EMAIL = weekday_and_hour("sun 20")
    sunday = latest_due(MONDAY)
    assert [queued(sunday + timedelta(days=days)) for days in (1.5, 7)] == [1, 1]


def test_a_worker_that_was_down_for_days_sends_none_late(managers, agent):
    factories.open_case(agent)
    assert queued(MONDAY + timedelta(days=2)) == 0
    assert queued(MONDAY + timedelta(days=2, seconds=-1)) == 1


def test_none_is_queued_without_a_case_nor_when_it_is_off(managers, agent, settings):
    assert queued(MONDAY) == 0
    factories.open_case(agent)
    settings.WEEKLY_EMAIL = None
    assert queued(MONDAY) == 0


def test_it_says_what_wants_someone_first_and_leads_there(managers, agent, settings):
    settings.PUBLIC_URL = "https://desk.example"
    case = factories.open_case(agent)
    with pytest.raises(operations.Refused):
        operations.verify_pin(case.unlock_request, pin="000000", by=acting(agent))
    with time_machine.travel(case.unlock_request.opened_at + timedelta(days=1), tick=False):
        due = case.unlock_request.opened_at + timedelta(days=1)
        settings.WEEKLY_EMAIL = (due.astimezone(timezone.get_default_timezone()).weekday(), 0)
        queue_weekly(by=Actor.desk())
        written = emails.written(Outgoing.objects.get(email=WEEKLY))
    assert written.subject.startswith("Unlock Desk: ")
    assert written.subject.endswith(", 1 to look at")
    lines = written.body.splitlines()
    assert lines[:4] == [
        "To look at",
        "",
        "1  Wrong PIN",
        lines[3],
    ]
    assert lines[3].startswith("https://desk.example/desk/unlocks/ledgerentry/?kind=pin_wrong&since=")
    assert "1  Opened (before: 0)" in lines
    assert "Open now: 1 new" in lines
    assert "From opening to the close: no case" in lines
    assert lines[-3].startswith("Days are those of the desk (America/New York). ")


def test_one_that_is_queued_a_day_late_tells_of_the_same_week(managers, agent):
    factories.open_case(agent)
    queued(MONDAY + timedelta(days=1))
    written = emails.written(Outgoing.objects.get(email=WEEKLY))
    first, last = (formats.day((MONDAY - timedelta(days=days)).date()) for days in (7, 1))
    assert written.subject == f"Unlock Desk: {first} to {last}"


def test_a_quiet_week_is_said(managers, agent):
    factories.open_case(agent)
    queued(MONDAY)
    body = emails.written(Outgoing.objects.get(email=WEEKLY)).body
    assert body.startswith("Nothing went wrong, and nothing is overdue.\n")
    assert "0  Opened (before: 0)" in body


def test_who_is_no_manager_any_more_gets_none(managers, agent, django_user_model):
    factories.open_case(agent)
    queued(MONDAY)
    django_user_model.objects.get(username="mona").groups.clear()
    with pytest.raises(emails.Outdated):
        emails.written(Outgoing.objects.get(email=WEEKLY))


def test_the_worker_sends_it_and_the_ledger_says_so(managers, agent):
    factories.open_case(agent)
    with time_machine.travel(MONDAY):
        worker.look_after("test")
        factories.deliver()
    assert [message.to for message in mail.outbox] == [["mona@example.com"]]
    entry = LedgerEntry.objects.get(kind="email_sent")
    assert (entry.account, entry.unlock_request, entry.actor) == (None, None, "Unlock Desk")


@pytest.mark.parametrize(("text", "read"), [("mon 7", (0, 7)), ("SUN 23", (6, 23)), ("", None)])
def test_the_setting(text, read):
    assert weekday_and_hour(text) == read


@pytest.mark.parametrize("text", ["monday 7", "mon", "mon 24", "7", "mon -1"])
def test_a_setting_that_can_not_be_read_is_refused_at_start(text):
    with pytest.raises(ImproperlyConfigured, match="not a day and an hour"):
        weekday_and_hour(text)
