"""The filters of the lists: what each leaves, that they combine, and what is said of what can't be read."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.admin.test_lists import ACCOUNTS, BATCHES, LOG, numbers, plan_of
from tests.factories import acting
from unlocks import operations
from unlocks.models import Selection

REQUESTS = "/desk/unlocks/unlockrequest/"


def found(client, address=REQUESTS, **query):
    return numbers(client.get(address, query))


def left_out(response):
    """What the page says of filters that it could not read."""
    page = response.content.decode()
    return [unescape(text) for text in re.findall(r'<p class="note wait" role="status">(.*?)</p>', page)]


@pytest.fixture
def requests(agent, second_agent):
    """Three requests that differ in everything that the list is filtered by."""
    account = factories.make_account(number="4711")
    small = factories.make_batches(account=account, n=2, total="100.00")
    first = factories.case_consented(agent, batches=small).unlock_request
    second = factories.case_recorded_by_phone(second_agent, batches=[factories.make_batch(total="5000.00")])
    third = factories.open_case(agent, batches=[factories.make_batch(total="300.00")], channel="email").unlock_request
    operations.close_request(third, resolution="canceled", why="Asked", by=acting(agent))
    return first.reference, second.unlock_request.reference, third.reference


def test_each_filter_leaves_its_requests(agent_client, agent, second_agent, requests):
    first, second, third = requests
    today = f"{timezone.localdate():%Y-%m-%d}"
    tomorrow = f"{timezone.localdate() + timedelta(days=1):%Y-%m-%d}"
    expected = {
        ("assignee", "me"): {first, third},
        ("assignee", str(second_agent.pk)): {second},
        ("assignee", "nobody"): set(),
        ("account", "4711"): {first},
        ("account", "0815"): set(),
        ("channel__exact", "email"): {third},
        ("bypass_reason__exact", "no_integration"): set(),
        ("resolution__exact", "canceled"): {third},
        ("how", "phone"): {second},
        ("how", "link"): {first},
        ("since", today): {first, second, third},
        ("since", tomorrow): set(),
        ("until", today): {first, second, third},
        ("step", "closed"): {third},
        ("step", "consented"): {first, second},
        ("stage__exact", "ready"): {first, second},
        ("advice__exact", "manual_entry"): set(),
        ("opened_by", str(second_agent.pk)): {second},
        ("rework__exact", "1"): set(),
        ("warned__exact", "1"): set(),
        ("total_from", "300"): {second, third},
        ("total_to", "$1,000.00"): {first, third},
    }
    assert {one: found(agent_client, **dict([one])) for one in expected} == expected


def test_days_are_those_of_the_step(agent_client, requests):
    _, _, third = requests
    today = f"{timezone.localdate():%Y-%m-%d}"
    page = agent_client.get(REQUESTS, {"step": "closed", "since": today, "until": today})
    assert numbers(page) == {third}
    assert next(spec.said for spec, _ in page.context["cl"].on) == "Closed"
    assert [spec.title for spec, _ in page.context["cl"].on] == [
        "step reached",
        "closed since (America/New York)",
        "closed until (America/New York)",
    ]
    assert found(agent_client, step="closed", until="2020-01-01") == set()


def test_filters_combine_and_each_is_taken_off_with_one_click(agent_client, requests):
    first, _, third = requests
    page = agent_client.get(REQUESTS, {"total_from": "150", "total_to": "400", "assignee": "me"})
    assert numbers(page) == {first, third}
    assert [(spec.title, spec.said, without) for spec, without in page.context["cl"].on] == [
        ("assigned to", "Me", "?total_from=150&total_to=400"),
        ("total from", "$150.00", "?assignee=me&total_to=400"),
        ("total to", "$400.00", "?assignee=me&total_from=150"),
    ]


def test_fields_that_were_left_empty_are_not_in_the_address(agent_client, requests):
    response = agent_client.get(REQUESTS, {"assignee": "me", "channel__exact": "", "q": ""})
    assert (response.status_code, response["Location"]) == (302, f"{REQUESTS}?assignee=me")


@pytest.mark.parametrize(
    ("address", "query", "said"),
    [
        (
            REQUESTS,
            {"since": "2026-13-45"},
            "“Opened since (America/New York)” is left out: “2026-13-45”. This is no day.",
        ),
        (
            REQUESTS,
            {"step": "closed", "until": "9999-12-31"},
            "“Closed until (America/New York)” is left out: “9999-12-31”. It is too far off.",
        ),
        (REQUESTS, {"total_from": "lots"}, "“Total from” is left out: “lots”. This is no amount."),
        (REQUESTS, {"total_to": "NaN"}, "“Total to” is left out: “NaN”. This is no amount."),
        (REQUESTS, {"assignee": "9" * 30}, f"“Assigned to” is left out: “{'9' * 30}”. There is no such choice."),
        (REQUESTS, {"channel__exact": "pigeon"}, "“Channel” is left out: “pigeon”. There is no such choice."),
        (REQUESTS, {"show": "nothing"}, "“Status” is left out. There is no such choice."),
        (BATCHES, {"show": "\0"}, "“Status” is left out. There is no such choice."),
        (
            BATCHES,
            {"bypassed_since": "0001-01-01"},
            "“Bypassed since” is left out: “0001-01-01”. It is too far off.",
        ),
        (BATCHES, {"account": "\0"}, "“Account number” is left out: “�”. Null characters are not allowed."),
        (ACCOUNTS, {"active__exact": "x"}, "“Active” is left out: “x”. There is no such choice."),
        (LOG, {"kind": "\0"}, "“Kind” is left out: “�”. There is no such choice."),
    ],
)
def test_what_can_not_be_read_is_left_out_and_said(manager_client, address, query, said):
    factories.make_batch()
    response = manager_client.get(address, query)
    assert (response.status_code, left_out(response)) == (200, [f"The filter {said}"])
    assert response.context["cl"].result_count == manager_client.get(address).context["cl"].result_count


def test_nothing_is_done_to_a_list_whose_filter_can_not_be_read(manager_client):
    batch = factories.make_batch()
    form = {"action": "unlock_selected", "_selected_action": [batch.pk], "index": 0, "select_across": 1}
    response = manager_client.post(f"{BATCHES}?bypassed_since=soon", form)
    assert (response.status_code, Selection.objects.count()) == (400, 0)


@pytest.mark.sqlite  # the planner of PostgreSQL reads small tables whole
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("assignee=me", "_assignee"),
        ("bypass_reason__exact=by_mistake", "unlocks_request_reason"),
        ("channel__exact=phone", "unlocks_request_channel"),
        ("resolution__exact=canceled", "unlocks_request_resolution"),
        ("how=phone", "unlocks_consent_by_phone"),
        ("since=2026-01-01", "unlocks_request_opened"),
        ("step=closed&since=2026-01-01", "unlocks_request_closed"),
        ("total_from=100", "unlocks_request_amount"),
    ],
)
def test_a_filter_of_the_requests_reads_its_index(agent_client, query, index):
    with CaptureQueriesContext(connection) as queries:
        agent_client.get(f"{REQUESTS}?{query}")
    plans = [plan_of(entry["sql"]) for entry in queries if entry["sql"].startswith("SELECT")]
    assert [plan for plan in plans if index in plan]


def test_batches_are_left_by_account_and_sorted_by_what_is_indexed(agent_client):
    account = factories.make_account(number="4711")
    factories.make_batch(account=account, number="A", bypassed_on="2026-01-02")
    factories.make_batch(account=account, number="B", bypassed_on="2026-01-01")
    factories.make_batch(number="C")
    assert found(agent_client, BATCHES, account="4711") == {"A", "B"}
    changelist = agent_client.get(BATCHES, {"account": "4711", "o": "4"}).context["cl"]
    assert [batch.number for batch in changelist.result_list] == ["B", "A"]
    assert changelist.sortable_by == ("numbered", "bypassed")
