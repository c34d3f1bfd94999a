"""The lists: as many queries at 30 rows as at 1, found by what staff type, and only for who may see them."""

import re
import uuid
from datetime import date, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import acting, deliver
from unlocks import history, operations
from unlocks.admin.lists import starts_with
from unlocks.admin.site import desk
from unlocks.models import Account, Batch, BatchItem, Contact, LedgerEntry, Selection, UnlockRequest
from unlocks.templatetags.desk import email
from unlocks.texts.formats import moment

BATCHES = "/desk/unlocks/batch/"
ACCOUNTS = "/desk/unlocks/account/"
LOG = "/desk/unlocks/ledgerentry/"
QUEUE = "/desk/queue/"
SEARCH = "/desk/search/"

PAGES = {
    "/desk/unlocks/instruction/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/worker/": {"manager", "auditor", "superuser"},
    "/desk/unlocks/batch/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/account/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/account/add/": {"manager", "superuser"},
    "/desk/unlocks/contact/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/batchitem/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/ledgerentry/": {"manager", "auditor", "superuser"},
    "/desk/unlocks/casefiles/": {"manager", "auditor", "superuser"},
    "/desk/unlocks/review/": {"manager", "auditor", "superuser"},
    "/desk/unlocks/review/add/": set(),
    "/desk/unlocks/consent/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/consent/add/": set(),
    "/desk/unlocks/consentterms/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/batch/add/": set(),
    "/desk/unlocks/ledgerentry/add/": set(),
    "/desk/unlocks/import/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/import/add/": {"manager", "superuser"},
    "/desk/unlocks/import/columns/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/import/items/template.csv": {"agent", "manager", "auditor", "superuser"},
    "/desk/auth/user/": {"superuser"},
    "/desk/auth/group/": {"superuser"},
    "/desk/": {"agent", "manager", "auditor", "superuser"},
    "/desk/queue/": {"agent", "manager", "auditor", "superuser"},
    "/desk/keys/": {"agent", "manager", "auditor", "superuser"},
    "/desk/unlocks/batch/views/": {"agent", "manager", "auditor", "superuser"},
}


def text(client, address, **query):
    response = client.get(address, query)
    assert response.status_code == 200
    return response.content.decode()


def queries_of(client, address):
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return len(queries)


def numbers(response):
    return {str(row) for row in response.context["cl"].result_list}


# Speed


def test_lists_cost_as_many_queries_at_a_dozen_rows_as_at_two(manager_client, manager):
    addresses = [
        BATCHES,
        f"{BATCHES}?show=ready",
        f"{BATCHES}?q=B-",
        ACCOUNTS,
        "/desk/unlocks/contact/",
        "/desk/unlocks/batchitem/",
        "/desk/unlocks/unlockrequest/",
        "/desk/unlocks/unlockrequest/?how=link&total_from=1&account=B-A0&since=2020-01-01",
        "/desk/unlocks/consent/",
        LOG,
        QUEUE,
        f"{SEARCH}?q=B-",
    ]

    def fill(numbers):
        for number in numbers:
            account = factories.make_account(number=f"B-A{number}")
            batches = [factories.make_batch(account=account, number=f"B-{number}", items=1)]
            factories.case_consented(manager, batches=batches)

    fill(range(2))  # a search with a single hit would open it
    few = {address: queries_of(manager_client, address) for address in addresses}
    fill(range(2, 12))
    assert {address: queries_of(manager_client, address) for address in addresses} == few


def test_a_list_counts_no_further_than_its_cap(manager_client, monkeypatch):
    monkeypatch.setattr("unlocks.admin.lists.CappedPaginator.cap", 4)
    factories.make_batches(n=4)
    assert "4 batches" in text(manager_client, BATCHES)
    factories.make_batches(n=2)
    assert "4+ batches" in text(manager_client, BATCHES)


@pytest.mark.parametrize("query", ["B-7", "b-7"])
def test_search_reads_the_index_instead_of_the_table(manager_client, query):
    if connection.vendor != "sqlite":
        pytest.skip("sqlite only: the planner of PostgreSQL reads small tables whole")
    with CaptureQueriesContext(connection) as queries:
        manager_client.get(BATCHES, {"q": query})
    searches = [entry["sql"] for entry in queries if ">=" in entry["sql"]]
    assert searches
    for sql in searches:
        assert "SCAN unlocks_batch" not in plan_of(sql)


def plan_of(sql):
    return " ".join(row[3] for row in connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())


@pytest.mark.sqlite  # the planner of PostgreSQL reads small tables whole
@pytest.mark.parametrize(
    ("address", "index"),
    [
        (f"{BATCHES}?period_closed__exact=1", "unlocks_batch_period_closed"),
        (f"{BATCHES}?bypassed_since=2026-01-01", "unlocks_batch_bypassed"),
        (f"{LOG}?since=2026-01-01", "unlocks_entry_at"),
        (f"{LOG}?until=2026-01-01", "unlocks_entry_at"),
        (f"{LOG}?kind=consented", "unlocks_entry_kind"),
        (f"{LOG}?kind=consented&since=2026-01-01", "unlocks_entry_kind"),
        (f"{LOG}?actor=1", "unlocks_entry_user"),
        (f"{LOG}?ip=10.0.0.1", "unlocks_entry_ip"),
        (f"{LOG}?amount_from=1000000", "unlocks_entry_amount"),
        ("/desk/unlocks/account/{account}/change/", "unlocks_batch_account"),
        ("/desk/unlocks/unlockrequest/?show=overdue", "unlocks_request_due"),
        ("/desk/unlocks/unlockrequest/?show=act_now", "unlocks_request_trouble"),
        ("/desk/unlocks/unlockrequest/?show=ready", "unlocks_request_stage"),
        ("/desk/unlocks/unlockrequest/?o=10", "unlocks_request_since"),
        ("/desk/unlocks/unlockrequest/?o=-10", "unlocks_request_since"),
        (f"{BATCHES}?o=5", "unlocks_batch_bypassed"),
        (f"{BATCHES}?o=-5", "unlocks_batch_bypassed"),
        (QUEUE, "unlocks_request_stage"),
        (QUEUE, "unlocks_request_due"),
        (QUEUE, "unlocks_outgoing_failed"),
    ],
)
def test_a_filter_reads_its_index(manager_client, address, index):
    account = factories.make_account()
    with CaptureQueriesContext(connection) as queries:
        manager_client.get(address.format(account=account.pk))
    plans = [plan_of(entry["sql"]) for entry in queries if entry["sql"].startswith("SELECT")]
    assert [plan for plan in plans if index in plan]


