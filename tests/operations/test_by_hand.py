"""Carrying out by hand what the desk lists: taken by one person, who says what became of it."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import acting, case_recorded_by_phone, case_unlocked, case_unlocking, make_account, make_batches
from tests.operations import kinds, only_for, recorded, refused
from tests.test_concurrency import at_once
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.ledger import chain, invariants
from unlocks.models import Account, Act, Instruction, Outgoing
from unlocks.operations import handing_over
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def every():
    return Instruction.objects.order_by("pk")


def states():
    """Return what, state, who started it and what was answered of every instruction, in their order."""
    rows = every().values_list("what", "state", "started_by__username", "answer")
    return [(what, state, who or "", answer) for what, state, who, answer in rows]


def start(by, instructions=None):
    return operations.start_instructions(every() if instructions is None else instructions, by=acting(by))


def answer(by, instructions=None, *, done=True, text="T-1"):
    return operations.answer_by_hand(
        every() if instructions is None else instructions, done=done, text=text, by=acting(by)
    )


def holds():
    assert list(chain.faults()) == []
    assert [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()] == []


# Starting


def test_starting_takes_what_waits(agent, second_agent):
    case = case_unlocking(agent)
    with time_machine.travel(timezone.now(), tick=False):
        now = timezone.now()
        over = start(second_agent)
    assert (over.sent, over.canceled, over.refused) == (list(every()), [], [])
    assert states() == [("unlock", "sent", "second-agent", "")] * 2
    assert set(every().values_list("sent_at", "done_at", "tries")) == {(now, None, 0)}
    assert {batch.status for batch in case.refresh().batches} == {"unlocking"}
    holds()


def test_nobody_else_is_handed_what_is_started(agent, second_agent):
    case_unlocking(agent)
    start(agent)
    before = snapshot()
    over = start(second_agent)
    assert (over.sent, over.canceled, over.refused) == ([], [], [])
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert handing_over.lease() == []
    assert difference(before, snapshot()) == []


def test_starting_again_does_nothing(agent):
    case_unlocking(agent)
    start(agent)
    before = snapshot()
    over = start(agent)
    assert (over.sent, over.canceled, over.refused, difference(before, snapshot())) == ([], [], [], [])


VERBS = {
    "start": lambda by: operations.start_instructions(every(), by=by),
    "answer": lambda by: operations.answer_by_hand(every(), done=True, text="T-1", by=by),
    "put_back": lambda by: operations.put_back(every(), by=by),
    "try_again": lambda by: operations.try_again(every(), by=by),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_only_for_those_who_carry_out(agent, verb):
    case_unlocking(agent)
    only_for(["Agent", "Manager"], verb)


def test_only_managers_put_back_for_others(agent):
    case_unlocking(agent)
    start(agent)
    only_for(["Manager"], lambda by: operations.put_back_for_others(every(), by=by))
    assert states() == [("unlock", "queued", "", "")] * 2


def test_five_hundred_at_a_time_the_oldest_first(agent, monkeypatch):
    monkeypatch.setattr(handing_over, "AT_ONCE", 3)
    case_unlocking(agent, batches=make_batches(n=5, items=0))
    first = list(every())[:3]
    assert start(agent, every().order_by("-pk")).sent == first
    assert start(agent).sent == list(every())[3:]


def test_only_what_was_picked_is_started(agent):
    case_unlocking(agent)
    picked = every().filter(pk=every().last().pk)
    assert start(agent, picked).sent == list(picked)
    assert [state for _, state, _, _ in states()] == ["queued", "sent"]


# What may not be done any more, and who may not do it


def _expired(case):
    return timedelta(hours=80)


def _changed(case):
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")


def _closed_period(case):
    history.update(case.rows, by=Actor.desk(), period_closed=True)


def _inactive(case):
    history.update(Account.objects.filter(pk=case.account.pk), by=Actor.desk(), active=False)


CANCELED = {
    "Consent expired": _expired,
    "Changed": _changed,
    "Period closed": _closed_period,
    "Account inactive": _inactive,
}


@pytest.mark.parametrize(("reason", "happens"), CANCELED.items(), ids=CANCELED)
def test_starting_cancels_what_the_consent_does_not_hold_for_any_more(agent, second_agent, reason, happens):
    case = case_unlocking(agent, batches=make_batches(n=1))
    later = happens(case) or timedelta()
    with time_machine.travel(timezone.now() + later):
        over = start(second_agent)
    assert (over.sent, over.canceled, over.refused) == ([], list(every()), [])
    why = f"{reason} before the product was asked"
    assert states() == [("unlock", "canceled", "", why)]
    case.refresh()
    line = case.batch.lines.get()
    assert (case.batch.status, case.batch.grant, case.batch.unlocked_by, line.outcome) == (
        "bypassed",
        None,
        None,
        "waiting",
    )
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["why"], facts["batches"]) == ("unlock_canceled", why, 1)
    assert case.unlock_request.entries.latest("sequence").user == second_agent
    assert (case.batch.history.first().history_user, case.batch.history.first().history_change_reason) == (
        second_agent,
        why,
    )
    holds()


def test_starting_cancels_some_and_takes_the_rest(agent):
    expired, fine = case_unlocking(agent), case_unlocking(agent)
    _closed_period(expired)
    over = start(agent)
    assert [one.batch for one in over.canceled] == expired.batches
    assert [one.batch for one in over.sent] == fine.batches
    holds()


def _recorded_it(agent, second_agent):
    case = case_recorded_by_phone(agent)
    operations.unlock(case.rows, by=acting(second_agent))


def _typed_a_pin(agent, second_agent):
    case = factories.case_awaiting(second_agent)
    operations.verify_pin(case.unlock_request, pin=factories.PIN, by=acting(agent))
    factories.agree(case)
    operations.unlock(case.rows, by=acting(second_agent))


def _saw_the_link(agent, second_agent):
    case = factories.case_awaiting(agent)
    factories.agree(case)
    operations.unlock(case.rows, by=acting(second_agent))


def _entered_the_address(agent, second_agent):
    manager = factories.make_user("boss", group="Manager")
    agent.groups.set(manager.groups.all())
    account = make_account()
    contact = factories.enter_contact(account=account, by=agent)
    factories.confirm(contact, second_agent)
    contact.refresh_from_db()
    case_unlocking(second_agent, account=account, requester=contact)


OF_OTHERS = {
    Refusal.OWN_RECORDING: _recorded_it,
    Refusal.OWN_CUSTOMER: _typed_a_pin,
    Refusal.OWN_CUSTOMERS_ADDRESS: _entered_the_address,
}


@pytest.mark.parametrize(("code", "make"), OF_OTHERS.items(), ids=[str(code) for code in OF_OTHERS])
def test_whoever_obtained_the_consent_does_not_carry_out_what_it_allows(agent, second_agent, code, make):
    make(agent, second_agent)
    agent = type(agent).objects.get(pk=agent.pk)
    before = snapshot()
    over = start(agent)
    assert (over.sent, over.canceled, over.refused) == ([], [], [(code, one) for one in every()])
    assert difference(before, snapshot()) == []
    assert start(second_agent).sent == list(every())


def test_whoever_saw_the_link_does_not_carry_it_out(agent, second_agent, settings):
    settings.SHOW_CONSENT_LINK = True
    _saw_the_link(agent, second_agent)
    assert [code for code, _ in start(agent).refused] == [Refusal.OWN_CUSTOMER] * 2


def test_anyone_locks_again(agent, second_agent, manager):
    """Locking needs no consent, so nobody is a second person for it."""
    case = case_recorded_by_phone(agent)
    factories.unlock(case.rows, by=acting(second_agent))
    operations.relock(case.rows, why="Not used", by=acting(manager))
    over = start(agent, every().filter(what="lock"))
    assert (len(over.sent), over.canceled, over.refused) == (2, [], [])


# Saying what became of it


def test_done_unlocks_with_the_reference(agent, second_agent):
    case = case_unlocking(agent)
    start(second_agent)
    with time_machine.travel(timezone.now(), tick=False):
        until = timezone.now() + timedelta(hours=24)
        assert answer(second_agent, text=" T-4711 ") == 2
    assert states() == [("unlock", "done", "second-agent", "T-4711")] * 2
    for batch in case.refresh().batches:
        assert (batch.status, batch.unlocked_by, batch.unlocked_until) == ("unlocked", agent, until)
        assert batch.history.first().history_user == second_agent
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["why"], facts["batches"]) == ("unlocked", "T-4711", 2)
    assert case.unlock_request.status == "unlocked"
    holds()


def test_not_done_ends_the_line_with_the_reason(agent, second_agent):
    case = case_unlocking(agent)
    start(second_agent)
    assert answer(second_agent, done=False, text="Exported this morning") == 2
    assert states() == [("unlock", "refused", "second-agent", "Exported this morning")] * 2
    for batch in case.refresh().batches:
        assert (batch.status, batch.grant, batch.lines.get().outcome) == ("bypassed", None, "refused")
    assert recorded(case.unlock_request)[-1][0] == "product_refused"
    assert Act.objects.get(kind="refused").why == "Exported this morning"
    assert Outgoing.objects.filter(email="unlocked", state="queued", next_try_at__lte=timezone.now()).count() == 1
    holds()


def test_done_locks_again(agent, manager):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Not used", by=acting(manager))
    locking = every().filter(what="lock")
    start(agent, locking)
    assert answer(agent, locking) == 2
    assert {batch.status for batch in case.refresh().batches} == {"bypassed"}
    assert kinds(case.unlock_request)[-2:] == ["relocked", "closed"]
    holds()


@pytest.mark.parametrize("text", ["", "  ", "\n"])
@pytest.mark.parametrize(("done", "code"), [(True, Refusal.NO_REFERENCE), (False, Refusal.NO_REASON)])
def test_an_answer_says_with_which_reference_or_why_not(agent, done, code, text):
    case_unlocking(agent)
    start(agent)
    with refused(code):
        answer(agent, done=done, text=text)


def test_only_what_is_ones_own_is_answered_and_put_back(agent, second_agent):
    case_unlocking(agent)
    start(agent)
    before = snapshot()
    assert (answer(second_agent), operations.put_back(every(), by=acting(second_agent))) == (0, 0)
    assert difference(before, snapshot()) == []


def test_what_is_not_started_is_not_answered(agent):
    case_unlocking(agent)
    before = snapshot()
    assert (answer(agent), operations.put_back(every(), by=acting(agent))) == (0, 0)
    assert operations.put_back_for_others(every(), by=acting(factories.make_user("boss", group="Manager"))) == 0
    assert difference(before, snapshot(), may_grow=True) == ["auth_user"]


def test_a_second_answer_changes_nothing(agent):
    case_unlocking(agent)
    start(agent)
    answer(agent)
    before = snapshot()
    assert (answer(agent), answer(agent, done=False, text="No"), operations.put_back(every(), by=acting(agent))) == (
        0,
        0,
        0,
    )
    assert difference(before, snapshot()) == []


def test_a_relocking_batch_is_locked_whatever_is_said_of_its_unlock(agent, second_agent):
    """The customer withdrew while someone was at it: its lock waits for what they say, and is the end of it."""
    for done in (True, False):
        case = case_unlocking(agent, batches=make_batches(n=1))
        start(agent)
        operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
        of_case = every().filter(batch=case.batch)
        assert [one.state for one in of_case] == ["sent", "queued"]
        assert start(second_agent, of_case).sent == []
        answer(agent, of_case, done=done)
        assert case.refresh().batch.status == "relocking"
        assert [one.what for one in start(second_agent, of_case).sent] == ["lock"]
        answer(second_agent, of_case)
        assert (case.refresh().batch.status, case.unlock_request.status) == ("bypassed", "closed")
    holds()


def test_a_withdrawn_unlock_that_is_put_back_is_not_started_again(agent):
    case = case_unlocking(agent, batches=make_batches(n=1))
    start(agent)
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    operations.put_back(every(), by=acting(agent))
    assert [one.what for one in start(agent).canceled] == ["unlock"]
    assert [one.what for one in start(agent).sent] == ["lock"]
    holds()


# Putting back


def test_what_is_put_back_waits_again(agent, second_agent):
    case_unlocking(agent)
    start(agent)
    assert operations.put_back(every(), by=acting(agent)) == 2
    assert states() == [("unlock", "queued", "", "")] * 2
    assert set(every().values_list("sent_at", flat=True)) == {None}
    assert operations.put_back(every(), by=acting(agent)) == 0
    assert len(start(second_agent).sent) == 2


def test_a_manager_puts_back_what_a_colleague_left(agent, manager):
    case_unlocking(agent)
    start(agent)
    assert operations.put_back_for_others(every(), by=acting(manager)) == 2
    assert states() == [("unlock", "queued", "", "")] * 2
    assert answer(agent) == 0
    assert operations.put_back_for_others(every(), by=acting(manager)) == 0


@pytest.mark.parametrize(("product", "put_back"), [("by_hand", 2), ("webhook", 0)])
@pytest.mark.parametrize("state", ["accepted", "unknown"])
def test_what_the_product_got_is_put_back_once_staff_do_it_by_hand(agent, manager, settings, product, put_back, state):
    case_unlocking(agent)
    factories.answer(factories.hand_over(), state)
    settings.PRODUCT = product
    assert operations.put_back_for_others(every(), by=acting(manager)) == put_back


# Asking again


@pytest.fixture
def given_up(agent):
    case = case_unlocking(agent)
    factories.answer(factories.hand_over(), "stopped", "410 Gone")
    assert states() == [("unlock", "given_up", "", "410 Gone")] * 2
    return case


def test_what_was_given_up_is_asked_about_again(agent, given_up):
    every().filter(state="given_up").update(next_try_at=timezone.now() + timedelta(days=1))
    assert operations.try_again(every(), by=acting(agent)) == 2
    assert states() == [("unlock", "unknown", "", "410 Gone")] * 2
    assert handing_over.lease() == list(every())
    assert operations.try_again(every(), by=acting(agent)) == 0
    holds()


def test_what_has_ended_otherwise_is_not_asked_about_again(agent, given_up):
    operations.mark_re_exported(given_up.rows, by=acting(agent))
    before = snapshot()
    assert operations.try_again(every(), by=acting(agent)) == 0
    assert difference(before, snapshot()) == []


def test_what_waits_or_has_ended_is_not_asked_about(agent):
    case_unlocked(agent)
    case_unlocking(agent)
    assert operations.try_again(every(), by=acting(agent)) == 0


# Two people at once, on real connections


@pytest.mark.django_db(transaction=True)
def test_two_start_the_same_at_once(agent, second_agent):
    case_unlocking(agent, batches=make_batches(n=10, items=0))
    came = at_once(*2 * [lambda: start(agent)], *2 * [lambda: start(second_agent)])
    assert sorted(one.pk for over in came for one in over.sent) == [one.pk for one in every()]
    assert {state for _, state, _, _ in states()} == {"sent"}
    holds()


@pytest.mark.django_db(transaction=True)
def test_the_customer_withdraws_while_someone_starts(agent, second_agent):
    case = case_unlocking(agent, batches=make_batches(n=10, items=0))
    came = at_once(
        lambda: start(second_agent),
        lambda: operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin)),
    )
    assert [one for one in came if isinstance(one, Exception)] == []
    outcomes = {
        (batch.status, *every().filter(batch=batch).values_list("state", flat=True)) for batch in case.refresh().batches
    }
    assert outcomes in ({("relocking", "sent", "queued")}, {("bypassed", "canceled")})
    holds()


def test_what_someone_left_is_not_forgotten_when_the_next_puts_it_back(agent, second_agent, manager):
    """The one who left may have done it. When the next one started is that one's own time."""
    case = case_unlocking(agent, batches=make_batches(n=1))
    every = Instruction.objects.all()
    operations.start_instructions(every, by=acting(second_agent))
    operations.put_back_for_others(every, by=acting(manager))
    with time_machine.travel(timezone.now() + timedelta(hours=1), tick=False):
        operations.start_instructions(every, by=acting(agent))
        assert every.get().sent_at == timezone.now()
        operations.put_back(every, by=acting(agent))
    operations.withdraw_consent(case.consent, why="Asked", by=acting(manager))
    assert [batch.status for batch in case.refresh().batches] == ["relocking"]


@pytest.mark.django_db(transaction=True)
def test_one_answers_what_a_manager_puts_back_at_once(agent, manager):
    for _ in range(3):
        case_unlocking(agent, batches=make_batches(n=3, items=0))
        start(agent)
        came = at_once(
            lambda: answer(agent),
            lambda: operations.put_back_for_others(every(), by=acting(manager)),
            lambda: answer(agent, done=False, text="No"),
            lambda: operations.put_back(every(), by=acting(agent)),
        )
        assert [one for one in came if isinstance(one, Exception)] == []
        # Whatever came first: what is answered stays so, and nobody holds what was put back.
        assert {(state, who) for _, state, who, _ in states()} <= {
            ("done", "agent"),
            ("done", ""),
            ("refused", "agent"),
            ("refused", ""),
            ("queued", ""),
        }
    holds()
