"""Histories are read, never written: simple-history's own page would write an old version back on POST."""

import re
from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import factories
from unlocks import history
from unlocks.models import Account, Batch, LedgerEntry

ROLES = ["agent_client", "manager_client", "auditor_client", "superuser_client"]


def page(name, obj, *args):
    return reverse(f"admin:unlocks_{obj._meta.model_name}_{name}", args=[obj.pk, *args])


@pytest.fixture
def batch(db):
    return factories.make_batch(status="bypassed", number="20261101-INV")


@pytest.fixture
def account(db, manager):
    account = factories.make_account(number="4711", name="Northwind Heeting")
    account.name, account.accounting_software, account.active = "Northwind Heating", "sage_intacct", False
    return history.save(account, by=replace(factories.acting(manager), ip="192.0.2.7"), why="Asked by phone")


@pytest.fixture(params=ROLES)
def client_of_role(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_no_role_writes_a_version_back(client_of_role, batch, method):
    first = batch.history.get()
    before = Batch.objects.values().get(pk=batch.pk)
    response = getattr(client_of_role, method)(
        page("simple_history", batch, first.pk), {"status": "pending", "name": "Forged", "_save": "Revert"}
    )
    assert response.status_code == 405
    assert Batch.objects.values().get(pk=batch.pk) == before
    assert batch.history.count() == 1


def test_who_may_edit_an_account_cannot_write_its_old_version_back_either(manager_client, account):
    oldest = account.history.earliest()
    response = manager_client.post(
        page("simple_history", account, oldest.pk),
        {"name": "Northwind Heeting", "accounting_software": "quickbooks_online", "active": "on"},
    )
    assert response.status_code == 405
    assert Account.objects.get(pk=account.pk).name == "Northwind Heating"
    assert account.history.count() == 2


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_the_list_of_versions_is_read_only_too(superuser_client, batch, method):
    assert getattr(superuser_client, method)(page("history", batch)).status_code == 405


def test_history_says_who_from_where_when_why_and_what(client_of_role, account):
    shown = client_of_role.get(page("history", account)).content.decode()
    assert "manager" in shown
    assert "from 192.0.2.7" in shown
    assert "Asked by phone" in shown
    assert f"{account.history.latest().history_date:%Y}" in shown
    # The zone of the desk, in winter or in summer.
    assert " EST<" in shown or " EDT<" in shown
    assert "Accounting software:" in shown
    assert "QuickBooks Online" in shown
    assert "Sage Intacct" in shown
    assert "sage_intacct" not in shown
    assert "<del>Northwind Heeting</del>" in shown
    assert "<ins>Northwind Heating</ins>" in shown
    assert "<del>yes</del>" in shown
    assert "pin" not in shown.lower().replace("pinned", "")


def test_a_version_is_shown_as_it_stood_and_holds_no_form(superuser_client, account):
    shown = superuser_client.get(page("simple_history", account, account.history.earliest().pk)).content.decode()
    assert "Northwind Heeting" in shown
    assert "QuickBooks Online" in shown
    assert account.pin_hash not in shown
    # The search, the sign-out and the list of keys of the frame are the only forms.
    assert shown.count("<form") == 3
    assert 'type="submit" name="_save"' not in shown


def test_an_unlock_reads_in_words(manager_client, agent):
    case = factories.case_unlocked(agent)
    shown = manager_client.get(page("history", case.batch)).content.decode()
    assert "<del>Bypassed</del>" in shown
    assert "<ins>Unlocked</ins>" in shown
    assert case.consent.reference in shown


def test_each_change_leads_to_its_entry_in_the_ledger(auditor_client, agent_client, agent):
    first, second = factories.case_consented(agent), factories.case_consented(agent)
    factories.unlock(Batch.objects.filter(pk__in=[first.batch.pk, second.batch.pk]), by=factories.acting(agent))
    of_second = LedgerEntry.objects.filter(unlock_request=second.unlock_request)
    came_in = LedgerEntry.objects.get(kind="imported", act=second.batch.history.earliest().history_act)
    told = [of_second.get(kind="unlocked"), of_second.get(kind="unlock_instructed"), came_in]
    entries = [f"/desk/unlocks/ledgerentry/{entry.pk}/change/" for entry in told]
    shown = auditor_client.get(page("history", second.batch)).content.decode()
    assert re.findall(r'href="(/desk/unlocks/ledgerentry/[0-9]+/change/)"', shown) == entries
    assert "ledgerentry" not in agent_client.get(page("history", second.batch)).content.decode()
    request = auditor_client.get(page("history", second.unlock_request)).content.decode()
    assert entries[0] in request


@pytest.mark.parametrize("address", ["history/999999/", "history/x/", "history/1%27/"])
def test_versions_that_do_not_exist_are_not_found(superuser_client, batch, address):
    assert superuser_client.get(f"/desk/unlocks/batch/{batch.pk}/{address}").status_code == 404


@pytest.mark.parametrize("pk", ["999999", "x", "1%27--"])
def test_histories_that_do_not_exist_are_not_found(superuser_client, batch, pk):
    assert superuser_client.get(f"/desk/unlocks/batch/{pk}/history/").status_code == 404


def test_a_version_of_another_record_is_not_found(superuser_client, batch):
    other = factories.make_batch()
    assert superuser_client.get(page("simple_history", batch, other.history.get().pk)).status_code == 404


def test_without_a_role_nothing_is_shown(client, batch):
    client.force_login(factories.make_user("newcomer"))
    assert client.get(page("history", batch)).status_code == 403
    assert client.get(page("simple_history", batch, batch.history.get().pk)).status_code == 403


def test_a_long_history_costs_no_query_for_each_version(manager_client, django_assert_num_queries, batch, manager):
    address = page("history", batch)
    manager_client.get(address)
    with CaptureQueriesContext(connection) as short:
        manager_client.get(address)
    for number in range(60):
        batch.name = f"Name {number}"
        history.save(batch, by=factories.acting(manager))
    with django_assert_num_queries(len(short) + 1):
        shown = manager_client.get(address).content.decode()
    assert "Name 58" in shown
    # The oldest row of a page is compared with the first of the next one.
    assert "<del>Name 9</del>" in shown
    assert "<ins>Name 10</ins>" in shown
    assert "Created" in manager_client.get(address, {"p": 2}).content.decode()