def loaded(page):
    """Return the bytes of all scripts and styles that a page loads, those that a style imports included."""
    names = re.findall(r'(?:src|href)="/static/([^"]+\.(?:js|css))"', page)
    texts = [Path(finders.find(name)).read_text() for name in names]
    for text in texts:
        imported = re.findall(r'@import url\("\.\./([^"]+)"\)', text)
        texts += [Path(finders.find(name)).read_text() for name in imported]
    return sum(len(text.encode()) for text in texts)


def test_a_list_loads_only_the_scripts_and_styles_that_it_needs(superuser_client, agent):
    factories.case_unlocking(agent)
    needed = {"/static/desk/zone.js", "/static/desk/keys.js", "/static/desk/list.js"}
    addresses = [address for address in PAGES if address.count("/") == 4] + [QUEUE]
    pages = {address: superuser_client.get(address).content.decode() for address in addresses}
    scripts = {address: set(re.findall(r'<script src="([^"]+)"', page)) - needed for address, page in pages.items()}
    assert scripts == {address: set() for address in addresses}
    sizes = {address: loaded(page) for address, page in pages.items()}
    assert {address: size for address, size in sizes.items() if not 30_000 < size < 110_000} == {}


# The batch list


def test_each_batch_has_its_verdict_and_its_amounts(agent_client, agent):
    factories.make_batch(number="OUT", status="exported", exported_on=date(2026, 5, 3))
    factories.make_batch(number="BIG", total=Decimal("1218204.50"), item_count=1234)
    factories.case_consented(agent, batches=[factories.make_batch(number="CAN")])
    shown = text(agent_client, BATCHES)
    assert "Exported on May 3, 2026. Support can&#x27;t unlock exported batches." in shown
    assert "Not in an open request." in shown
    assert '<span class="tag good">Yes</span>' in shown
    assert "$1,218,204.50" in shown
    assert "1,234" in shown


def test_ready_means_ready_for_whoever_asks(agent_client, agent):
    factories.make_batch(number="WAITS")
    factories.case_awaiting(agent, batches=[factories.make_batch(number="ASKED")])
    factories.case_consented(agent, batches=[factories.make_batch(number="CAN")])
    stale = factories.make_batch(number="STALE")
    factories.case_consented(agent, batches=[stale])
    factories.make_item(batch=stale)
    assert numbers(agent_client.get(BATCHES, {"show": "ready"})) == {"CAN"}


def test_filters_narrow_the_list(agent_client):
    factories.make_batch(number="OLD", bypassed_on=date(2026, 1, 1))
    factories.make_batch(number="NEW", bypassed_on=date(2026, 6, 1))
    factories.make_batch(number="SHUT", bypassed_on=date(2026, 1, 1), period_closed=True)
    factories.make_batch(number="POSTED", status="posted")
    assert numbers(agent_client.get(BATCHES, {"show": "posted"})) == {"POSTED"}
    assert numbers(agent_client.get(BATCHES, {"period_closed__exact": 1})) == {"SHUT"}
    assert numbers(agent_client.get(BATCHES, {"bypassed_since": "2026-06-01"})) == {"NEW"}
    assert numbers(agent_client.get(BATCHES, {"bypassed_since": "2026-13-45"})) == {"OLD", "NEW", "SHUT", "POSTED"}


def test_what_was_never_bypassed_is_sorted_last_either_way_round(agent_client):
    days = {"OLD": date(2026, 1, 1), "NEW": date(2026, 6, 1)}
    for number, on in days.items():
        factories.make_batch(number=number, bypassed_on=on)
    factories.make_batch(number="NEVER", status="posted")
    for order, expected in (("5", ["OLD", "NEW", "NEVER"]), ("-5", ["NEW", "OLD", "NEVER"])):
        page = agent_client.get(BATCHES, {"o": order})
        assert [batch.number for batch in page.context["cl"].result_list] == expected
        file = agent_client.post(f"{BATCHES}file/?o={order}", {"form": "csv"}).getvalue().decode("utf-8-sig")
        assert [line.partition(",")[0] for line in file.splitlines()[1:-1]] == expected


def test_requests_that_are_in_no_stage_are_sorted_last_either_way_round(agent_client, agent):
    first, second, closed = (factories.open_case(agent).unlock_request for _ in range(3))
    operations.close_request(closed, resolution="canceled", why="Not needed", by=factories.acting(agent))
    for order, expected in (("10", [first, second, closed]), ("-10", [second, first, closed])):
        assert (
            list(agent_client.get("/desk/unlocks/unlockrequest/", {"o": order}).context["cl"].result_list) == expected
        )


