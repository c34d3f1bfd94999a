"""What the product is handed, what it answers, and what becomes of the batches by it."""

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.core import mail
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import acting, agree, answer, case_awaiting, case_consented, case_unlocked, case_unlocking
from tests.operations import kinds, only_for, recorded, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.ledger import invariants
from unlocks.models import Account, Act, Batch, Instruction, Outgoing, RequestedBatch
from unlocks.operations import handing_over
from unlocks.outbox import worker
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def states(case):
    return [batch.instructions.latest("pk").state for batch in case.batches]


def offenders():
    return [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()]


# Handing over


def test_hands_over_once_what_is_due(agent):
    case = case_unlocking(agent)
    now = timezone.now()
    with time_machine.travel(now, tick=False):
        sent = factories.hand_over()
    assert [(one.batch, one.what) for one in sent] == [(batch, "unlock") for batch in case.batches]
    assert (
        list(Instruction.objects.order_by("pk").values_list("state", "tries", "sent_at", "next_try_at"))
        == [("sent", 1, now, now + timedelta(minutes=5))] * 2
    )
    assert factories.hand_over() == []
    assert [batch.status for batch in case.refresh().batches] == ["unlocking", "unlocking"]


def test_a_lease_that_ran_out_is_asked_about_and_not_handed_over_again(agent):
    case = case_unlocking(agent)
    factories.hand_over()
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=6), tick=False):
        assert [one.state for one in handing_over.lease()] == ["sent", "sent"]
        assert factories.hand_over() == []
    assert states(case) == ["sent", "sent"]


def test_what_was_leased_and_not_handed_over_is_handed_over_later(agent):
    case_unlocking(agent)
    handing_over.lease()
    assert handing_over.lease() == []
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=6), tick=False):
        assert [one.state for one in handing_over.lease()] == ["queued", "queued"]


def _changed(case, agent):
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")


def _closed_period(case, agent):
    history.update(Batch.objects.filter(pk=case.batch.pk), by=Actor.desk(), period_closed=True)


def _differs(case, agent):
    history.update(Batch.objects.filter(pk=case.batch.pk), by=Actor.desk(), differs="exported")


def _inactive(case, agent):
    history.update(Account.objects.filter(pk=case.account.pk), by=Actor.desk(), active=False)


def _typed_the_pin(case, agent):
    operations.verify_pin(case.unlock_request, pin=factories.PIN, by=acting(agent))


@pytest.mark.parametrize(
    ("meanwhile", "why", "how_many"),
    [
        (_changed, "Changed before the product was asked", 1),
        (_closed_period, "Period closed before the product was asked", 1),
        (_differs, "Status differs before the product was asked", 1),
        (_inactive, "Account inactive before the product was asked", 2),
        (_typed_the_pin, "Someone else must unlock before the product was asked", 2),
    ],
)
def test_judges_the_consent_again_and_cancels_what_it_does_not_hold_for(agent, meanwhile, why, how_many):
    case = case_unlocking(agent)
    meanwhile(case, agent)
    assert len(factories.hand_over()) == 2 - how_many
    canceled = Instruction.objects.filter(state="canceled")
    assert list(canceled.values_list("answer", flat=True)) == [why] * how_many
    assert [batch.status for batch in case.refresh().batches[:how_many]] == ["bypassed"] * how_many
    lines = RequestedBatch.objects.filter(batch__in=case.batches[:how_many])
    assert set(lines.values_list("outcome", flat=True)) == {"waiting"}
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["batches"], facts["why"]) == ("unlock_canceled", how_many, why)
    assert offenders() == []


def test_a_consent_that_expires_while_the_instruction_waits_cancels_it(agent):
    case = case_unlocking(agent)
    with time_machine.travel(case.consent.valid_until, tick=False):
        assert factories.hand_over() == []
    assert states(case) == ["canceled", "canceled"]
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]


def test_of_a_batch_one_after_the_other(agent, manager):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    operations.withdraw_consent(case.consent, why="Asked", by=acting(manager))
    assert factories.hand_over() == []
    answer(asked[:1], "done")
    assert [(one.batch, one.what) for one in factories.hand_over()] == [(case.batches[0], "lock")]


# Answers


