"""Verbs in any order by anybody: a plain model says which batches may be unlocked, and the desk must agree with it.

The product is part of the model: what it did of what it was asked, whether or not the desk has heard of that.
"""

import os
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import pytest
import time_machine
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests import factories
from tests.factories import PIN, acting, customer, make_account, make_batches, make_user
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin import queue
from unlocks.database import guards
from unlocks.ledger import chain, invariants
from unlocks.models import Account, Batch, Instruction, RequestedBatch, UnlockRequest
from unlocks.product import port
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text, text_to_read_out

pytestmark = pytest.mark.django_db
LONG_RUN = os.environ.get("HYPOTHESIS_PROFILE") == "long"

BATCHES = 4
DAYS = 30
LONG = timedelta(days=DAYS)
SECTION_OF = {
    "": "",
    "new": "new",
    "sent": "waiting",
    "reading": "waiting",
    "product": "under_way",
    "unlocked": "unlocked",
    "ready": "ready",
    "to_close": "to_close",
}
places = st.sets(st.integers(0, BATCHES - 1), min_size=1)
place = st.integers(0, BATCHES - 1)
who = st.integers(0, 1)
on_the_phone = st.integers(2, 3)
anybody = st.integers(0, 3)
GRANTED = ("unlocking", "unlocked", "relocking")
PENDING = ("queued", "sent", "unknown")


class Case:
    """What the model knows of a request: where it stands, and the content that each batch was consented to with."""

    def __init__(self, unlock_request, places):
        self.unlock_request, self.status, self.waiting = unlock_request, "open", set(places)
        self.granted, self.covered, self.consent = set(), {}, None
        self.typed = set()  # who typed a PIN for it: recorded the consent by phone, or tried to
        self.used = False  # whether any batch of it was unlocked, and is relocked or exported
        # Hours of the day: when its link was sent, if it was opened, when it was agreed to, since when it is under way.
        self.sent, self.opened, self.agreed, self.under_way = 0, False, 0, None


class Asked:
    """What the model knows of an instruction; `done` once the product did it, whatever it said.

    The product may have got it once it is `sent`, and wait before it does it.
    """

    def __init__(self, what, case, hours=0):
        self.what, self.case, self.state, self.done, self.sent = what, case, "queued", False, False
        self.hours = hours


