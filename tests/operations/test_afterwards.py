import uuid

import pytest
from django.db.models import Count
from django.utils import timezone

from tests import factories
from tests.factories import acting, case_consented, case_unlocked, case_unlocking, make_user, open_case
from tests.operations import kinds, only_for, recorded, refused
from unlocks import operations
from unlocks.models import Batch, Instruction, UnlockRequest
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def verdicts(act):
    return sorted(act.verdicts.values_list("refusal", flat=True))


def test_locks_again_for_a_reason(agent, manager):
    case = case_unlocked(agent)
    until = case.batch.unlocked_until
    act = operations.relock(case.rows, why="Not used", by=acting(manager))
    assert verdicts(act) == ["", ""]
    for batch in case.refresh().batches:
        line = batch.lines.get()
        assert (batch.status, batch.grant, batch.unlocked_by, batch.unlocked_until) == (
            "relocking",
            line.consented,
            agent,
            until,
        )
        assert (line.outcome, batch.history.first().history_change_reason) == ("relocking", "Not used")
    factories.carry_out()
    for batch in case.refresh().batches:
        assert (batch.status, batch.grant, batch.unlocked_by, batch.unlocked_until) == ("bypassed", None, None, None)
        assert (batch.lines.get().outcome, batch.history.first().history_actor) == ("relocked", "ServiceTitan")
    assert kinds(case.unlock_request)[-3:] == ["relock_instructed", "relocked", "closed"]
    assert (case.unlock_request.status, case.unlock_request.resolution) == ("closed", "relocked_unused")


def test_locking_again_needs_a_reason(agent, manager):
    case = case_unlocked(agent)
    with refused(Refusal.NO_REASON):
        factories.relock(case.rows, why=" ", by=acting(manager))


def test_only_those_who_unlock_lock_again(agent):
    case = case_unlocked(agent)
    only_for(["Agent", "Manager"], lambda by: factories.relock(case.rows, why="Not used", by=by))


def test_a_used_consent_does_not_unlock_again(agent, manager):
    case = case_unlocked(agent)
    factories.relock(case.rows, why="Not used", by=acting(manager))
    assert verdicts(factories.unlock(case.rows, by=acting(agent))) == [Refusal.NOT_REQUESTED] * 2


def test_marks_as_re_exported(agent):
    case = case_unlocked(agent)
    act = operations.mark_re_exported(case.rows, by=acting(agent))
    assert verdicts(act) == ["", ""]
    for batch in case.refresh().batches:
        assert (batch.status, batch.exported_on, batch.lines.get().outcome) == (
            "exported",
            timezone.localdate(),
            "re_exported",
        )
    assert kinds(case.unlock_request)[-2:] == ["re_exported", "closed"]


def test_the_customer_may_export_before_the_product_answers(agent, manager):
    """The feed is as slow as the answer: what was asked in vain is canceled, and an answer changes nothing."""
    asked, relocking = case_unlocked(agent), case_unlocked(agent)
    untold = case_unlocking(agent)
    operations.relock(relocking.rows, why="Not used", by=acting(manager))
    cases = [untold, asked, relocking]
    act = operations.mark_re_exported(Batch.objects.all(), by=acting(agent))
    assert verdicts(act) == ["", "", "", "", "unlocking", "unlocking"]
    handed_over = factories.hand_over()
    operations.mark_re_exported(untold.rows, by=acting(agent))
    assert {batch.status for case in cases for batch in case.refresh().batches} == {"exported"}
    factories.answer(handed_over, "done")
    factories.carry_out()
    assert {batch.status for case in cases for batch in case.refresh().batches} == {"exported"}
    assert dict(Instruction.objects.order_by().values_list("state").annotate(n=Count("pk"))) == {
        "canceled": 2,
        "done": 6,
    }


def test_only_for_those_who_mark(agent):
    case = case_unlocked(agent)
    only_for(["Agent", "Manager"], lambda by: operations.mark_re_exported(case.rows, by=by))


def test_what_is_not_unlocked_is_neither_locked_nor_marked(agent, manager):
    case = case_consented(agent)
    for act in (
        operations.relock(case.rows, why="Not used", by=acting(manager)),
        operations.mark_re_exported(case.rows, by=acting(agent)),
    ):
        assert verdicts(act) == [Refusal.NOT_UNLOCKED] * 2
    assert {batch.status for batch in case.refresh().batches} == {"bypassed"}