def test_done_starts_the_window(agent):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    now = timezone.now()
    with time_machine.travel(now, tick=False):
        told = answer(asked, "done", "REF-1")
    assert told == {one.key: "done" for one in asked}
    for batch in case.refresh().batches:
        assert (batch.status, batch.unlocked_by, batch.unlocked_until) == ("unlocked", agent, now + timedelta(hours=24))
        assert batch.lines.get().outcome == "unlocked"
        asked_now = batch.instructions.get()
        assert (asked_now.state, asked_now.answer, asked_now.done_at) == ("done", "REF-1", now)
    assert case.unlock_request.status == "unlocked"
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["batches"], facts["why"]) == ("unlocked", 2, "REF-1")
    act = Act.objects.get(kind="unlocked")
    assert (act.by, act.actor) == (None, "ServiceTitan")
    assert offenders() == []


def test_refused_ends_the_line_with_the_reason(agent):
    case = case_unlocking(agent)
    first, second = factories.hand_over()
    answer([first], "refused", "Exported meanwhile")
    answer([second], "refused", "Locked by an audit")
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {"refused"}
    assert [(kind, facts["why"]) for kind, facts in recorded(case.unlock_request)[-2:]] == [
        ("product_refused", "Exported meanwhile"),
        ("product_refused", "Locked by an audit"),
    ]
    assert case.unlock_request.status == "consented"
    assert offenders() == []


def test_one_call_may_answer_each_differently(agent):
    case = case_unlocking(agent, batches=factories.make_batches(n=4))
    done, refused_, unknown, accepted = factories.hand_over()
    by = Actor.product()
    answers = [
        *(
            factories.port.Answer(one.key, factories.port.State(state), "x")
            for one, state in (
                (done, "done"),
                (refused_, "refused"),
                (unknown, "unknown"),
                (accepted, "accepted"),
            )
        ),
        factories.port.Answer(uuid4(), factories.port.State.DONE, "not ours"),
    ]
    assert operations.record_answers(answers, by=by) == {
        done.key: "done",
        refused_.key: "refused",
        unknown.key: "unknown",
        accepted.key: "sent",
    }
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "bypassed", "unlocking", "unlocking"]


@pytest.mark.parametrize("again", ["done", "refused", "unknown", "accepted", "not_known"])
def test_what_is_ended_stays_whatever_is_said_again(agent, again):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    answer(asked, "done", "REF-1")
    before = snapshot()
    assert answer(asked, again, "REF-2") == {one.key: "done" for one in asked}
    assert difference(before, snapshot()) == []
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "unlocked"]


def test_what_nobody_knows_is_asked_about_later_and_later(agent):
    case_unlocking(agent)
    asked, waits = factories.hand_over(), []
    at = timezone.now()
    for _ in range(3):
        with time_machine.travel(at, tick=False):
            answer(asked, "unknown", "Timeout")
        instruction = Instruction.objects.first()
        assert (instruction.state, instruction.answer) == ("unknown", "Timeout")
        waits.append(instruction.next_try_at - at)
        at = instruction.next_try_at + timedelta(seconds=1)
        with time_machine.travel(at, tick=False):
            handing_over.lease()
    assert waits == [timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30)]


@pytest.mark.parametrize("said", ["not_known", "not_handed_over"])
def test_what_the_product_never_got_is_handed_over_again(agent, said):
    case = case_unlocking(agent)
    answer(factories.hand_over(), said, "Connection refused")
    assert list(Instruction.objects.values_list("state", "answer")) == [("queued", "Connection refused")] * 2
    with time_machine.travel(timezone.now() + timedelta(minutes=1), tick=False):
        answer(factories.hand_over(), "done")
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "unlocked"]


def test_what_the_product_was_not_reached_with_can_be_canceled(agent):
    case = case_unlocking(agent)
    answer(factories.hand_over(), "not_handed_over", "Connection refused")
    operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    assert states(case) == ["canceled", "canceled"]


def test_what_the_product_may_have_got_is_relocked_instead_of_canceled(agent):
    """Its word that it has not got it may be older than a call that was on its way."""
    case, taken_back = case_unlocking(agent), case_unlocking(agent)
    answer(factories.hand_over(), "not_known")
    act = operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"handed_over"}
    _inactive(case, agent)
    operations.withdraw_consent(taken_back.consent, why="Asked", by=acting(agent))
    assert [batch.status for batch in taken_back.refresh().batches] == ["relocking", "relocking"]
    with time_machine.travel(timezone.now() + timedelta(minutes=1), tick=False):
        assert factories.hand_over() == []  # the unlocks are canceled first
        factories.carry_out()
        assert offenders() == []
    why = "Account inactive before the product was asked again"
    assert Act.objects.get(kind="relock", why=why).actor == "Unlock Desk"
    for one in (case, taken_back):
        assert [batch.status for batch in one.refresh().batches] == ["bypassed", "bypassed"]
        assert set(one.unlock_request.lines.values_list("outcome", flat=True)) == {"relocked"}
    assert set(Instruction.objects.values_list("what", "state")) == {("unlock", "canceled"), ("lock", "done")}