def test_the_list_says_what_the_product_is_at(agent_client, agent, manager):
    back = factories.case_unlocked(agent, batches=[factories.make_batch(number="BACK")])
    operations.relock(back.rows, why="Asked.", by=acting(manager))
    factories.case_unlocking(agent, batches=[factories.make_batch(number="ON-ITS-WAY")])
    assert numbers(agent_client.get(BATCHES, {"show": "unlocking"})) == {"ON-ITS-WAY"}
    assert numbers(agent_client.get(BATCHES, {"show": "relocking"})) == {"BACK"}
    assert numbers(agent_client.get(BATCHES, {"show": "unlocked"})) == set()
    shown = text(agent_client, BATCHES)
    for tag, sentence in (("Unlocking", "Being unlocked"), ("Relocking", "Being relocked")):
        assert shown.count(f'<span class="tag info">{tag}</span>') == 2
        assert f"{sentence}. The product has not answered yet." in shown
    assert "until" not in shown


def test_batches_are_found_by_number_or_account(agent_client):
    account = factories.make_account(number="4711")
    factories.make_batch(account=account, number="20261101-INV")
    factories.make_batch(account=account, number="20261102-PAY")
    factories.make_batch(number="20261101-OTHER")

    def found(term):
        return numbers(agent_client.get(BATCHES, {"q": term}))

    assert found("20261101-INV") == {"20261101-INV"}
    assert found("20261101") == {"20261101-INV", "20261101-OTHER"}
    assert found("20261101-inv") == {"20261101-INV"}
    assert found("4711") == {"20261101-INV", "20261102-PAY"}
    assert found("INV") == set()
    assert found("%") == set()
    assert found("2026110_") == set()
    assert found(" 20261102 ") == {"20261102-PAY"}


# Bulk actions

ACTIONS = {
    "unlock_selected": "unlock",
    "cancel_selected": "cancel",
    "relock_selected": "relock",
    "re_export_selected": "re_export",
}


def run(client, action, batches, **more):
    return client.post(BATCHES, {"action": action, "_selected_action": [b.pk for b in batches], "index": 0} | more)


@pytest.mark.parametrize("action", [*ACTIONS, "open_a_request"])
def test_an_action_freezes_what_was_picked(manager_client, manager, action):
    picked, other = factories.make_batches(n=2), factories.make_batch()
    response = run(manager_client, action, picked)
    selection = Selection.objects.get()
    assert set(selection.batches.all()) == set(picked)
    assert other not in selection.batches.all()
    assert selection.made_by == manager
    if action == "open_a_request":
        expected = f"{reverse('admin:unlocks_unlockrequest_add')}?selection={selection.pk}"
    else:
        expected = reverse("admin:selection_act", args=[selection.pk, ACTIONS[action]])
    assert (response.status_code, response["Location"]) == (302, expected)


def test_all_matching_means_all_matching_and_not_this_page(manager_client):
    account = factories.make_account(number="4711")
    batches = factories.make_batches(account=account, n=60, items=0)
    factories.make_batch()
    with CaptureQueriesContext(connection) as queries:
        manager_client.post(
            f"{BATCHES}?q=4711",
            {"action": "unlock_selected", "_selected_action": [batches[0].pk], "index": 0, "select_across": 1},
        )
    assert Selection.objects.get().batches.count() == 60
    assert sum("unlocks_selection_batches" in entry["sql"] and "INSERT" in entry["sql"] for entry in queries) == 1


def test_selections_of_yesterday_are_thrown_away(manager_client, manager, time_machine):
    batches = factories.make_batches(n=1)
    old = Selection.objects.create(made_by=manager, made_at="2026-01-01T00:00:00Z")
    old.batches.set(batches)
    foreign = Selection.objects.create(made_by=factories.make_user("other"), made_at="2026-01-01T00:00:00Z")
    run(manager_client, "unlock_selected", batches)
    assert not Selection.objects.filter(pk=old.pk).exists()
    assert Selection.objects.filter(pk=foreign.pk).exists()


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        ("agent_client", {*ACTIONS, "open_a_request"}),
        ("manager_client", {*ACTIONS, "open_a_request"}),
        ("auditor_client", set()),
        ("superuser_client", {*ACTIONS, "open_a_request"}),
    ],
)
def test_each_role_is_offered_its_actions_and_no_other(request, role, offered):
    client = request.getfixturevalue(role)
    batches = factories.make_batches(n=1)
    form = client.get(BATCHES).context["action_form"]
    assert ({value for value, _ in form.fields["action"].choices if value} if form else set()) == offered
    for action in {*ACTIONS, "open_a_request"} - offered:
        run(client, action, batches)
        assert not Selection.objects.exists()


def test_nobody_is_offered_to_delete(superuser_client):
    factories.make_account()
    assert "delete_selected" not in text(superuser_client, BATCHES) + text(superuser_client, ACCOUNTS)


# Who may


@pytest.mark.parametrize("role", ["agent", "manager", "auditor", "superuser"])
@pytest.mark.parametrize("address", PAGES)
def test_each_role_sees_its_pages(request, role, address):
    client = request.getfixturevalue(f"{role}_client")
    assert client.get(address).status_code == (200 if role in PAGES[address] else 403)


@pytest.mark.parametrize("address", PAGES)
def test_nobody_sees_a_page_without_signing_in(client, db, address):
    response = client.get(address)
    assert response.status_code == 302
    assert response["Location"].startswith("/desk/login/")


@pytest.mark.parametrize("model", [Account, Batch, BatchItem, Contact, LedgerEntry, UnlockRequest])
def test_nobody_deletes_not_even_a_superuser(superuser_client, agent, model):
    factories.case_consented(agent)
    thing = model.objects.first()
    count = model.objects.count()
    response = superuser_client.post(f"/desk/unlocks/{model._meta.model_name}/{thing.pk}/delete/", {"post": "yes"})
    assert response.status_code == 403
    assert model.objects.count() == count


def test_nobody_deletes_staff(superuser_client, agent):
    response = superuser_client.post(f"/desk/auth/user/{agent.pk}/delete/", {"post": "yes"})
    assert response.status_code == 403
    assert type(agent).objects.filter(pk=agent.pk).exists()


