"""The dashboard: that each number is that of the list it leads to, how long steps took, and days that can't be read."""

from datetime import date, timedelta
from itertools import chain

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.factories import acting, make_batch
from unlocks import figures, operations
from unlocks.database import guards
from unlocks.figures import Period
from unlocks.models import LedgerEntry, UnlockRequest


def figures_of(context):
    """Return all figures on a page."""
    counted = context["figures"]
    flows = [[flow.now, flow.before, *flow.parts] for flow in counted.flow]
    rows = [row for _, row in [*counted.backlog, *counted.agents]]
    lists = [counted.advice, counted.risky, counted.wrong, counted.refusals, counted.accounts, context["open_now"]]
    return list(chain(*flows, *rows, *lists))


def figures_of_period(counted):
    return [*counted.advice, *counted.risky, *counted.wrong, *counted.refusals]


def in_list(client, address):
    """Return how many rows the list at an address has, on its only page, and what its filters are said to be."""
    page = client.get(address)
    changelist = page.context["cl"]
    assert (page.status_code, changelist.problems) == (200, [])
    return len(changelist.result_list)


@pytest.fixture
def worked(agent, second_agent, settings):
    """A case of each kind, what went wrong, and two cases of which one is older than 40 days."""
    settings.PHONE_CONSENT = True
    batch = make_batch()
    old = factories.case_unlocked(agent, batches=[batch])
    factories.relock(old.rows, why="Not needed", by=acting(agent))
    # The same batch once more, which was in the books already.
    again = factories.case_unlocked(second_agent, batches=[batch], bypass_reason="already_entered")
    operations.mark_re_exported(again.rows, by=acting(second_agent))
    factories.case_recorded_by_phone(agent)
    factories.case_awaiting(agent)
    declined = factories.open_case(agent).unlock_request
    operations.record_advice(declined, advice="manual_entry", by=acting(agent))
    refused = factories.open_case(agent)
    factories.unlock(refused.rows, by=acting(second_agent))
    operations.withdraw_consent(factories.case_consented(agent).consent, why="Changed their mind", by=acting(agent))
    with pytest.raises(operations.Refused):
        operations.verify_pin(refused.unlock_request, pin="000000", by=acting(agent))
    moved_back(old.unlock_request, timedelta(days=40))


def moved_back(unlock_request, length):
    """Have a case, and all that the ledger holds of it, be older."""
    columns = [f"{step}_at" for step in UnlockRequest.Step]
    with guards.lifted():
        UnlockRequest.objects.filter(pk=unlock_request.pk).update(**{name: F(name) - length for name in columns})
        LedgerEntry.objects.filter(unlock_request=unlock_request).update(at=F("at") - length)


def test_each_number_is_that_of_its_list(manager_client, worked):
    today = timezone.localdate()
    page = manager_client.get("/desk/", {"since": today - timedelta(days=29), "until": today, "by": "week"})
    found = figures_of(page.context)
    assert [(figure.label, figure.count, figure.address) for figure in found] == [
        (figure.label, in_list(manager_client, figure.address), figure.address) for figure in found
    ]
    flow = {flow.now.label: (flow.now.count, flow.before.count) for flow in page.context["figures"].flow}
    assert flow == {
        "Opened": (6, 1),
        "Customer agreed": (3, 1),
        "Unlocked": (1, 1),
        "Re-exported": (1, 0),
        "Closed": (3, 1),
    }
    others = [*figures_of_period(page.context["figures"]), *page.context["open_now"]]
    assert {figure.label: figure.count for figure in others if figure.count} == {
        "Customer enters the items by hand": 1,
        "Customer wants to export the batches": 4,
        "Consent recorded by phone": 1,
        "Warning of duplicates overridden": 1,
        "Unlocked again within 90 days": 1,
        "Wrong PIN": 1,
        "Consent withdrawn": 1,
        "Not asked": 1,
        "To be reviewed": 1,
    }


def test_the_work_of_staff_and_the_accounts(manager_client, worked, agent, second_agent):
    counted = manager_client.get("/desk/").context["figures"]
    assert [(who, [figure.count for figure in row]) for who, row in counted.agents] == [
        ("agent", [5, 0, 1, 2]),
        ("second-agent", [1, 1, 0, 1]),
    ]
    assert [figure.count for figure in counted.accounts] == [1] * 6


def test_an_account_whose_number_another_one_has_in_small_letters(manager_client, agent):
    """Each is counted and listed by itself; a number typed as neither has it finds both."""
    for number, cases in (("Acme-7a", 1), ("ACME-7A", 2)):
        account = factories.make_account(number=number)
        for _ in range(cases):
            factories.open_case(agent, account=account)
    counted = manager_client.get("/desk/").context["figures"].accounts
    assert [(figure.count, in_list(manager_client, figure.address)) for figure in counted] == [(2, 2), (1, 1)]
    assert in_list(manager_client, "/desk/unlocks/unlockrequest/?account=acme-7a") == 3


def test_how_long_steps_took(manager_client, agent):
    """Of ten cases that were opened 1 to 10 days before they were closed; one of them was never unlocked."""
    closed = timezone.now()
    for days in range(1, 11):
        unlock_request = factories.open_case(agent).unlock_request
        operations.close_request(unlock_request, resolution="canceled", why="Tried", by=acting(agent))
        with guards.lifted():
            UnlockRequest.objects.filter(pk=unlock_request.pk).update(
                opened_at=closed - timedelta(days=days),
                unlocked_at=None if days == 10 else closed - timedelta(minutes=days),
                closed_at=closed,
            )
    lasted = manager_client.get("/desk/").context["figures"].lasted
    assert [(one.median, one.most) for one in lasted] == [
        (None, None),
        (None, None),
        (None, None),
        (timedelta(minutes=5), timedelta(minutes=9)),
        (timedelta(days=5), timedelta(days=9)),
    ]


