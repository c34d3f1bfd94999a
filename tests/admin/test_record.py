"""The state of the record, on top of the audit log."""

from datetime import timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from tests.attacks import sql
from tests.factories import acting, case_consented
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, events, seals
from unlocks.models import LedgerEntry
from unlocks.outbox import heartbeat, worker

pytestmark = pytest.mark.django_db
URL = reverse("admin:unlocks_ledgerentry_changelist")


@pytest.fixture
def case(agent):
    return case_consented(agent)


def page(client):
    return " ".join(client.get(URL).content.decode().split())


def orders():
    return LedgerEntry.objects.filter(kind=events.VerificationOrdered.kind).count()


def verify(manager):
    operations.order_verification(by=acting(manager))
    worker.verify_when_due()


def test_before_anything_was_done(manager_client):
    said = page(manager_client)
    assert "<b>The record was not verified yet.</b>" in said
    assert "none was exported" in said
    assert "nothing is recorded yet" in said or "nothing is ever deleted" in said


def test_a_manager_has_it_verified_and_sees_what_was_found(case, manager, manager_client):
    asked = manager_client.post(f"{URL}verify/", follow=True).content.decode()
    assert "The worker verifies the record." in asked
    assert "No worker runs: start one with" in asked
    assert "Verify now" not in asked
    heartbeat.beat("one")
    assert "The worker is at it, or begins within a minute." in page(manager_client)
    upto = chain.head()[0]

    assert "That is ordered already." in manager_client.post(f"{URL}verify/", follow=True).content.decode()
    worker.verify_when_due()

    said = page(manager_client)
    assert f"every ledger entry up to {upto}, every seal" in said
    assert f"<dd>1 of {upto + 1}</dd>" in said
    assert 'class="callout good"' in said
    assert orders() == 1


def test_it_is_green_only_while_it_is_fresh(case, manager, manager_client):
    verify(manager)
    with time_machine.travel(timezone.now() + timedelta(hours=26), tick=False):
        manager_client.force_login(manager)
        said = page(manager_client)
    assert "<b>The record was not verified in the last day.</b> It held on" in said
    assert 'class="callout wait"' in said


def test_what_does_not_hold_is_red_until_it_holds(case, manager, manager_client):
    with guards.lifted():
        sql("UPDATE unlocks_contact SET phone = '1' WHERE id = %s", case.admin.pk)
    verify(manager)
    said = page(manager_client)
    assert "<b>The record does not hold.</b>" in said
    assert "the newest history row tells something else." in said
    assert 'class="callout bad"' in said


def test_says_what_was_sealed_and_where_the_anchor_went(case, manager_client, tmp_path):
    rows = seals.seal_history(by=Actor.desk())
    assert rows > 0
    call_command("export_anchor", to=tmp_path / "anchors.txt")
    assert "No worker runs, so nothing new is sealed" in page(manager_client)
    heartbeat.beat("one")
    said = page(manager_client)
    assert "The worker seals what is new every 15 minutes." in said
    assert f": entry {chain.head()[0] - 1}, to {tmp_path / 'anchors.txt'}</dd>" in said


@pytest.mark.parametrize("who", ["auditor_client", "agent_client", "client"])
def test_only_managers_order_it(case, request, who):
    client = request.getfixturevalue(who)
    answer = client.post(f"{URL}verify/")
    assert answer.status_code == 403
    if who == "auditor_client":
        assert "Verify now" not in page(client)
        assert "State of the record" in page(client)
    assert orders() == 0


def test_is_ordered_by_a_button_alone(case, manager_client):
    assert manager_client.get(f"{URL}verify/").status_code == 405
    assert orders() == 0
