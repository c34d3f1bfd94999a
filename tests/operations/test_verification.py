"""Having the record verified: ordered or due each day, done by the worker, told in the ledger."""

from datetime import timedelta
from threading import Event

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.utils import timezone

from tests.attacks import sql
from tests.factories import acting, case_consented
from tests.test_concurrency import at_once
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, events
from unlocks.models import LedgerEntry
from unlocks.outbox import worker

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def told():
    kinds = (events.VerificationOrdered.kind, events.Verified.kind, events.NotVerified.kind)
    entries = LedgerEntry.objects.filter(kind__in=kinds).order_by("sequence")
    return [(entry.actor, chain.event_of(entry)) for entry in entries]


def test_the_worker_verifies_what_was_ordered_once(agent, manager):
    case_consented(agent)
    assert not operations.verification_is_due()

    assert operations.order_verification(by=acting(manager))
    upto, _ = chain.head()
    worker.verify_when_due()
    worker.verify_when_due()

    *_, (_, verified) = told()
    assert told() == [
        (manager.username, events.VerificationOrdered()),
        (Actor.desk().name, events.Verified(entries=upto, seconds=verified.seconds)),
    ]
    assert verified.seconds < 60
    assert not operations.verification_is_due()


def test_what_is_ordered_already_is_not_ordered_again(manager, superuser):
    assert operations.order_verification(by=acting(manager))
    assert not operations.order_verification(by=acting(superuser))
    assert [name for name, _ in told()] == [manager.username]


def test_what_does_not_hold_is_told(agent, manager, caplog):
    case = case_consented(agent)
    with guards.lifted():
        sql("UPDATE unlocks_contact SET phone = '1' WHERE id = %s", case.admin.pk)
    operations.order_verification(by=acting(manager))

    worker.verify_when_due()

    (_, found) = told()[-1]
    assert (type(found), found.findings) == (events.NotVerified, len(found.first))
    assert found.first[0].endswith(f"(id {case.admin.pk}): contact: the newest history row tells something else.")
    assert f"The record does not hold: {found.first[0]}" in caplog.messages


def test_it_is_due_a_day_after_the_last_time(agent):
    case_consented(agent)
    now = timezone.now()
    for hours, due in ((23, False), (25, True)):
        with time_machine.travel(now + timedelta(hours=hours), tick=False):
            assert operations.verification_is_due() == due
    with time_machine.travel(now + timedelta(hours=25), tick=False):
        call_command("work", once=True)
        assert [type(event) for _, event in told()] == [events.Verified]
        assert not operations.verification_is_due()


def test_of_an_empty_ledger_nothing_is_due(db):
    assert not operations.verification_is_due()


@pytest.mark.parametrize("who", ["agent", "auditor"])
def test_only_managers_order_it(request, who):
    with pytest.raises(PermissionDenied):
        operations.order_verification(by=acting(request.getfixturevalue(who)))
    assert told() == []


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_runs_verifies_beside_its_work(manager, monkeypatch):
    operations.order_verification(by=acting(manager))
    stopping = Event()
    monkeypatch.setattr(worker, "PAUSE", 0.05)
    verified = worker.verify_when_due

    def stop_after():
        verified()
        stopping.set()

    monkeypatch.setattr(worker, "verify_when_due", stop_after)
    worker.work(stopping)

    assert [type(event) for _, event in told()] == [events.VerificationOrdered, events.Verified]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_workers_verify_it_once(manager):
    operations.order_verification(by=acting(manager))
    at_once(worker.verify_when_due, worker.verify_when_due)
    assert [type(event) for _, event in told()] == [events.VerificationOrdered, events.Verified]