def test_a_step_counts_when_it_first_came(agent):
    case = factories.case_consented(agent)
    first = UnlockRequest.objects.get()
    assert (first.asked_at, first.consented_at) == (case.link.sent_at, case.consent.given_at)
    assert (first.unlocked_at, first.re_exported_at, first.rework, first.warned) == (None, None, False, False)
    factories.unlock(case.rows, by=acting(agent))
    unlocked = UnlockRequest.objects.get()
    assert unlocked.unlocked_at == LedgerEntry.objects.get(kind="unlocked").at
    operations.mark_re_exported(case.rows.filter(pk=case.batches[0].pk), by=acting(agent))
    operations.mark_re_exported(case.rows, by=acting(agent))
    closed = UnlockRequest.objects.get()
    assert closed.re_exported_at == LedgerEntry.objects.filter(kind="re_exported").earliest("sequence").at
    assert [closed.asked_at, closed.consented_at, closed.unlocked_at] == [
        first.asked_at,
        first.consented_at,
        unlocked.unlocked_at,
    ]


@pytest.mark.parametrize(("days", "rework"), [(89, True), (91, False)])
def test_rework_is_a_batch_that_was_unlocked_within_90_days(agent, days, rework):
    batch = make_batch()
    before = factories.case_unlocked(agent, batches=[batch])
    factories.relock(before.rows, why="Not needed", by=acting(agent))
    moved_back(before.unlock_request, timedelta(days=days))
    factories.case_unlocked(agent, batches=[batch, make_batch(account=batch.account)])
    assert list(UnlockRequest.objects.order_by("pk").values_list("rework", flat=True)) == [False, rework]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "2026-13-45"}, ["This is no day."]),
        ({"since": "soon", "until": "\0"}, ["This is no day.", "This is no day."]),
        ({"since": "1900-01-01"}, ["There is nothing from before 2000."]),
        (
            {"since": "2020-01-01", "until": "2025-12-31"},
            ["These are 2,192 days. Choose at most 1,830, five years."],
        ),
        ({"since": "9999-12-31", "until": "9999-12-31"}, ["This day is to come."]),
        ({"since": "2026-11-02", "until": "2026-11-01"}, ["The last day is before the first one."]),
        (
            {"since": "2026-01-01", "until": "2026-11-01", "by": "day"},
            ["Days are shown of up to 92 of them. Choose weeks."],
        ),
        ({"by": "fortnight"}, ["There is no such choice."]),
    ],
)
def test_days_that_can_not_be_shown_are_said_beside_their_field(manager_client, query, said):
    make_batch()
    page = manager_client.get("/desk/", query)
    today = timezone.localdate()
    assert page.status_code == 200
    assert [error for errors in page.context["form"].errors.values() for error in errors] == said
    assert page.context["figures"].period == Period(today - timedelta(days=29), today)
    assert "These days can’t be shown" in page.content.decode()


def test_many_cases_are_counted_when_that_is_asked_for(manager_client, agent, monkeypatch):
    monkeypatch.setattr(figures, "MANY", 1)
    factories.open_case(agent)
    assert "flow" in manager_client.get("/desk/").context
    factories.open_case(agent)
    page = manager_client.get("/desk/", {"since": "2026-11-01", "until": "2026-11-28", "by": "week"})
    assert "flow" not in page.context
    assert "These days have more than 1 cases." in page.content.decode()
    assert page.context["anyway"] == "?since=2026-11-01&until=2026-11-28&by=week&anyway=1"
    assert "flow" in manager_client.get(f"/desk/{page.context['anyway']}").context


def test_it_is_the_first_page_of_managers_and_auditors(agent_client, manager_client, auditor_client, superuser_client):
    def first(client):
        page = client.get("/desk/")
        return page.context["title"], [entry["name"] for entry in page.context["desk_nav"]][:2]

    everyone = [agent_client, manager_client, auditor_client, superuser_client]
    assert [first(client) for client in everyone] == [
        ("Queue", ["Queue", "Requests"]),
        *[("Queue", ["Dashboard", "Queue"])] * 3,  # nothing is on the desk yet, and the queue says how to begin
    ]
    make_batch()
    assert [first(client) for client in everyone] == [
        ("Queue", ["Queue", "Requests"]),
        *[("Dashboard", ["Dashboard", "Queue"])] * 3,
    ]
    assert manager_client.get("/desk/queue/").context["title"] == "Queue"


def test_what_did_not_happen_is_said(manager_client):
    make_batch()
    page = manager_client.get("/desk/").content.decode()
    for words in ("No case is open.", "None was refused in this period.", "Nobody did anything in this period."):
        assert words in page


def test_costs_the_same_for_one_case_and_for_three(manager_client, agent):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            manager_client.get("/desk/")
        return len(captured)

    factories.case_unlocked(agent)
    one = queries()
    factories.case_unlocked(agent)
    factories.case_awaiting(agent)
    assert queries() == one


@given(st.dates(date(2001, 1, 1), date(2100, 1, 1)), st.integers(1, 800), st.sampled_from(["day", "week"]))
def test_the_parts_of_a_period_are_all_of_it(since, days, by):
    period = Period(since, since + timedelta(days=days - 1))
    parts = list(period.parts(by))
    assert [one.since for one in parts] == [since, *(one.until + timedelta(days=1) for one in parts[:-1])]
    assert (parts[-1].until, period.days, period.before.days) == (period.until, days, days)
    assert period.before.until == since - timedelta(days=1)
    assert {one.since.weekday() for one in parts[1:]} <= set(range(7) if by == "day" else [0])
