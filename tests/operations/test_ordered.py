"""Acts that the worker carries out: as whoever ordered them, judged then, whole or not at all, and once."""

import uuid
from datetime import timedelta

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.utils import timezone

from tests import factories
from tests.attacks import snapshot
from tests.factories import acting
from unlocks import operations
from unlocks.actors import Actor
from unlocks.models import Act, Batch, LedgerEntry, OrderedAct, Selection
from unlocks.operations.ordered import carry_out_ordered

pytestmark = pytest.mark.django_db


def selection_of(user, batches):
    selection = Selection.objects.create(made_by=user, made_at=timezone.now())
    selection.batches.set(batches)
    return selection


def ordered(case, by, kind=Act.Kind.UNLOCK, key=None, **options):
    selection, key = selection_of(by, case.batches), key or uuid.uuid4()
    by = Actor(name=by.username, user=by, ip="203.0.113.7", browser="A browser")
    return operations.order(kind, selection, options=options, by=by, key=key)


def said(order):
    order.refresh_from_db()
    return order.state, order.answer


def test_the_worker_does_it_as_whoever_ordered_it_and_once(agent):
    case = factories.case_consented(agent)
    order = ordered(case, agent)
    assert (case.refresh().batch.status, Act.objects.count()) == ("bypassed", 0)
    assert [carry_out_ordered(), carry_out_ordered()] == [1, 0]
    act, entry = Act.objects.get(), case.unlock_request.entries.get(kind="unlock_instructed")
    assert (act.pk, act.by, act.verdicts.filter(refusal="").count()) == (order.pk, agent, 2)
    assert (entry.act, entry.user, entry.ip) == (order.pk, agent, "203.0.113.7")
    assert said(order) == ("done", "")
    OrderedAct.objects.update(state="queued")
    entries = LedgerEntry.objects.count()
    carry_out_ordered()
    assert (LedgerEntry.objects.count(), Act.objects.get(), said(order)) == (entries, act, ("done", ""))


def test_the_rules_are_asked_when_it_is_done(agent, manager):
    case = factories.case_consented(agent)
    ordered(case, agent)
    operations.withdraw_consent(case.consent, why="Changed their mind.", by=acting(manager))
    carry_out_ordered()
    assert set(Act.objects.get().verdicts.values_list("refusal", flat=True)) == {"not_requested"}
    assert case.refresh().batch.status == "bypassed"


def test_what_waited_for_long_is_not_done(agent):
    """Its preview was of something else: here the customer agreed after it."""
    case = factories.case_awaiting(agent)
    order = ordered(case, agent)
    factories.agree(case)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        carry_out_ordered()
    assert (case.refresh().batch.status, said(order)[0], Act.objects.count()) == ("bypassed", "refused", 0)


def _deactivated(order):
    order.by.is_active = False
    order.by.save()


def _another_person(order):
    OrderedAct.objects.update(by=factories.make_user("framed", group="Agent"))


def _another_batch(order):
    order.selection.batches.add(factories.make_batch())


def _of_ones_own(order):
    OrderedAct.objects.update(mac="0" * 64)


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        (_deactivated, "agent may not do this any more. Someone who may has to choose the batches again."),
        (_another_person, "This is not what the desk was told to do. Choose the batches again."),
        (_another_batch, "This is not what the desk was told to do. Choose the batches again."),
        (_of_ones_own, "This is not what the desk was told to do. Choose the batches again."),
    ],
)
def test_what_the_desk_was_not_told_is_refused_and_said(agent, happened, answer):
    case = factories.case_consented(agent)
    order = ordered(case, agent)
    happened(order)
    assert carry_out_ordered() == 1
    assert said(order) == ("refused", answer)
    assert (case.refresh().batch.status, Act.objects.count()) == ("bypassed", 0)


def test_a_refusal_of_the_verb_is_kept(agent, manager):
    case = factories.case_unlocked(agent)
    order = ordered(case, manager, Act.Kind.RELOCK, why=" ")
    carry_out_ordered()
    assert said(order) == ("refused", "Give a reason. It stays with the record.")


def test_a_worker_that_dies_leaves_all_as_it_was(agent):
    case = factories.case_consented(agent)
    ordered(case, agent)

    def die(execute, sql, params, many, context):
        if "INSERT INTO" in sql and "unlocks_ledgerentry" in sql:
            raise OperationalError("The database is away.")
        return execute(sql, params, many, context)

    before = snapshot()
    with connection.execute_wrapper(die), pytest.raises(OperationalError):
        carry_out_ordered()
    assert snapshot() == before
    carry_out_ordered()
    assert set(Batch.objects.filter(pk__in=[b.pk for b in case.batches]).values_list("status", flat=True)) == {
        "unlocking"
    }


def test_who_may_order_and_the_same_order_twice(agent, second_agent, auditor):
    case, key = factories.case_consented(agent), uuid.uuid4()
    with pytest.raises(PermissionDenied):
        ordered(case, auditor)
    assert ordered(case, agent, key=key) == ordered(case, agent, key=key)
    with pytest.raises(PermissionDenied):
        ordered(case, second_agent, key=key)
    assert OrderedAct.objects.count() == 1