class Desk(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.around = transaction.atomic()
        self.around._from_testcase = True
        self.around.__enter__()
        self.clock = time_machine.travel(timezone.now())
        self.time, self.hour, self.began = self.clock.start(), 0, timezone.now()
        # The first two send links, the others hear PINs on the phone: nobody may do both.
        self.people = [acting(make_user(f"agent-{n}", group="Agent")) for n in range(4)]
        self.manager = acting(make_user("manager", group="Manager"))
        self.account = make_account()
        self.admin = self.account.contacts.get()
        self.batches = make_batches(account=self.account, n=BATCHES)
        self.status = ["bypassed"] * BATCHES
        self.content = [0] * BATCHES
        self.closed_period = [False] * BATCHES
        self.differs = [False] * BATCHES
        self.active, self.cases = True, []
        self.asked = [[] for _ in range(BATCHES)]
        self.unlocked_at, self.ends, self.extended = [0] * BATCHES, [0] * BATCHES, [False] * BATCHES
        self.in_the_product = ["locked"] * BATCHES
        self.open({0, 1}, 0)
        self.agree(0, changed=False)
        self.open({2}, 1)

    def teardown(self):
        if hasattr(self, "around"):
            try:
                self.promise_holds()
            finally:
                self.clock.stop()
                transaction.set_rollback(True)
                self.around.__exit__(None, None, None)

    def rows(self, places):
        return Batch.objects.filter(pk__in=[self.batches[n].pk for n in places])

    def done(self, act):
        numbers = set(act.verdicts.filter(refusal="").values_list("batch", flat=True))
        return {n for n, batch in enumerate(self.batches) if batch.pk in numbers}

    def case_of(self, n):
        return next((case for case in self.cases if n in case.waiting | case.granted), None)

    def pick(self, n, *statuses):
        cases = [case for case in self.cases if case.status in statuses]
        return cases[n % len(cases)] if cases else None

    def pick_to_ask(self, n, *statuses):
        """Pick a case whose customer may be asked: the product has not been."""
        cases = [case for case in self.cases if case.status in statuses and case.waiting and not case.granted]
        return cases[n % len(cases)] if cases else None

    def consent_holds(self, n):
        case = self.case_of(n)
        fits = case.status in ("consented", "unlocked") and case.covered.get(n) == self.content[n]
        return fits and self.active and not self.closed_period[n] and not self.differs[n]

    def pending(self, n):
        """Return what the product is asked to do to a batch next, if anything."""
        return next((asked for asked in self.asked[n] if asked.state in PENDING), None)

    @rule(places=places, who=who)
    def open(self, places, who):
        may = self.active and all(
            self.status[n] == "bypassed" and not self.closed_period[n] and not self.differs[n] and not self.case_of(n)
            for n in places
        )
        try:
            unlock_request = operations.open_request(
                account=Account.objects.get(pk=self.account.pk),
                requester=self.admin,
                channel="phone",
                bypass_reason="by_mistake",
                reason="By mistake",
                batches=self.rows(places),
                by=self.people[who],
            )
        except operations.Refused:
            assert not may
        else:
            assert may
            operations.record_advice(unlock_request, advice="wants_export", by=self.people[who])
            self.cases.append(Case(unlock_request, places))

    @rule(n=place, who=who)
    def send(self, n, who):
        if case := self.pick_to_ask(n, "open", "awaiting", "consented"):
            self.asks(case, self.people[who])

    def asks(self, case, by):
        operations.send_consent_link(case.unlock_request, contact=self.admin, by=by)
        case.status, case.sent, case.opened = "awaiting", self.hour, False

    @rule(n=place, changed=st.booleans())
    def agree(self, n, changed):
        """The customer agrees; or something changes while they read, and they are asked to read again."""
        if not (case := self.pick_to_ask(n, "awaiting", "open")):
            return
        if case.status == "open":
            self.asks(case, self.people[0])
        link, by = case.unlock_request.links.latest("pk"), customer(self.admin)
        operations.open_consent_link(link, by=by)
        case.opened = True
        operations.verify_customer_pin(link, pin=PIN, by=by)
        shown = shown_text(link)
        if changed:
            self.change(min(case.waiting))
        try:
            case.consent, _ = operations.give_consent(link, name="Ann", role="Owner", shown=shown, by=by)
        except operations.Refused:
            assert changed
        else:
            assert not changed
            self.agreed(case)

    def agreed(self, case):
        case.status, case.covered = "consented", {n: self.content[n] for n in case.waiting}
        case.agreed = self.hour

    @rule(n=place, who=on_the_phone, changed=st.booleans())
    def record_by_phone(self, n, who, changed):
        """Staff take the consent down on the phone; or something changes while they read it out."""
        if not (case := self.pick_to_ask(n, "open", "awaiting", "consented")):
            return
        by = self.people[who]
        operations.verify_pin(case.unlock_request, pin=PIN, by=by)
        case.typed.add(who)
        case.unlock_request.refresh_from_db()
        shown = text_to_read_out(case.unlock_request)
        if changed:
            self.change(min(case.waiting))
        try:
            case.consent = operations.record_phone_consent(
                case.unlock_request, contact=self.admin, name="Ann", role="Owner", shown=shown, by=by
            )
        except operations.Refused:
            assert changed
        else:
            assert not changed
            self.agreed(case)

    @rule(n=place)
    def decline(self, n):
        if case := self.pick(n, "awaiting"):
            link, by = case.unlock_request.links.latest("pk"), customer(self.admin)
            operations.open_consent_link(link, by=by)
            shown = shown_text(link)
            operations.decline_consent(link, name="Dana Whitfield", role="", why="", shown=shown, by=by)
            case.status, case.waiting = "closed", set()

    @rule(n=place, who=st.sampled_from(["customer", 0, 1]))
    def withdraw(self, n, who):
        """Withdraw; where nothing is left that the consent could serve for, there is nothing to withdraw."""
        if not (case := self.pick(n, "consented", "unlocked")):
            return
        left = case.waiting | case.granted
        with nullcontext() if left else pytest.raises(operations.Refused) as refused:
            if who == "customer":
                operations.withdraw_own_consent(case.consent, why="", by=customer(self.admin))
            else:
                operations.withdraw_consent(case.consent, why="Asked", by=self.people[who])
        if not left:
            assert refused.value.code == Refusal.CONSENT_OVER
            return
        for granted in sorted(case.granted):
            if self.status[granted] == "unlocking" and self.cancel_queued(granted):
                self.end(granted, "bypassed")
            elif self.status[granted] != "relocking":
                self.relocks(granted)
        case.status, case.waiting = "withdrawn" if case.granted else "closed", set()

    @rule(
        places=places,
        who=anybody,
        hours=st.sampled_from([1, 4]),
        meanwhile=st.sampled_from(["", "", "change", "period", "differs", "account"]),
    )
    def unlock(self, places, who, hours, meanwhile):
        """Unlock; now and then something changes at the last moment."""
        if meanwhile == "change":
            self.change(min(places))
        elif meanwhile == "period":
            self.turn_period(min(places))
        elif meanwhile == "differs":
            self.turn_difference(min(places))
        elif meanwhile == "account":
            self.turn_account()
        may = {
            n
            for n in places
            if (case := self.case_of(n)) and n in case.waiting and self.consent_holds(n) and who not in case.typed
        }
        assert self.done(operations.unlock(self.rows(places), hours=hours, by=self.people[who])) == may
        for n in may:
            case = self.case_of(n)
            case.waiting.remove(n)
            case.granted.add(n)
            self.status[n] = "unlocking"
            self.asked[n].append(Asked("unlock", case, hours))

    @rule()
    def hand_over(self):
        """Hand over what is next: the product hears only of what a consent holds for."""
        next_ones = {n: asked for n in range(BATCHES) if (asked := self.pending(n)) and asked.state == "queued"}
        may = {
            n
            for n, asked in next_ones.items()
            if (asked.what == "unlock" and self.status[n] == "unlocking" and self.consent_holds(n))
            or (asked.what == "lock" and self.status[n] == "relocking")
        }
        waiting = Instruction.objects.in_turn().filter(state="queued").order_by("pk")
        handed = operations.hand_over(list(waiting), by=Actor.desk())
        assert {self.place_of(one) for one in handed.sent} == may
        assert {self.place_of(one) for one in handed.canceled} == next_ones.keys() - may
        for n, asked in next_ones.items():
            asked.state = "sent" if n in may else "canceled"
            if n in may:
                asked.sent = True
            elif self.status[n] == "unlocking":
                self.relocks(n) if asked.sent else self.wait_again(n)

    def place_of(self, instruction):
        return next(n for n, batch in enumerate(self.batches) if batch.pk == instruction.batch_id)

    @rule(n=place, nth=place, says=st.sampled_from([*port.State]), does=st.booleans())
    def answer(self, n, nth, says, does):
        """The product says something of an instruction that it got, and may have done it, or not, without saying so."""
        got = [asked for asked in self.asked[n] if asked.sent and asked.state in (*PENDING, "given_up")]
        if not got:
            return
        asked = got[nth % len(got)]
        if does and asked.state != "given_up" and says != port.State.NOT_HANDED_OVER:
            asked.done, self.in_the_product[n] = True, {"unlock": "unlocked", "lock": "locked"}[asked.what]
        if asked.done and says in (port.State.REFUSED, port.State.NOT_KNOWN, port.State.NOT_HANDED_OVER):
            says = port.State.DONE
        elif says == port.State.DONE and not asked.done:
            says = port.State.REFUSED
        instruction = Instruction.objects.filter(batch=self.batches[n]).order_by("pk")[self.asked[n].index(asked)]
        factories.answer([instruction], says.value, "So it said")
        self.heard(n, asked, says)

    def heard(self, n, asked, says):
        """Follow in the model what the product said."""
        if says in (port.State.DONE, port.State.REFUSED):
            asked.state = says.value
        elif asked.state in ("sent", "unknown"):
            states = {"accepted": "sent", "unknown": "unknown", "stopped": "given_up"}
            asked.state, asked.sent = states.get(says.value, "queued"), says != port.State.NOT_HANDED_OVER
        follows = {
            ("unlock", "done", "unlocking"): "unlocked",
            ("unlock", "refused", "unlocking"): "bypassed",
            ("lock", "done", "relocking"): "bypassed",
        }
        becomes = follows.get((asked.what, asked.state, self.status[n]))
        if not becomes or self.case_of(n) is not asked.case:
            return
        if becomes == "unlocked":
            self.status[n], asked.case.status = becomes, "unlocked"
            self.unlocked_at[n], self.ends[n], self.extended[n] = self.hour, self.hour + asked.hours, False
        else:
            self.end(n, becomes, used=asked.what == "lock")

    @rule(places=places, who=who)
    def cancel(self, places, who):
        may = {n for n in places if self.cancelable(n)}
        assert self.done(operations.cancel_unlock(self.rows(places), why="Wrong one", by=self.people[who])) == may
        for n in may:
            assert self.cancel_queued(n)
            self.wait_again(n)

    def cancelable(self, n):
        """Say whether the product was not asked yet to unlock a batch."""
        asked = self.pending(n)
        return bool(self.status[n] == "unlocking" and asked and asked.state == "queued" and not asked.sent)

    def cancel_queued(self, n):
        queued = [asked for asked in self.asked[n] if asked.state == "queued" and not asked.sent]
        for asked in queued:
            asked.state = "canceled"
        return queued

    def wait_again(self, n):
        case = self.case_of(n)
        case.granted.remove(n)
        case.waiting.add(n)
        self.status[n] = "bypassed"

    @rule(places=places)
    def relock(self, places):
        """Have it locked; what the product refused to lock, or does not answer for, too."""
        may = {
            n
            for n in places
            if self.status[n] == "unlocked" or (self.status[n] in ("unlocking", "relocking") and not self.pending(n))
        }
        assert self.done(operations.relock(self.rows(places), why="Not used", by=self.manager)) == may
        for n in may:
            self.relocks(n)

    def relocks(self, n):
        self.forget(n)
        self.status[n] = "relocking"
        self.asked[n].append(Asked("lock", self.case_of(n)))

    @rule(places=places, who=who)
    def re_export(self, places, who):
        may = {n for n in places if self.status[n] in GRANTED and not self.cancelable(n)}
        assert self.done(operations.mark_re_exported(self.rows(places), by=self.people[who])) == may
        for n in may:
            self.cancel_queued(n)
            self.forget(n)
            self.end(n, "exported", used=True)

    def forget(self, n):
        """What was given up is not asked about any more, once something else becomes of its batch."""
        for asked in self.asked[n]:
            if asked.state == "given_up" and asked.case is self.case_of(n):
                asked.state = "canceled"

    def later(self, hours):
        self.time.shift(timedelta(hours=hours))
        self.hour += hours

    @rule(worker=st.booleans())
    def time_passes(self, worker):
        """An hour passes; a worker that runs has relocked what is unlocked past its end."""
        self.later(1)
        if worker:
            due = {n for n in range(BATCHES) if self.status[n] == "unlocked" and self.ends[n] <= self.hour}
            assert operations.relock_due(by=Actor.desk()) == len(due)
            for n in due:
                self.relocks(n)

    @rule(places=places, who=who, hours=st.sampled_from([4, 24]))
    def extend(self, places, who, hours):
        may = {
            n
            for n in places
            if self.status[n] == "unlocked"
            and not self.extended[n]
            and self.hour < self.ends[n] < self.unlocked_at[n] + hours
        }
        act = operations.extend_window(self.rows(places), hours=hours, why="Ill", by=self.people[who])
        assert self.done(act) == may
        for n in may:
            self.ends[n], self.extended[n] = self.unlocked_at[n] + hours, True

    def end(self, n, status, used=False):
        """The line of a batch ends; with the last one a case does that was withdrawn, or unlocked."""
        case = self.case_of(n)
        case.granted.remove(n)
        case.used = case.used or used
        self.status[n] = status
        if (case.status == "withdrawn" or case.used) and not case.waiting | case.granted:
            case.status = "closed"

    @rule(n=place, who=who)
    def close(self, n, who):
        if not (case := self.pick(n, "open", "awaiting", "consented", "unlocked", "withdrawn")):
            return
        try:
            operations.close_request(case.unlock_request, resolution="canceled", why="", by=self.people[who])
        except operations.Refused:
            assert case.granted
        else:
            assert not case.granted
            case.status, case.waiting = "closed", set()

    @rule(n=place)
    def change(self, n):
        self.content[n] += 1
        history.update(self.batches[n].items.all(), by=Actor.desk(), memo=f"Changed {self.content[n]}")

    @rule(n=place)
    def turn_period(self, n):
        self.closed_period[n] = not self.closed_period[n]
        history.update(self.rows([n]), by=Actor.desk(), period_closed=self.closed_period[n])

    @rule(n=place)
    def turn_difference(self, n):
        self.differs[n] = not self.differs[n]
        history.update(self.rows([n]), by=Actor.desk(), differs="exported" if self.differs[n] else "")

    @rule()
    def turn_account(self):
        self.active = not self.active
        history.update(Account.objects.filter(pk=self.account.pk), by=Actor.desk(), active=self.active)

    @invariant()
    def statuses_are_those_of_the_model(self):
        if hasattr(self, "batches"):
            assert list(self.rows(range(BATCHES)).order_by("pk").values_list("status", flat=True)) == self.status
            open_lines = RequestedBatch.objects.filter(outcome__in=RequestedBatch.OPEN)
            assert open_lines.count() == sum(len(case.waiting | case.granted) for case in self.cases)

    @invariant()
    def nothing_is_unlocked_in_the_product_that_the_desk_calls_locked(self):
        if hasattr(self, "in_the_product"):
            unlocked = {n for n in range(BATCHES) if self.in_the_product[n] == "unlocked"}
            assert {self.status[n] for n in unlocked} <= {*GRANTED, "exported"}
            instructions = Instruction.objects.order_by("batch_id", "pk").values_list("state", flat=True)
            assert list(instructions) == [asked.state for n in range(BATCHES) for asked in self.asked[n]]

    @invariant()
    def each_case_stands_where_the_queue_shows_it(self):
        if not hasattr(self, "batches"):
            return
        now = self.hour
        for case in self.cases:
            row, (stage, ends, trouble) = UnlockRequest.objects.get(pk=case.unlock_request.pk), self.stands(case)
            assert (row.stage, row.trouble, row.due_at is None) == (stage, trouble, ends is None)
            assert ends is None or abs(row.due_at - self.began - timedelta(hours=ends)) < timedelta(minutes=10)
            section = SECTION_OF[stage]
            if stage:
                section = "overdue" if ends is not None and ends <= now else "act_now" if trouble else section
            itself = UnlockRequest.objects.filter(pk=row.pk)
            assert [key for key in queue.SECTIONS if queue.in_section(itself, key)] == [section] * bool(section)

    def stands(self, case):
        """Return the stage of a case, the hour at which that ends, and what is wrong with it."""
        granted = {self.status[n] for n in case.granted}
        was, case.under_way = case.under_way, None
        if case.status == "closed":
            return "", None, ""
        if case.status == "open":
            return "new", None, ""
        if case.status == "awaiting":
            return ("reading", case.sent + DAYS * 24, "") if case.opened else ("sent", case.sent + 48, "")
        if granted - {"unlocked"}:
            case.under_way = self.hour if was is None else was
            left = [n for n in case.granted if self.status[n] != "unlocked" and not self.pending(n)]
            return "product", case.under_way + 0.25, "product" if left else ""
        if granted:
            return "unlocked", min(self.ends[n] for n in case.granted), ""
        return ("ready", case.agreed + DAYS * 24, "") if case.waiting else ("to_close", None, "")

    def promise_holds(self):
        assert [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()] == []
        assert list(chain.faults()) == []
        assert guards.missing() == []


@override_settings(PHONE_CONSENT=True, CONSENT_LIFETIME=LONG, CONSENT_LINK_LIFETIME=LONG)
def test_the_promise_holds_whatever_is_done():
    # An example is a whole day at the desk: fewer of them do in a usual run.
    examples = settings.default.max_examples if LONG_RUN else 10
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Desk, settings=settings(max_examples=examples, stateful_step_count=30, suppress_health_check=checks)
    )