def test_every_page_of_the_desk_refuses_to_delete(rf, superuser):
    request = rf.get("/")
    request.user = superuser
    assert [model for model, page in desk._registry.items() if page.has_delete_permission(request)] == []


@pytest.mark.parametrize("status", ["unlocked", "exported", "pending"])
def test_nobody_edits_a_status_in_a_form(superuser_client, status):
    batch = factories.make_batch()
    response = superuser_client.post(f"/desk/unlocks/batch/{batch.pk}/change/", {"status": status, "number": "X"})
    assert response.status_code == 405
    batch.refresh_from_db()
    assert (batch.status, batch.history.count()) == ("bypassed", 1)


# Accounts


def account_form(account, **changes):
    """What the account's page sends back untouched, with changes."""
    form = {
        "name": account.name,
        "accounting_software": account.accounting_software,
        "active": "on",
        "contacts-TOTAL_FORMS": account.contacts.count(),
        "contacts-INITIAL_FORMS": account.contacts.count(),
    }
    for place, contact in enumerate(account.contacts.all()):
        form |= {
            f"contacts-{place}-id": contact.pk,
            f"contacts-{place}-account": account.pk,
            f"contacts-{place}-name": contact.name,
            f"contacts-{place}-email": contact.email,
            f"contacts-{place}-phone": contact.phone,
            f"contacts-{place}-is_admin": "on" if contact.is_admin else "",
        }
    return form | changes


def test_an_account_is_changed_through_history(manager_client, manager):
    account = factories.make_account(name="Northwind Heeting")
    address = f"/desk/unlocks/account/{account.pk}/change/"
    changes = {"name": "Northwind Heating", "contacts-0-name": "Dana Whitfield"}
    assert manager_client.post(address, account_form(account, **changes)).status_code == 302
    account.refresh_from_db()
    assert account.name == "Northwind Heating"
    latest = account.history.latest()
    assert (latest.history_user, latest.history_actor, latest.history_ip) == (manager, "manager", "127.0.0.1")
    contact = account.contacts.get()
    assert (contact.name, contact.history.latest().history_actor) == ("Dana Whitfield", "manager")


def as_sent(page):
    """What a browser sends back of a page's form, untouched."""
    form = {}
    for admin_form in [page.context["adminform"].form, *page.context["inline_admin_formsets"][0].formset.forms]:
        for bound in admin_form:
            value = bound.value()
            if value not in (None, False):
                form[bound.html_name] = "on" if value is True else value
            if bound.field.show_hidden_initial:
                (tag,) = re.findall(rf'<input[^>]*name="{bound.html_initial_name}"[^>]*>', page.content.decode())
                form[bound.html_initial_name] = unescape("".join(re.findall(r'value="([^"]*)"', tag)))
    formset = page.context["inline_admin_formsets"][0].formset
    return form | {bound.html_name: bound.value() for bound in formset.management_form}


@pytest.fixture
def stale(manager_client):
    """An account, the address of its page, and what that sent back before somebody else saved it."""
    account = factories.make_account(name="Northwind Heeting")
    address = f"/desk/unlocks/account/{account.pk}/change/"
    return account, address, as_sent(manager_client.get(address))


def test_an_older_page_puts_nothing_back_that_it_never_touched(superuser_client, manager_client, stale):
    account, address, old = stale
    contact = account.contacts.get()
    now = {name: value for name, value in old.items() if name not in ("contacts-0-is_admin", "active")}
    superuser_client.post(address, now | {"contacts-0-email": "new@northwind.example"})
    assert manager_client.post(address, old | {"name": "Northwind", "contacts-0-phone": "1"}).status_code == 302
    account.refresh_from_db()
    contact.refresh_from_db()
    assert (account.name, account.active) == ("Northwind", False)
    assert (contact.email, contact.is_admin, contact.phone) == ("new@northwind.example", False, "1")
    assert account.history.latest().history_actor == "manager"


def test_what_somebody_else_changed_meanwhile_is_refused_and_what_was_typed_is_kept(
    superuser_client, manager_client, stale
):
    account, address, old = stale
    without = {name: value for name, value in old.items() if name != "contacts-0-is_admin"}
    superuser_client.post(address, without | {"name": "Northwind Air"})
    entries = LedgerEntry.objects.count()
    response = manager_client.post(address, old | {"name": "Northwind Heating", "contacts-0-phone": "1"})
    form = response.context["adminform"].form
    said = "superuser changed this to “Northwind Air” meanwhile. Save once more to put what is here in its place."
    account.refresh_from_db()
    assert (response.status_code, form.errors, form["name"].value()) == (200, {"name": [said]}, "Northwind Heating")
    assert (account.name, LedgerEntry.objects.count()) == ("Northwind Air", entries)
    assert manager_client.post(address, as_sent(response)).status_code == 302
    account.refresh_from_db()
    contact = account.contacts.get()
    assert (account.name, contact.phone, contact.is_admin) == ("Northwind Heating", "1", False)


def test_the_same_change_from_two_pages_is_one(superuser_client, manager_client, stale):
    account, address, old = stale
    for client in (superuser_client, manager_client):
        assert client.post(address, old | {"name": "Northwind Heating"}).status_code == 302
    assert account.history.count() == 2


def test_a_contact_changed_meanwhile_names_who_and_to_what(superuser_client, manager_client, stale):
    account, address, old = stale
    superuser_client.post(address, {name: value for name, value in old.items() if name != "contacts-0-is_admin"})
    email = account.contacts.get().email
    manager_client.post(address, old | {"contacts-0-email": "a@northwind.example"})
    response = superuser_client.post(address, old | {"contacts-0-email": "b@northwind.example"})
    (form,) = response.context["inline_admin_formsets"][0].formset.forms
    assert form.errors == {
        "email": [
            "manager changed this to “a@northwind.example” meanwhile. Save once more to put what is here in its place."
        ]
    }
    assert email != account.contacts.get().email == "a@northwind.example"


