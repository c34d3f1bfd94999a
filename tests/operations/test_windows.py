"""The window of an unlock: chosen, counted from the product's answer, extended once, and ended by the worker."""

import uuid
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.utils import timezone

from tests import factories
from tests.factories import acting, case_consented, case_unlocked, case_unlocking
from tests.operations import kinds, only_for, recorded, refused
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import invariants
from unlocks.models import Act, Batch, Instruction
from unlocks.outbox import worker
from unlocks.rules import Refusal, windows

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def offenders():
    return [wrong for wrong, found in invariants.offenders() if found.exists()]


def verdicts(act):
    return sorted(act.verdicts.values_list("refusal", flat=True))


def after(case, hours):
    """Let time pass, to so many hours after the product's answer."""
    answered = case.batch.instructions.get(what="unlock").done_at
    return time_machine.travel(answered + hours * HOUR, tick=False)


def extend(case, hours, *, by, why="The accountant is ill", **more):
    return operations.extend_window(case.rows, hours=hours, why=why, by=acting(by), **more)


# Chosen


def test_counts_from_the_answer_of_each_for_as_long_as_was_chosen(agent):
    """One call of the product may answer several acts."""
    short, preset = case_consented(agent), case_consented(agent)
    act = operations.unlock(short.rows, hours=4, by=acting(agent))
    operations.unlock(preset.rows, by=acting(agent))
    now = timezone.now() + HOUR
    with time_machine.travel(now, tick=False):
        factories.carry_out()
    assert {batch.unlocked_until for batch in short.refresh().batches} == {now + 4 * HOUR}
    assert {batch.unlocked_until for batch in preset.refresh().batches} == {now + 24 * HOUR}
    assert (act.hours, recorded(act=act.pk)[0][1]["hours"]) == (4, 4)
    assert offenders() == []


@pytest.mark.parametrize("hours", [-1, 0, 73, 10**6])
def test_is_at_most_what_the_settings_allow(agent, hours):
    case, unlocked = case_consented(agent), case_unlocked(agent)
    says = "Nothing was done: batches can be unlocked for 1 hour at least, and 3 days at most."
    with refused(Refusal.WINDOW_UNFIT, says=says):
        operations.unlock(case.rows, hours=hours, by=acting(agent))
    with refused(Refusal.WINDOW_UNFIT, says=says):
        extend(unlocked, hours, by=agent)


def test_offers_what_the_settings_allow(settings):
    assert windows() == [1, 4, 24, 72]
    settings.UNLOCK_WINDOW, settings.UNLOCK_WINDOW_MAX = 2 * HOUR, 36 * HOUR
    assert windows() == [1, 2, 4, 24, 36]


# Ended


def test_what_is_due_is_relocked_in_one_act_by_the_desk(agent):
    due, also = case_unlocked(agent, batches=factories.make_batches(n=3)), case_unlocked(agent)
    later = case_consented(agent)
    factories.unlock(later.rows, hours=72, by=acting(agent))
    with after(also, 25):
        assert operations.relock_due(by=Actor.desk()) == 5
        assert operations.relock_due(by=Actor.desk()) == 0
        factories.hand_over()
    act = Act.objects.get(kind="relock")
    assert (act.by, act.actor, act.why, verdicts(act)) == (None, "Unlock Desk", "The window ended", [""] * 5)
    for case, status in ((due, "relocking"), (also, "relocking"), (later, "unlocked")):
        assert {batch.status for batch in case.refresh().batches} == {status}
    entries = due.unlock_request.entries.filter(act=act.pk)
    assert [(entry.kind, entry.actor, entry.user) for entry in entries] == [("relock_instructed", "Unlock Desk", None)]
    assert offenders() == []
    factories.answer(Instruction.objects.filter(what="lock", state="sent"), "done")
    assert {batch.status for batch in due.refresh().batches} == {"bypassed"}
    assert (due.unlock_request.status, due.unlock_request.resolution) == ("closed", "relocked_unused")


def test_is_not_ended_before_its_time(agent):
    case = case_unlocked(agent)
    with after(case, 23.99):
        assert worker.end_windows() == 0
    with after(case, 24):
        assert worker.end_windows() == 2


def test_what_was_exported_or_relocked_at_its_end_is_left_alone(agent):
    case = case_unlocked(agent, batches=factories.make_batches(n=3))
    exported, relocked, left = (Batch.objects.filter(pk=batch.pk) for batch in case.batches)
    with after(case, 25):
        operations.mark_re_exported(exported, by=acting(agent))
        operations.relock(relocked, why="Not used", by=acting(agent))
        assert worker.end_windows() == 1
        # Whoever was at it when the window ended is told the same.
        assert verdicts(operations.relock(left, why="Not used", by=acting(agent))) == [Refusal.RELOCKING]
        assert verdicts(extend(case, 72, by=agent)) == [Refusal.NOT_UNLOCKED] * 3
        assert verdicts(operations.mark_re_exported(left, by=acting(agent))) == [""]
        factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["exported", "bypassed", "exported"]
    assert case.unlock_request.resolution == "re_exported"
    assert offenders() == []


# Extended