@override_settings(CONSENT_LIFETIME=LONG, CONSENT_LINK_LIFETIME=LONG)
def test_the_queue_follows_a_case_through_each_stage():
    """By the same model: few random days come as far as each of them."""
    desk, seen = Desk(), set()
    done = {"says": port.State.DONE, "does": True}
    steps = [
        partial(desk.send, n=0, who=0),
        partial(desk.later, 48),
        partial(desk.agree, n=0, changed=True),
        partial(desk.agree, n=0, changed=False),
        partial(desk.unlock, {0, 1}, who=1, hours=4, meanwhile=""),
        partial(desk.later, 1),
        desk.hand_over,
        partial(desk.answer, n=0, nth=0, **done),
        partial(desk.later, 1),
        partial(desk.answer, n=1, nth=0, **done),
        partial(desk.extend, {0}, who=0, hours=24),
        partial(desk.relock, {1}),
        desk.hand_over,
        partial(desk.answer, n=1, nth=0, says=port.State.STOPPED, does=False),
        partial(desk.re_export, {1}, who=0),
        partial(desk.agree, n=0, changed=False),
        partial(desk.unlock, {2}, who=1, hours=1, meanwhile=""),
        desk.hand_over,
        partial(desk.answer, n=2, nth=0, says=port.State.REFUSED, does=False),
        partial(desk.later, 24),
    ]
    desk.begin()
    try:
        for step in steps:
            step()
            desk.statuses_are_those_of_the_model()
            desk.each_case_stands_where_the_queue_shows_it()
            seen |= {(row.stage, row.trouble) for row in UnlockRequest.objects.all()}
    finally:
        desk.teardown()
    assert seen == {(stage, "") for stage in SECTION_OF if stage} | {("product", "product")}