@pytest.mark.parametrize(
    "changes", [{"contacts-0-email": "other@northwind.example"}, {"contacts-0-is_admin": ""}], ids=["address", "flag"]
)
def test_a_link_that_ended_with_its_contact_stays_ended(agent, manager_client, changes):
    case, closed = factories.case_awaiting(agent), factories.case_awaiting(agent)
    address = f"/desk/unlocks/account/{case.account.pk}/change/"
    before = account_form(case.account)
    operations.close_request(closed.unlock_request, resolution="canceled", why="Case", by=factories.acting(agent))
    manager_client.post(address, account_form(case.account, **changes))
    revoked_at = case.link.revoked_at
    manager_client.post(address, before)
    case.admin.refresh_from_db()
    assert (case.admin.email, case.admin.is_admin) == (before["contacts-0-email"], True)
    assert (operations.link_state(case.link), case.link.revoked_at) == ("revoked", revoked_at)
    assert revoked_at is not None
    kinds = LedgerEntry.objects.filter(user__username="manager").order_by("sequence").values_list("kind", flat=True)
    assert list(kinds) == ["contact_changed", "link_revoked", "contact_changed"]


def test_a_change_of_name_leaves_the_link_alone(agent, manager_client):
    case = factories.case_awaiting(agent)
    form = account_form(case.account, **{"contacts-0-name": "Dana W."})
    manager_client.post(f"/desk/unlocks/account/{case.account.pk}/change/", form)
    assert operations.link_state(case.link) == "live"


def test_the_number_of_an_account_stays(manager_client):
    account = factories.make_account(number="4711")
    manager_client.post(f"/desk/unlocks/account/{account.pk}/change/", account_form(account, number="666"))
    account.refresh_from_db()
    assert account.number == "4711"


@pytest.mark.parametrize("role", ["agent_client", "auditor_client"])
def test_who_may_only_look_changes_nothing(request, role):
    client, account = request.getfixturevalue(role), factories.make_account(name="As it was")
    response = client.post(f"/desk/unlocks/account/{account.pk}/change/", account_form(account, name="Forged"))
    assert response.status_code == 403
    account.refresh_from_db()
    assert account.name == "As it was"


def test_one_address_belongs_to_one_contact_of_an_account(manager_client):
    account = factories.make_account()
    contact = account.contacts.get()
    other = factories.make_contact(account=account, is_admin=False)
    place = list(account.contacts.all()).index(other)
    response = manager_client.post(
        f"/desk/unlocks/account/{account.pk}/change/",
        account_form(account, **{f"contacts-{place}-email": contact.email}),
    )
    assert response.status_code == 200
    assert "errorlist" in response.content.decode()
    other.refresh_from_db()
    assert other.email != contact.email


@pytest.mark.parametrize("spelled", [str.upper, "{}\u200b".format, "\u00a0{}".format])
def test_one_mailbox_belongs_to_one_contact_however_it_is_spelled(manager_client, spelled):
    account = factories.make_account()
    new = {
        "contacts-TOTAL_FORMS": 2,
        "contacts-1-id": "",
        "contacts-1-account": account.pk,
        "contacts-1-name": "Dana W.",
        "contacts-1-email": spelled(account.contacts.get().email),
    }
    response = manager_client.post(f"/desk/unlocks/account/{account.pk}/change/", account_form(account, **new))
    assert (response.status_code, account.contacts.count()) == (200, 1)


def test_an_address_keeps_nothing_hidden_and_a_link_survives_other_capitals(agent, manager_client):
    case = factories.case_awaiting(agent)
    email = case.admin.email
    other = f"{email.title()}\u200b"
    form = account_form(case.account, **{"contacts-0-email": other})
    assert manager_client.post(f"/desk/unlocks/account/{case.account.pk}/change/", form).status_code == 302
    case.admin.refresh_from_db()
    assert (case.admin.email, operations.link_state(case.link)) == (email, "live")


@pytest.mark.parametrize("field", ["name", "contacts-0-name", "contacts-0-phone"])
@pytest.mark.parametrize("value", ["\u3164", "Da\u00adna", "Dana\u200b"])
def test_a_record_holds_nothing_that_can_not_be_seen(manager_client, field, value):
    account = factories.make_account()
    before = Account.objects.get(pk=account.pk).history.count(), account.contacts.get().history.count()
    form = account_form(account, **{field: value})
    assert manager_client.post(f"/desk/unlocks/account/{account.pk}/change/", form).status_code == 200
    assert (account.history.count(), account.contacts.get().history.count()) == before


def test_a_new_account_has_its_number_as_it_is_compared(manager_client):
    form = {"number": "\u200bA\u20117 ", "name": "Blue", "accounting_software": "none", "active": "on"}
    form |= {"contacts-TOTAL_FORMS": 0, "contacts-INITIAL_FORMS": 0}
    assert manager_client.post("/desk/unlocks/account/add/", form).status_code == 302
    assert Account.objects.get().number == "A-7"


def test_accounts_are_found_by_number_or_name(agent_client):
    for number, name in [("4711", "Northwind Heating"), ("4802", "Blue Ridge Plumbing")]:
        factories.make_account(number=number, name=name)

    def found(term):
        return {account.number for account in agent_client.get(ACCOUNTS, {"q": term}).context["cl"].result_list}

    assert found("47") == {"4711"}
    assert found("northwind heating") == {"4711"}
    assert found("BLUE") == {"4802"}
    assert found("Plumbing") == set()