def test_is_extended_once_for_a_reason(agent, second_agent):
    case, key = case_unlocked(agent), uuid.uuid4()
    ends = case.batch.unlocked_until
    act = extend(case, 72, by=second_agent, key=key)
    assert (verdicts(act), act.hours, act.why, act.actor) == (["", ""], 72, "The accountant is ill", "second-agent")
    for batch in case.refresh().batches:
        assert (batch.status, batch.unlocked_until, batch.extension) == ("unlocked", ends + 48 * HOUR, act)
        assert (batch.lines.get().outcome, batch.history.first().extension) == ("unlocked", act)
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["batches"], facts["hours"], facts["why"]) == ("window_extended", 2, 72, act.why)
    assert offenders() == []
    assert extend(case, 72, by=second_agent, key=key).repeated
    assert verdicts(extend(case, 72, by=agent)) == [Refusal.EXTENDED] * 2
    with after(case, 71):
        assert worker.end_windows() == 0
    with after(case, 73):
        assert worker.end_windows() == 2
        factories.carry_out()
    assert [batch.extension for batch in case.refresh().batches] == [None, None]
    assert offenders() == []


@pytest.mark.parametrize(
    ("hours", "at", "refusal"),
    [(24, 1, Refusal.NOT_LATER), (4, 1, Refusal.NOT_LATER), (72, 24, Refusal.WINDOW_OVER)],
)
def test_is_extended_only_to_later_and_before_it_ends(agent, hours, at, refusal):
    case = case_unlocked(agent)
    before = case.batch.unlocked_until
    with after(case, at):
        assert verdicts(extend(case, hours, by=agent)) == [refusal] * 2
    assert case.refresh().batch.unlocked_until == before


def test_is_extended_only_while_the_consent_holds(agent, settings):
    settings.CONSENT_LIFETIME = 20 * HOUR
    case, withdrawn = case_unlocked(agent), case_unlocked(agent)
    with after(case, 21):
        assert verdicts(extend(case, 72, by=agent)) == [Refusal.CONSENT_RAN_OUT] * 2
    operations.withdraw_consent(withdrawn.consent, why="Asked", by=acting(agent))
    assert verdicts(extend(withdrawn, 72, by=agent)) == [Refusal.NOT_UNLOCKED] * 2


def test_needs_a_reason_to_be_extended(agent):
    case = case_unlocked(agent)
    with refused(Refusal.NO_REASON):
        extend(case, 72, by=agent, why=" ")


def test_only_those_who_unlock_extend(agent):
    case = case_unlocked(agent)
    only_for(["Agent", "Manager"], lambda by: operations.extend_window(case.rows, hours=72, why="Ill", by=by))


# A product that does not lock


def test_managers_hear_of_a_relock_that_failed_once_a_case(agent, manager, mailoutbox):
    manager.email = "manager@desk.example"
    manager.save()
    case, other = case_unlocked(agent), case_unlocked(agent)
    factories.deliver()
    with after(other, 25):
        assert worker.end_windows() == 4
        factories.carry_out(refuse="Somebody edits it")
        del mail.outbox[:]
        factories.deliver()
    numbers = [batch.number for batch in case.batches]
    assert [(email.to, email.subject) for email in mailoutbox] == [
        (["manager@desk.example"], f"{one.unlock_request}: 2 batches were not relocked") for one in (case, other)
    ]
    body = mailoutbox[0].body
    assert [line for line in body.splitlines() if line.startswith("- ")] == [
        f"- {number}: refused, Somebody edits it" for number in numbers
    ]
    assert f"/unlocks/unlockrequest/{case.unlock_request.pk}/change/" in body
    assert "relock_refused" in kinds(case.unlock_request)


def test_managers_hear_nothing_of_what_was_settled_meanwhile(agent, manager, mailoutbox):
    manager.email = "manager@desk.example"
    manager.save()
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Not used", by=acting(agent))
    factories.carry_out(refuse="Exported")
    operations.mark_re_exported(case.rows, by=acting(agent))
    factories.deliver()
    assert [email for email in mailoutbox if email.to == [manager.email]] == []
    assert case.refresh().unlock_request.resolution == "re_exported"


# The end of a case


def test_a_case_with_what_waits_stays_open(agent):
    case = case_consented(agent)
    first = Batch.objects.filter(pk=case.batch.pk)
    factories.unlock(first, by=acting(agent))
    factories.relock(first, why="Not used", by=acting(agent))
    assert case.refresh().unlock_request.status == "unlocked"
    operations.unlock(case.rows, by=acting(agent))
    factories.carry_out(refuse="Locked by an audit")
    assert case.refresh().unlock_request.resolution == "relocked_unused"


def test_what_the_product_refused_keeps_no_case_open(agent):
    case = case_unlocking(agent)
    first, second = factories.hand_over()
    factories.answer([first], "refused", "Locked by an audit")
    factories.answer([second], "done")
    operations.mark_re_exported(case.rows, by=acting(agent))
    assert case.refresh().unlock_request.resolution == "re_exported"
    assert recorded(case.unlock_request)[-1] == (
        "closed",
        {"resolution": "re_exported", "why": "The last of its batches is locked or exported"},
    )
