"""Acts that the worker carries out: as whoever ordered them, judged then, whole or not at all, and once."""

import uuid
from contextlib import contextmanager
from datetime import timedelta

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from tests import factories
from tests.attacks import snapshot
from tests.factories import acting
from tests.operations import refused
from unlocks import operations
from unlocks.actors import Actor
from unlocks.models import Act, Batch, LedgerEntry, OrderedAct, Selection
from unlocks.operations.ordered import carry_out_ordered
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def selection_of(user, batches):
    selection = Selection.objects.create(made_by=user, made_at=timezone.now())
    selection.batches.set(batches)
    return selection


def ordered(case, by, kind=Act.Kind.UNLOCK, key=None, **options):
    selection, key = selection_of(by, case.batches), key or uuid.uuid4()
    by = Actor(name=by.username, user=by, ip="203.0.113.7", browser="A browser")
    return operations.order(kind, selection, options=options, by=by, key=key)


@contextmanager
def broken_off(error=OperationalError, *, by=None):
    """Have the database break off what tells the ledger of an act: of `by` alone, if given."""

    def fail(execute, sql, params, many, context):
        if "INSERT INTO" in sql and "unlocks_ledgerentry" in sql and (by is None or repr(by.username) in str(params)):
            raise error("canceling statement due to lock timeout")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        yield


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

    before = snapshot()
    with broken_off(InterfaceError), pytest.raises(InterfaceError):
        carry_out_ordered()
    assert snapshot() == before
    carry_out_ordered()
    assert set(Batch.objects.filter(pk__in=[b.pk for b in case.batches]).values_list("status", flat=True)) == {
        "unlocking"
    }


def test_what_the_database_breaks_off_waits_and_holds_up_no_other(agent, second_agent, time_machine):
    time_machine.move_to(timezone.now(), tick=False)
    case, other = factories.case_consented(agent), factories.case_consented(agent)
    order, later = ordered(case, agent), ordered(other, second_agent)
    with broken_off(by=agent):
        assert [carry_out_ordered() for _ in range(3)] == [1, 1, 0]
        assert (said(order), said(later)) == (("queued", ""), ("done", ""))
        assert (order.tries, order.next_try_at - order.at) == (1, timedelta(seconds=5))
        for minutes, tries, wait in ((1, 2, timedelta(minutes=6)), (7, 3, timedelta(minutes=37)), (40, 4, None)):
            time_machine.move_to(order.at + timedelta(minutes=minutes), tick=False)
            assert [carry_out_ordered(), carry_out_ordered()] == [1, 0]
            order.refresh_from_db()
            assert (order.tries, order.next_try_at - order.at) == (tries, wait or timedelta(hours=1))
    time_machine.move_to(order.at + timedelta(hours=1), tick=False)
    assert carry_out_ordered() == 1
    assert said(order) == (
        "refused",
        "The database broke off 4 tries within the hour. If that goes on, tell whoever looks after the server. "
        "Choose the batches again.",
    )
    assert ({batch.status for batch in case.refresh().batches}, Act.objects.get().pk) == ({"bypassed"}, later.pk)


def test_what_was_broken_off_is_done_once_the_database_lets_it(agent, time_machine):
    case = factories.case_consented(agent)
    order = ordered(case, agent)
    with broken_off():
        carry_out_ordered()
    time_machine.move_to(timezone.now() + timedelta(minutes=1))
    assert carry_out_ordered() == 1
    assert (said(order), case.refresh().batch.status) == (("done", ""), "unlocking")


def test_what_waits_is_canceled_by_who_ordered_it_or_a_manager(agent, second_agent, manager, auditor):
    cases = [factories.case_consented(agent) for _ in range(2)]
    orders = [ordered(case, agent) for case in cases]
    before = snapshot()
    for nobody in (second_agent, auditor):
        with pytest.raises(PermissionDenied):
            operations.cancel_order(orders[0], by=acting(nobody))
    assert snapshot() == before
    for order, by in zip(orders, (agent, manager), strict=True):
        operations.cancel_order(order, by=acting(by))
        assert said(order) == ("canceled", f"{by} canceled it.")
    assert operations.cancel_order(orders[0], by=acting(manager)).answer == "agent canceled it."
    assert (carry_out_ordered(), Act.objects.count(), LedgerEntry.objects.filter(kind="canceled").count()) == (0, 0, 0)
    again = ordered(cases[0], agent)
    assert (carry_out_ordered(), said(again)) == (1, ("done", ""))


def test_what_is_done_or_refused_is_not_canceled(agent, manager):
    done, refusal = ordered(factories.case_consented(agent), agent), ordered(factories.case_consented(agent), agent)
    _of_ones_own(refusal)
    OrderedAct.objects.filter(pk=done.pk).update(mac=done.mac)
    while carry_out_ordered():
        pass
    for order, state in ((done, "done"), (refusal, "refused")):
        with refused(Refusal.ALREADY_RECORDED, says=f"Already recorded as {state}."):
            operations.cancel_order(order, by=acting(agent))


def test_who_may_order_and_the_same_order_twice(agent, second_agent, auditor):
    case, key = factories.case_consented(agent), uuid.uuid4()
    with pytest.raises(PermissionDenied):
        ordered(case, auditor)
    assert ordered(case, agent, key=key) == ordered(case, agent, key=key)
    with pytest.raises(PermissionDenied):
        ordered(case, second_agent, key=key)
    assert OrderedAct.objects.count() == 1
