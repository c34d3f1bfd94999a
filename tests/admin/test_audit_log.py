"""The audit log: what its filters leave, that its pages go on from an entry, what a row and a page say of one."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.admin.test_files import rows
from tests.admin.test_filters import left_out
from tests.admin.test_lists import LOG
from tests.factories import acting
from unlocks import operations
from unlocks.actors import Actor
from unlocks.admin.audit_log import GROUPS
from unlocks.ledger import events
from unlocks.models import Batch, LedgerEntry

PAGE = 50


def entries(client, query=""):
    return list(client.get(f"{LOG}{query}").context["cl"].result_list)


def kinds(client, query):
    return sorted({entry.kind for entry in entries(client, query)})


def text(client, address):
    return client.get(address).content.decode()


@pytest.fixture
def ledger(agent, second_agent, manager):
    """Two cases of two agents, one of them unlocked and one that asks for another amount, and a changed account."""
    factories.make_user("agent2", group="Agent")
    unlocked = factories.case_unlocked(agent, batches=[factories.make_batch(number="2026-A", total="100.00")])
    other = factories.open_case(second_agent, batches=[factories.make_batch(number="2026-C", total="5000.00")])
    account = unlocked.account
    account.name = "Bayside Air"
    operations.save_record(account, by=Actor(name=manager.username, user=manager, ip="203.0.113.7"))
    return unlocked, other


def test_each_filter_leaves_its_entries(manager_client, agent, second_agent, ledger):
    unlocked, other = ledger
    reference, day = other.unlock_request.reference, timezone.localdate()
    of_other = {entry.pk for entry in LedgerEntry.objects.filter(unlock_request=other.unlock_request)}
    assert {entry.pk for entry in entries(manager_client, f"?request={reference}")} == of_other
    assert {entry.pk for entry in entries(manager_client, f"?request={other.unlock_request.pk}")} == of_other
    assert {entry.pk for entry in entries(manager_client, f"?q={reference.lower()}")} == of_other
    by_account = entries(manager_client, f"?account={unlocked.account.number}")
    assert {entry.account_id for entry in by_account} == {unlocked.account.pk}
    assert "account_changed" in {entry.kind for entry in by_account}
    assert {entry.actor for entry in entries(manager_client, f"?actor={second_agent.pk}")} == {"second-agent"}
    assert {entry.actor for entry in entries(manager_client, "?actor=desk")} == {"Unlock Desk"}
    assert {entry.actor[:9] for entry in entries(manager_client, "?actor=customers")} == {"Link for "}
    assert kinds(manager_client, "?kind=opened&kind=consented") == ["consented", "opened"]
    assert kinds(manager_client, "?group=unlocks") == ["unlock_instructed", "unlocked"]
    assert kinds(manager_client, "?field=name") == ["account_changed"]
    assert kinds(manager_client, "?ip=203.0.113.7") == ["account_changed"]
    assert {entry.amount for entry in entries(manager_client, "?amount_from=4,999.99")} == {5000}
    assert {entry.amount for entry in entries(manager_client, "?amount_to=100")} == {100}
    assert len(entries(manager_client, f"?since={day}&until={day}")) == min(LedgerEntry.objects.count(), PAGE)
    assert entries(manager_client, f"?since={day + timedelta(days=2)}") == []
    assert entries(manager_client, f"?until={day - timedelta(days=2)}") == []
    assert "Unlock Desk" not in {entry.actor for entry in entries(manager_client, "?own=no")}


def test_filters_combine(manager_client, agent, second_agent, ledger):
    unlocked, _ = ledger
    both = f"?actor={agent.pk}&actor={second_agent.pk}&kind=opened"
    assert {entry.actor for entry in entries(manager_client, both)} == {"agent", "second-agent"}
    assert [entry.actor for entry in entries(manager_client, f"{both}&account={unlocked.account.number}")] == ["agent"]


@pytest.mark.postgresql  # of SQLite no page is made of the first entries of each part
@pytest.mark.parametrize("query", ["kind=opened", "kind=opened&kind=unlocked"])
def test_what_no_customer_ever_did_is_not_looked_for_in_all_of_its_kind(manager_client, ledger, query):
    with connection.cursor() as cursor:
        # A small table would be read whole, or by any index: there is none but this one here.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'unlocks_ledgerentry' AND indexdef NOT LIKE '%UNIQUE%' "
            "AND indexname <> 'unlocks_entry_customers'"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP INDEX "{name}"')
        for way in ("seqscan", "bitmapscan", "sort"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        with CaptureQueriesContext(connection) as queries:
            assert entries(manager_client, f"?actor=customers&{query}") == []
        asked = [entry["sql"] for entry in queries if "Link for" in entry["sql"] and "opened" in entry["sql"]]
        cursor.execute(f"EXPLAIN {asked[0]}")
        plan = " ".join(line for (line,) in cursor.fetchall())
    assert plan.count("using unlocks_entry_customers") == query.count("kind")
    assert "Filter" not in plan


@pytest.mark.sqlite  # which takes an index with a condition for that condition alone, as it is written
def test_the_choices_of_a_filter_are_read_by_their_index(manager_client, ledger):
    with CaptureQueriesContext(connection) as queries:
        manager_client.get(LOG)
    asked = [entry["sql"] for entry in queries if "WITH RECURSIVE" in entry["sql"]]
    with connection.cursor() as cursor:
        plans = [" ".join(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()) for sql in asked]
    read = zip(plans, ["unlocks_entry_fields", "unlocks_entry_refusals"], strict=True)
    assert [plan.count(f"USING COVERING INDEX {name}") for plan, name in read] == [2, 2]


def test_an_actor_is_found_by_the_whole_name(manager_client, ledger):
    assert {entry.actor for entry in entries(manager_client, "?q=AGENT")} == {"agent"}
    assert entries(manager_client, "?q=agent2") == []


def test_a_batch_is_found_by_what_its_acts_wrote(manager_client, agent):
    """Not by the numbers that an entry lists; and of an act on several requests, in its own request alone."""
    batches = factories.make_batches(n=events.NUMBERS_LISTED + 2)
    first, second = factories.case_consented(agent, batches=batches), factories.case_consented(agent)
    factories.unlock(Batch.objects.filter(pk__in=[batches[-1].pk, second.batch.pk]), by=acting(agent))
    found = entries(manager_client, f"?batch={batches[-1].number.lower()}")
    assert {entry.kind for entry in found} == {"imported", "opened", "consented", "unlock_instructed", "unlocked"}
    of_requests = {entry.unlock_request_id for entry in found if entry.kind != "imported"}
    assert of_requests == {first.unlock_request.pk}
    assert entries(manager_client, "?batch=none") == []


def test_each_kind_is_in_a_group():
    grouped = {kind for _, members in GROUPS.values() for kind in members}
    assert grouped == set(events.KINDS.values())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("kind=opened&kind=x", "“Kind” is left out: “opened, x”. There is no such choice."),
        ("actor=%00", "“Who” is left out: “�”. There is no such choice."),
        ("actor=999999999999999999999", "“Who” is left out: “999999999999999999999”. There is no such choice."),
        ("group=x", "“What it is about” is left out: “x”. There is no such choice."),
        ("own=yes", "“The desk’s own acts” is left out: “yes”. There is no such choice."),
        ("field=pin_hash", "“Field changed” is left out: “pin_hash”. There is no such choice."),
        ("ip=10.0.0", "“IP address” is left out: “10.0.0”. Enter a valid IPv4 or IPv6 address."),
        ("request=UR-x", "“Request” is left out: “UR-x”. Write it as UR-000123."),
        ("amount_from=NaN", "“Amount from” is left out: “NaN”. This is no amount."),
        ("until=99999-01-01", "“Until (America/New York)” is left out: “99999-01-01”. This is no day."),
    ],
)
def test_what_can_not_be_read_is_left_out_and_said(manager_client, ledger, query, said):
    response = manager_client.get(f"{LOG}?{query}")
    assert (response.status_code, left_out(response)) == (200, [f"The filter {said}"])


@pytest.mark.parametrize("query", ["ip=::1", "q=::1", "q=10.0.0.1", "request=999999999999999", "batch=4711"])
def test_what_nobody_did_leaves_nothing(manager_client, agent, query):
    factories.open_case(agent)
    response = manager_client.get(f"{LOG}?{query}")
    assert (response.status_code, list(response.context["cl"].result_list)) == (200, [])


@pytest.fixture
def long_ledger(agent):
    """A case with more entries than two pages hold, some of them of the same time."""
    case = factories.open_case(agent)
    for number in range(2 * PAGE):
        operations.add_note(case.unlock_request, text=f"Note {number}", by=acting(agent), key=uuid4())
    return case


def pages(client, query, name):
    """Return the sequences of each page, from a page on in one direction: by the links that the pages have."""
    found = []
    while query:
        changelist = client.get(f"{LOG}{query}").context["cl"]
        found.append([entry.sequence for entry in changelist.result_list])
        query = getattr(changelist, name)
    return found


def test_its_pages_go_on_from_an_entry(manager_client, long_ledger):
    count = LedgerEntry.objects.count()
    newest_first = list(range(count, 0, -1))
    down = pages(manager_client, "?", "older")
    assert [sequence for page in down for sequence in page] == newest_first
    assert [len(page) for page in down] == [PAGE, PAGE, count - 2 * PAGE]
    up = pages(manager_client, f"?before={down[1][-1]}", "newer")
    assert up == [down[2], down[1], down[0]]


def test_the_pages_of_a_filter_hold_all_that_it_leaves(manager_client, long_ledger):
    down = pages(manager_client, "?kind=note&own=no", "older")
    assert [len(page) for page in down] == [PAGE, PAGE]
    assert len({sequence for page in down for sequence in page}) == 2 * PAGE


def test_the_last_page_costs_what_the_first_costs(manager_client, long_ledger):
    def cost(query):
        with CaptureQueriesContext(connection) as queries:
            manager_client.get(f"{LOG}{query}")
        return len(queries)

    assert cost("?before=60") == cost("") + 1  # the time of the entry


@pytest.mark.parametrize("key", ["0", "x", "", "9" * 40, "%00", "-1"])
def test_a_page_that_goes_on_from_no_entry_shows_the_newest(manager_client, agent, key):
    factories.open_case(agent)
    response = manager_client.get(f"{LOG}?before={key}", follow=True)
    assert [entry.pk for entry in response.context["cl"].result_list] == [
        entry.pk for entry in LedgerEntry.objects.order_by("-at", "-sequence")
    ]
    if key:
        assert "There is no such entry to go on from: these are the newest." in response.content.decode()


def test_a_view_keeps_every_choice_and_no_page(manager_client, agent, second_agent, ledger):
    query = f"actor={agent.pk}&actor={second_agent.pk}&kind=opened"
    saved = manager_client.post(f"{LOG}views/", {"name": "Opened by us", "query": f"{query}&before=3"})
    assert manager_client.get(saved.url).url == f"{LOG}?{query}"
    assert len(entries(manager_client, f"?{query}")) == 2


def test_the_file_holds_what_the_filter_leaves_on_all_pages(manager_client, long_ledger):
    _, *notes, last = rows(manager_client, LOG, "?kind=note&before=60")
    assert [int(note[0]) for note in notes] == sorted((int(note[0]) for note in notes), reverse=True)
    assert (len(notes), last[0], last[2]) == (2 * PAGE, f"Complete: {2 * PAGE} rows", "Kind: Note")


def test_a_row_says_what_happened_to_what_for_how_much_and_why(manager_client, ledger):
    _, other = ledger
    shown = text(manager_client, f"{LOG}?kind=opened&request={other.unlock_request.pk}")
    for said in (
        "with 1 batch. Channel: Phone. Why bypassed: By mistake",
        "Bypassed by mistake; the customer wants to export them.",
        "$5,000.00",
        other.unlock_request.reference,
        other.account.name,
        "second-agent",
    ):
        assert said in shown, said
    assert "name: Account" in text(manager_client, f"{LOG}?field=name")
    assert "became Bayside Air" in text(manager_client, f"{LOG}?field=name")


def test_an_entry_shows_what_changed_as_a_table(auditor_client, ledger):
    entry = LedgerEntry.objects.get(kind="account_changed", fields="name")
    shown = text(auditor_client, f"{LOG}{entry.pk}/change/")
    assert '<td data-label="After">Bayside Air</td>' in shown


@pytest.mark.parametrize(("who", "status"), [(None, 302), ("Agent", 403), ("Manager", 200), ("Auditor", 200)])
def test_who_may_see_it(db, who, status):
    client = Client()
    if who:
        client.force_login(factories.make_user("someone", group=who))
    assert {client.get(address).status_code for address in (LOG, f"{LOG}?kind=opened")} == {status}


def test_an_entry_shows_all_that_is_sealed(auditor_client, agent):
    factories.open_case(agent)
    event = LedgerEntry.objects.first()
    shown = text(auditor_client, f"{LOG}{event.pk}/change/")
    assert event.hash in shown
    assert event.previous_hash in shown
    assert "&quot;kind&quot;: &quot;opened&quot;" in shown


def test_the_log_cannot_be_written(superuser_client, agent):
    factories.open_case(agent)
    event = LedgerEntry.objects.first()
    assert superuser_client.post(f"{LOG}{event.pk}/change/", {"actor": "Nobody"}).status_code == 405
    event.refresh_from_db()
    assert event.actor == "agent"