def test_the_pin_is_nowhere_on_the_desk(superuser_client):
    account = factories.make_account()
    for address in (
        ACCOUNTS,
        f"/desk/unlocks/account/{account.pk}/change/",
        f"/desk/unlocks/account/{account.pk}/history/",
    ):
        shown = text(superuser_client, address)
        assert account.pin_hash not in shown
        assert factories.PIN not in shown
        assert "pin_hash" not in shown


def test_a_manager_has_a_new_pin_issued_after_a_confirmation(manager_client, mailoutbox):
    account = factories.make_account()
    address = reverse("admin:unlocks_account_issue_pin", args=[account.pk])
    before = account.pin_hash
    page = text(manager_client, address)
    assert email(account.contacts.get().email) in page
    assert "the current PIN stops working" in page
    account.refresh_from_db()
    assert account.pin_hash == before
    with factories.delivered():
        response = manager_client.post(address)
    assert response["Location"] == f"/desk/unlocks/account/{account.pk}/change/"
    account.refresh_from_db()
    assert account.pin_hash != before
    assert [mail.to for mail in mailoutbox] == [[account.contacts.get().email]]


def test_a_double_click_issues_one_pin(manager_client, mailoutbox):
    account = factories.make_account(pin="")
    address = reverse("admin:unlocks_account_issue_pin", args=[account.pk])
    assert "the first of these emails, the PIN counts." in text(manager_client, address)

    def click(seen):
        with factories.delivered():
            page = manager_client.post(address, {"seen": seen}, follow=True).content.decode()
        return "Nothing was done now." in page, LedgerEntry.objects.filter(kind="pin_issued").count(), len(mailoutbox)

    first = manager_client.get(address).context["seen"]
    assert [click(first), click(first)] == [(False, 1, 1), (True, 1, 1)]
    assert click(manager_client.get(address).context["seen"]) == (False, 2, 2)


def test_without_an_admin_contact_no_pin_is_issued(manager_client):
    account = factories.make_account(admin=False)
    address = reverse("admin:unlocks_account_issue_pin", args=[account.pk])
    assert "no Admin contact" in text(manager_client, address)
    manager_client.post(address)
    before = account.pin_hash
    account.refresh_from_db()
    assert account.pin_hash == before


@pytest.mark.parametrize("role", ["agent_client", "auditor_client"])
def test_others_have_no_pin_issued(request, role):
    client, account = request.getfixturevalue(role), factories.make_account()
    address = reverse("admin:unlocks_account_issue_pin", args=[account.pk])
    assert {client.get(address).status_code, client.post(address).status_code} == {403}
    assert address not in text(client, f"/desk/unlocks/account/{account.pk}/change/")


# The queue and the search


def test_the_auditor_is_not_offered_to_open_a_request(auditor_client):
    assert reverse("admin:unlocks_unlockrequest_add") not in text(auditor_client, QUEUE)


def test_requests_are_called_so_everywhere(agent_client, agent):
    case = factories.open_case(agent)
    shown = text(agent_client, "/desk/unlocks/unlockrequest/")
    assert "<h1>Requests</h1>" in shown
    assert "Unlock requests" not in shown
    assert "Unlock requests" not in text(agent_client, f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/history/")


def test_the_navigation_shows_where_you_are(manager_client, agent_client):
    shown = text(manager_client, BATCHES)
    assert f'<a href="{BATCHES}" aria-current="page">Batches</a>' in shown
    assert shown.count('aria-current="page"') == 1
    assert "Audit log" in shown
    assert "Audit log" not in text(agent_client, BATCHES)


def test_a_single_hit_is_opened_at_once(agent_client, agent):
    case = factories.case_consented(agent, batches=[factories.make_batch(number="20261101-INV")])
    request = case.unlock_request.get_absolute_url()
    consent = f"/desk/unlocks/consent/{case.consent.pk}/change/"
    batch = f"/desk/unlocks/batch/{case.batch.pk}/change/"
    account = f"/desk/unlocks/account/{case.account.pk}/change/"
    hits = {
        case.unlock_request.reference: request,
        case.unlock_request.reference.lower(): request,
        f"UR-{case.unlock_request.pk}": request,
        case.consent.reference: consent,
        f"{case.consent.reference}-1": consent,
        "20261101-INV": batch,
        "20261101": batch,
        case.account.number: account,
        case.account.name: account,
        f" {case.account.name[:9]} ": account,
    }
    assert {term: agent_client.get(SEARCH, {"q": term}).get("Location") for term in hits} == hits


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("mcdonald", "McDonald Heating"),
        ("MCDONALD", "McDonald Heating"),
        ("abc heating", "ABC Heating & Air"),
        ("deluca", "deLuca Plumbing"),
        ("o'brien's", "O’Brien’s Drains"),
        ("O’BRIEN", "O'Brien's Drains"),
        ("\u200bJose\u0301", "JOSÉ Roofing"),
        ("josé", "José Roofing"),
        ("smith \u2013 sons", "Smith - Sons"),
    ],
)
def test_a_customer_is_found_in_any_capitals(agent_client, agent, term, name):
    account = factories.make_account(name=name, number="B-7")
    case = factories.open_case(agent, account=account)
    box = {"app_label": "unlocks", "model_name": "unlockrequest", "field_name": "account"}
    found = agent_client.get("/desk/autocomplete/", box | {"term": term}).json()["results"]
    assert agent_client.get(SEARCH, {"q": term}).url == f"/desk/unlocks/account/{account.pk}/change/"
    assert [hit["id"] for hit in found] == [str(account.pk)]
    for address in ("/desk/unlocks/unlockrequest/", "/desk/unlocks/batch/"):
        assert agent_client.get(address, {"q": "\u200bb\u20117"}).context["cl"].result_count > 0, address
    assert case.batch.account == account


def test_a_colleague_is_found_in_any_capitals(superuser_client):
    pk = factories.make_user("delacruz", last_name="de la Cruz").pk
    found = superuser_client.get("/desk/auth/user/", {"q": "DE LA CRUZ"}).context["cl"].result_list
    assert [user.pk for user in found] == [pk]