def test_what_was_accepted_is_given_up_after_three_days_without_an_answer(agent):
    case = case_unlocking(agent)
    asked, at = factories.hand_over(), timezone.now()
    for days, state in ((2.9, "sent"), (3.1, "given_up")):
        with time_machine.travel(at + timedelta(days=days), tick=False):
            answer(asked, "accepted")
        assert states(case) == [state, state]


@pytest.mark.parametrize("what_follows", ["relocked", "exported"])
def test_what_was_given_up_ends_when_something_else_becomes_of_the_batch(agent, manager, what_follows):
    case = case_unlocking(agent)
    answer(factories.hand_over(), "stopped", "410 Gone")
    if what_follows == "relocked":
        operations.relock(case.rows, why="No answer", by=acting(manager))
    else:
        operations.mark_re_exported(case.rows, by=acting(agent))
    assert set(Instruction.objects.filter(what="unlock").values_list("state", "answer")) == {("canceled", "410 Gone")}
    assert offenders() == []


def test_what_was_accepted_is_asked_about_after_a_while(agent):
    case_unlocking(agent)
    asked = factories.hand_over()
    now = timezone.now()
    with time_machine.travel(now, tick=False):
        answer(asked, "accepted")
    assert set(Instruction.objects.values_list("state", "tries", "next_try_at")) == {
        ("sent", 1, now + timedelta(minutes=15))
    }


def test_is_given_up_after_three_days_and_taken_up_again_by_staff(agent):
    case = case_unlocking(agent)
    asked, at = factories.hand_over(), timezone.now()
    begun = at
    while Instruction.objects.filter(state="given_up").count() < 2:
        with time_machine.travel(at, tick=False):
            answer(asked, "unknown", "Timeout")
            at = Instruction.objects.first().next_try_at + timedelta(seconds=1)
        with time_machine.travel(at, tick=False):
            handing_over.lease()
    assert timedelta(days=2) < at - begun < timedelta(days=4)
    assert [batch.status for batch in case.refresh().batches] == ["unlocking", "unlocking"]
    assert offenders() == []
    assert operations.try_again(Instruction.objects.all(), by=acting(agent)) == 2
    assert operations.try_again(Instruction.objects.all(), by=acting(agent)) == 0
    assert [one.state for one in handing_over.lease()] == ["unknown", "unknown"]
    answer(asked, "done")
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "unlocked"]


def test_a_product_that_stops_us_is_given_up_at_once(agent):
    case = case_unlocking(agent)
    answer(factories.hand_over(), "stopped", "410 Gone")
    assert states(case) == ["given_up", "given_up"]


def test_what_was_given_up_can_be_relocked(agent, manager):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    act = operations.relock(case.rows, why="No answer", by=acting(manager))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"unlocking"}
    answer(asked, "stopped", "410 Gone")
    operations.relock(case.rows, why="No answer", by=acting(manager))
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {"relocked"}


@pytest.mark.parametrize("said", ["done", "refused"])
def test_an_answer_that_comes_for_an_earlier_request_changes_no_later_one(agent, manager, said):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    answer(asked, "stopped", "410 Gone")
    factories.relock(case.rows, why="No answer", by=acting(manager))
    later = case_unlocking(agent, batches=case.batches)
    assert answer(asked, said, "At last") == {instruction.key: "canceled" for instruction in asked}
    assert [batch.status for batch in later.refresh().batches] == ["unlocking", "unlocking"]
    factories.carry_out()
    assert [batch.status for batch in later.refresh().batches] == ["unlocked", "unlocked"]
    assert offenders() == []


def test_a_late_answer_for_an_earlier_request_moves_no_window_of_a_later_one(agent, manager):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    answer(asked, "stopped", "410 Gone")
    factories.relock(case.rows, why="No answer", by=acting(manager))
    later = case_consented(agent, batches=case.batches)
    operations.unlock(later.rows, hours=1, by=acting(agent))
    factories.carry_out()
    ends = later.refresh().batch.unlocked_until + timedelta(hours=71)
    with time_machine.travel(timezone.now() + timedelta(minutes=30)):
        answer(asked, "done", "At last")
        operations.extend_window(later.rows, hours=72, why="Needs the weekend", by=acting(agent))
    assert [batch.unlocked_until for batch in later.refresh().batches] == [ends, ends]
    assert offenders() == []