def test_one_key_one_relock(agent, manager):
    case, key = case_unlocked(agent), uuid.uuid4()
    first = factories.relock(case.rows, why="Not used", by=acting(manager), key=key)
    second = factories.relock(case.rows, why="Not used", by=acting(manager), key=key)
    assert (first, second.repeated) == (second, True)
    assert kinds(case.unlock_request).count("relocked") == 1


def test_part_of_a_case_at_a_time(agent, manager):
    case = case_unlocked(agent)
    first, second = case.batches
    operations.mark_re_exported(Batch.objects.filter(pk=first.pk), by=acting(agent))
    with refused(Refusal.STILL_UNLOCKED):
        operations.close_request(case.unlock_request, resolution="re_exported", why="", by=acting(agent))
    factories.relock(Batch.objects.filter(pk=second.pk), why="Not used", by=acting(manager))
    unlock_request = UnlockRequest.objects.get()
    assert (unlock_request.status, unlock_request.resolution, unlock_request.closed_at is None) == (
        "closed",
        "re_exported",
        False,
    )


def test_closing_lets_the_batches_go(agent):
    case = open_case(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="Customer called back", by=acting(agent))
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {"not_unlocked"}
    assert recorded(case.unlock_request)[-1] == ("closed", {"resolution": "canceled", "why": "Customer called back"})
    assert open_case(agent, batches=case.batches).unlock_request.status == "open"


@pytest.mark.parametrize("resolution", ["re_exported", "relocked_unused", "declined", "withdrawn"])
def test_closes_as_nothing_that_did_not_happen(agent, resolution):
    case = open_case(agent)
    with refused(Refusal.WRONG_RESOLUTION):
        operations.close_request(case.unlock_request, resolution=resolution, why="", by=acting(agent))


def test_a_closed_case_stays_closed(agent):
    case = open_case(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="", by=acting(agent))
    by = acting(agent)
    for verb in (
        lambda: operations.close_request(case.unlock_request, resolution="expired", why="", by=by),
        lambda: operations.assign(case.unlock_request, to=agent, by=by),
        lambda: operations.record_advice(case.unlock_request, advice="wants_export", by=by),
    ):
        with refused(Refusal.CLOSED):
            verb()
    operations.add_note(case.unlock_request, text="Customer called again", by=by)
    assert recorded(case.unlock_request)[-1] == ("note", {"text": "Customer called again"})


def test_manual_entry_closes_the_case(agent):
    case = open_case(agent, bypass_reason="already_entered")
    operations.record_advice(case.unlock_request, advice="manual_entry", by=acting(agent))
    unlock_request = UnlockRequest.objects.get()
    assert (unlock_request.status, unlock_request.resolution, unlock_request.advice) == (
        "closed",
        "entered_manually",
        "manual_entry",
    )
    assert kinds(unlock_request) == ["opened", "advised", "closed"]


def test_advice_is_recorded_once(agent):
    case = open_case(agent)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    with refused(Refusal.ALREADY_RECORDED):
        operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))


def test_hands_a_case_over(agent, second_agent, auditor):
    case, gone = open_case(agent), make_user("gone", group="Agent", is_active=False)
    operations.assign(case.unlock_request, to=second_agent, by=acting(second_agent))
    assert UnlockRequest.objects.get().assignee == second_agent
    with refused(Refusal.ALREADY_RECORDED):
        operations.assign(case.unlock_request, to=second_agent, by=acting(agent))
    with refused(Refusal.NOT_AN_AGENT):
        operations.assign(case.unlock_request, to=auditor, by=acting(agent))
    with refused(Refusal.NOT_AN_AGENT):
        operations.assign(case.unlock_request, to=gone, by=acting(agent))


@pytest.mark.parametrize("verb", ["close", "assign", "advise", "note"])
def test_only_for_those_who_work_on_requests(agent, verb):
    case = open_case(agent)
    verbs = {
        "close": lambda by: operations.close_request(case.unlock_request, resolution="canceled", why="", by=by),
        "assign": lambda by: operations.assign(case.unlock_request, to=agent, by=by),
        "advise": lambda by: operations.record_advice(case.unlock_request, advice="wants_export", by=by),
        "note": lambda by: operations.add_note(case.unlock_request, text="Called", by=by),
    }
    only_for(["Agent", "Manager"], verbs[verb])