@pytest.mark.parametrize("term", ["inv-7a", "INV-7A", "Inv-7a", "inv\u20117a", "inv-7"])
def test_a_batch_is_found_in_any_capitals(agent_client, agent, term):
    case = factories.open_case(agent, batches=[factories.make_batch(number="INV-7a")])
    assert agent_client.get(SEARCH, {"q": term}).url == f"/desk/unlocks/batch/{case.batch.pk}/change/"
    listed = agent_client.get("/desk/unlocks/batch/", {"q": term}).context["cl"].result_list
    assert [batch.pk for batch in listed] == [case.batch.pk]
    requests = agent_client.get("/desk/unlocks/unlockrequest/", {"q": term}).context["cl"].result_list
    assert [found.pk for found in requests] == ([] if term == "inv-7" else [case.unlock_request.pk])


@pytest.mark.parametrize(
    ("model", "field"), [(Account, "number_plain"), (Account, "name_plain"), (Batch, "number_plain")]
)
def test_a_search_in_any_capitals_reads_an_index(db, model, field):
    found = model.objects.filter(starts_with(field, "mcdonald")).order_by()
    if connection.vendor == "postgresql":  # it would read a small table whole
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    plan = found.explain()
    assert f"{model._meta.db_table}_{field}" in plan
    assert f"SCAN {model._meta.db_table}" not in plan


def test_a_column_of_capitals_is_asked_for_capitals_alone():
    assert starts_with("number_plain", "inv-7a") == Q(number_plain__prefix="INV-7A")
    assert {word for _, word in starts_with("username", "ann").children} == {"ann", "Ann", "ANN"}


def test_several_hits_are_listed(agent_client):
    for number in ("4711", "4712"):
        account = factories.make_account(number=number, name=f"Northwind {number}")
        factories.make_batch(account=account, number="20261101-INV")
    shown = text(agent_client, SEARCH, q="20261101-INV")
    assert shown.count("20261101-INV</b>") == 2
    assert "Northwind 4712" in text(agent_client, SEARCH, q="northwind")


@pytest.mark.parametrize("term", ["", "nothing like it", "UR-999999999999999999999", "%", "'; --", "\0", "x" * 5000])
def test_no_hit_says_what_can_be_searched(agent_client, term):
    factories.make_batch()
    assert "UR-000123" in text(agent_client, SEARCH, q=term)


def test_the_search_finds_only_what_its_user_may_see(client, agent):
    case = factories.case_consented(agent)
    client.force_login(factories.make_user("newcomer"))
    for term in (case.unlock_request.reference, case.batch.number, case.account.number):
        assert "Nothing was found" in text(client, SEARCH, q=term)


# Pages that say no


@pytest.mark.parametrize("pk", ["999999", "x", str(uuid.UUID(int=0))])
@pytest.mark.parametrize("model", ["batch", "ledgerentry"])
def test_what_does_not_exist_is_not_found(superuser_client, model, pk):
    assert superuser_client.get(f"/desk/unlocks/{model}/{pk}/change/").status_code == 404


@pytest.mark.parametrize("address", [BATCHES, ACCOUNTS, LOG, QUEUE, "/staff/sign-in/", "/nowhere"])
def test_pages_hold_nothing_inline(manager_client, client, address):
    factories.make_batch()
    shown = (client if "login" in address else manager_client).get(address).content.decode()
    assert "<style" not in shown
    assert " style=" not in shown
    assert " onclick=" not in shown
    assert "<script>" not in shown


def test_a_batch_page_shows_items_requests_and_the_way_on(agent_client, agent):
    batch = factories.make_batch(items=2)
    history.save(factories.make_item(batch=batch, export_id="QB-77"), by=factories.acting(agent))
    shown = text(agent_client, f"/desk/unlocks/batch/{batch.pk}/change/")
    assert "QB-77" in shown
    assert "1 possible duplicate" in shown
    assert "Nobody has asked for it yet" in shown
    case = factories.open_case(agent, batches=[batch])
    shown = text(agent_client, f"/desk/unlocks/batch/{batch.pk}/change/")
    assert case.unlock_request.get_absolute_url() in shown
    assert "has not been asked for consent yet" in shown


def test_a_batch_page_shows_what_the_product_was_asked(agent_client, agent, manager, settings):
    settings.PRODUCT = "webhook"
    case = factories.case_unlocking(agent)
    batch, address = case.batch, f"/desk/unlocks/batch/{case.batch.pk}/change/"

    def said():
        page = agent_client.get(address).content.decode()
        callout = page.split('class="callout ')[1].split("</p>")[0]
        sentence = " ".join(unescape(re.sub(r"<[^>]+>", "", callout.split(">", 1)[1])).split())
        rows = re.findall(r"<tr>(.*?)</tr>", page.split('id="instructions"')[1].split("</table>")[0], re.DOTALL)
        return callout.split('"')[0], sentence, [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows[1:]]

    asked = f"agent had the product asked to unlock it, under consent {case.consent.reference}."
    at, unlock = moment(batch.instructions.get().queued_at), batch.instructions.get().key
    waits = f"Being unlocked. {asked} Waits to be handed over to the product."
    assert said() == ("wait", waits, [f"Unlock Waits to be handed over {at} – {unlock}"])
    sent = factories.hand_over()
    factories.answer(sent, "unknown", "Timeout")
    then = moment(batch.instructions.get().sent_at)
    silent = "The product did not say whether it was done. It is asked again. Last answer: Timeout."
    assert said() == (
        "wait",
        f"Nobody knows yet whether it is unlocked. {asked} {silent}",
        [f"Unlock Being asked about handed over {then} {at} Timeout {unlock}"],
    )
    factories.answer(sent, "done", "P-77")
    operations.relock(case.rows, why="Asked.", by=acting(manager))
    factories.answer(factories.hand_over(), "refused", "Someone has it open")
    lock = batch.instructions.first().key
    assert said() == (
        "bad",
        "The product refused to relock it. The product said: Someone has it open.",
        [f"Lock Refused {at} {at} Someone has it open {lock}", f"Unlock Done {at} {at} P-77 {unlock}"],
    )