def test_of_what_was_given_up_twice_the_newest_is_taken_up_again(agent, manager):
    case = case_unlocked(agent)
    by = acting(manager)
    for _ in range(2):
        operations.relock(case.rows, why="Not used", by=by)
        answer(factories.hand_over(), "stopped", "410 Gone")
    locks = Instruction.objects.filter(what="lock")
    assert operations.try_again(locks, by=by) == 2
    assert [list(batch.instructions.order_by("pk").values_list("state", flat=True)) for batch in case.batches] == [
        ["done", "canceled", "unknown"],
        ["done", "canceled", "unknown"],
    ]
    assert operations.try_again(locks, by=by) == 0


def test_a_relock_that_is_refused_can_be_asked_for_again(agent, manager):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Not used", by=acting(manager))
    act = operations.relock(case.rows, why="Not used", by=acting(manager))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"relocking"}
    factories.carry_out(refuse="Somebody edits it")
    told = recorded(case.unlock_request, kind="relock_refused")
    assert [(facts["batches"], facts["why"]) for _, facts in told] == [(2, "Somebody edits it")]
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    assert offenders() == []
    operations.relock(case.rows, why="Not used", by=acting(manager))
    factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]
    assert kinds(case.unlock_request)[-5:] == [
        "relock_instructed",
        "relock_refused",
        "relock_instructed",
        "relocked",
        "closed",
    ]


# Canceling


def test_cancels_what_was_not_handed_over(agent):
    case = case_unlocking(agent)
    act = operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {""}
    assert states(case) == ["canceled", "canceled"]
    for batch in case.refresh().batches:
        assert (batch.status, batch.grant, batch.unlocked_by) == ("bypassed", None, None)
        assert (batch.lines.get().outcome, batch.instructions.get().answer) == ("waiting", "Wrong month")
    assert factories.hand_over() == []
    assert offenders() == []
    factories.unlock(case.rows, by=acting(agent))
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "unlocked"]


@pytest.mark.parametrize(
    ("make", "code"),
    [(case_consented, Refusal.NOT_UNLOCKING), (case_unlocked, Refusal.NOT_UNLOCKING), (case_unlocking, "handed_over")],
)
def test_cancels_nothing_else(agent, make, code):
    case = make(agent)
    factories.hand_over()
    before = snapshot()
    act = operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {str(code)}
    assert difference(before, snapshot(), may_grow=True) == []


def test_canceling_needs_a_reason_and_the_right(agent):
    case = case_unlocking(agent)
    with refused(Refusal.NO_REASON):
        operations.cancel_unlock(case.rows, why=" ", by=acting(agent))
    only_for(["Agent", "Manager"], lambda by: operations.cancel_unlock(case.rows, why="Wrong month", by=by))


# The email with the result


def result_of(case):
    return Outgoing.objects.get(email="unlocked", unlock_request=case.unlock_request)


def test_the_customer_is_told_once_all_is_answered(agent):
    case = case_unlocking(agent)
    assert result_of(case).address == case.admin.email
    first, second = factories.hand_over()
    answer([first], "done")
    worker.send_due()
    assert result_of(case).state == "queued"
    answer([second], "refused", "Exported meanwhile")
    mail.outbox.clear()
    worker.send_due()
    assert result_of(case).state == "sent"
    (email,) = mail.outbox
    assert (email.to, "Exported meanwhile" in email.body) == ([case.admin.email], True)
    assert kinds(case.unlock_request)[-1] == "email_sent"


def test_or_after_a_quarter_of_an_hour_if_anything_is(agent):
    case = case_unlocking(agent)
    first, _ = factories.hand_over()
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=16), tick=False):
        worker.send_due()
        assert (result_of(case).state, result_of(case).next_try_at) == ("queued", now + timedelta(minutes=31))
    answer([first], "done")
    with time_machine.travel(now + timedelta(minutes=32), tick=False):
        worker.send_due()
    assert result_of(case).state == "sent"


def test_of_what_was_canceled_nobody_is_told(agent):
    case = case_unlocking(agent)
    operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=16), tick=False):
        worker.send_due()
    assert result_of(case).state == "canceled"


def test_one_email_a_case_waits_however_often_something_is_unlocked(agent):
    case = case_consented(agent)
    for batch in case.batches:
        operations.unlock(Batch.objects.filter(pk=batch.pk), by=acting(agent))
    assert Outgoing.objects.filter(email="unlocked").count() == 1


def test_a_new_link_is_refused_while_the_product_is_asked(agent):
    case = case_unlocking(agent)
    with refused(Refusal.ALREADY_RECORDED):
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    other = agree(case_awaiting(agent))
    assert other.unlock_request.status == "consented"