# What an address may ask


@pytest.mark.parametrize("asked", ["pin_hash__startswith", "pin_hash", "pin_failures__gte", "name__regex", "pk__in"])
def test_a_list_answers_no_question_about_a_column_that_it_does_not_filter_by(superuser_client, asked):
    account = factories.make_account(number="L-1")
    hashed = {"pin_hash": account.pin_hash, "pin_hash__startswith": account.pin_hash[:40]}
    assert superuser_client.get(ACCOUNTS, {asked: hashed.get(asked, "1")}).status_code == 400
    assert numbers(superuser_client.get(ACCOUNTS, {"active__exact": "1"})) == {str(account)}


@pytest.mark.parametrize("number", ["9" * 19, "9" * 30, "9" * 5000])
def test_a_number_that_no_row_has_breaks_no_page(superuser_client, number):
    batch = factories.make_batch()
    not_found = [
        f"{BATCHES}{number}/change/",
        f"{BATCHES}{batch.pk}/history/{number}/",
        f"{BATCHES}{number}/history/1/",
        f"{LOG}{number}/change/",
        f"/desk/unlocks/consentterms/{number}/change/",
        f"/desk/unlocks/consentterms/{number}/history/",
        f"{ACCOUNTS}{number}/history/1/",
        f"/desk/auth/user/{number}/password/",
    ]
    assert [superuser_client.get(address).status_code for address in not_found] == [404] * len(not_found)
    answered = {
        f"/desk/unlocks/contact/add/?account={number}": 200,
        f"{BATCHES}?p={number}": 200,
        f"{BATCHES}{batch.pk}/change/?items={number}": 200,
        f"{BATCHES}{batch.pk}/history/?p={number}": 200,
        f"{LOG}?q=UR-{number}": 200,
        f"/desk/auth/user/?groups={number}": 400,
        f"/desk/auth/user/?groups__id__exact={number}": 400,
    }
    assert {address: superuser_client.get(address).status_code for address in answered} == answered
    ticked = {"action": "unlock_selected", "_selected_action": [batch.pk, number], "index": 0}
    assert superuser_client.post(BATCHES, ticked).status_code == 400
    assert Selection.objects.count() == 0


NO_KEY = ["9" * 19, "9" * 30, "9" * 5000, "1e5", "1.5", "-1", "0x10", "²", "x", ""]


def test_a_form_that_names_no_row_breaks_no_page(superuser_client, manager_client, agent, manager):
    case = factories.case_unlocked(agent)
    page, user = case.unlock_request.get_absolute_url(), f"/desk/auth/user/{agent.pk}/change/"
    contact, opening = "/desk/unlocks/contact/add/", f"/desk/unlocks/unlockrequest/add/?account={case.account.number}"
    before = snapshot()
    for key in NO_KEY:
        answers = [
            superuser_client.post(user, {"is_active": "on", "is_staff": "on", "groups": [key]}),
            superuser_client.post("/desk/auth/user/add/", {"username": "new", "groups": [key]}),
            manager_client.post(contact, {"name": "New", "email": "new@customer.example", "account": key}),
            manager_client.get(contact, {"account": key}),
            manager_client.post(page, {"verb": "mark_re_exported", "batches": [key], "key": str(uuid.uuid4())}),
            manager_client.post(page, {"verb": "hand_over", "to": key}),
            manager_client.post(opening, {"picked": [key], "requester": key, "numbers": key}),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 422, 422, 422], key
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize(
    "address", [f"{ACCOUNTS}1/change/", f"{ACCOUNTS}add/", "/desk/auth/user/1/change/", "{contact}"]
)
def test_no_record_is_copied(superuser_client, superuser, address):
    contact = factories.make_account().contacts.get()
    typed = {"_saveasnew": "1", "name": "Copy", "email": "a@customer.example", "account": contact.account_id}
    before = snapshot()
    address = address.format(contact=f"/desk/unlocks/contact/{contact.pk}/change/")
    assert superuser_client.post(address, typed).status_code == 400
    assert difference(before, snapshot()) == []


def test_an_address_that_nobody_types_breaks_no_list(manager_client):
    odd = [
        f"{BATCHES}?show=%00",
        f"{LOG}?kind=%00",
        f"{ACCOUNTS}?accounting_software__exact=%00",
        f"{LOG}?until=9999-12-31",
        f"{LOG}?since=0001-01-01",
        f"{BATCHES}?q=%00",
        "/desk/unlocks/unlockrequest/add/?q=%00",
        "/desk/autocomplete/?app_label=unlocks&model_name=unlockrequest&field_name=account&term=%00",
    ]
    assert [manager_client.get(address).status_code for address in odd] == [200] * len(odd)


def test_the_queue_warns_when_emails_wait_for_more_than_an_hour(agent, agent_client, manager_client, time_machine):
    factories.case_awaiting(agent)
    assert "not been sent" not in text(agent_client, QUEUE)
    time_machine.move_to(timezone.now() + timedelta(minutes=61))
    said = [" ".join(text(client, QUEUE).split()) for client in (agent_client, manager_client)]
    assert ["1 email has not been sent,</b> the oldest since" in page for page in said] == [True, True]
    assert ["Tell a manager." in page for page in said] == [True, False]
    assert [">Connections</a> says why." in page for page in said] == [False, True]
    deliver()
    assert "not been sent" not in text(agent_client, QUEUE)
