"""Verbs in any order by anybody: a plain model says which batches may be unlocked, and the desk must agree with it."""

import os
from contextlib import nullcontext

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests import factories
from tests.factories import PIN, acting, customer, make_account, make_batches, make_user
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, invariants
from unlocks.models import Account, Batch, RequestedBatch
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text, text_to_read_out

pytestmark = pytest.mark.django_db
LONG_RUN = os.environ.get("HYPOTHESIS_PROFILE") == "long"

BATCHES = 4
places = st.sets(st.integers(0, BATCHES - 1), min_size=1)
place = st.integers(0, BATCHES - 1)
who = st.integers(0, 1)
on_the_phone = st.integers(2, 3)
anybody = st.integers(0, 3)


class Case:
    """What the model knows of a request: where it stands, and the content that each batch was consented to with."""

    def __init__(self, unlock_request, places):
        self.unlock_request, self.status, self.waiting = unlock_request, "open", set(places)
        self.unlocked, self.covered, self.consent, self.recorded_by_phone_by = set(), {}, None, None


class Desk(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.around = transaction.atomic()
        self.around._from_testcase = True
        self.around.__enter__()
        # The first two send links, the others hear PINs on the phone: nobody may do both.
        self.people = [acting(make_user(f"agent-{n}", group="Agent")) for n in range(4)]
        self.manager = acting(make_user("manager", group="Manager"))
        self.account = make_account()
        self.admin = self.account.contacts.get()
        self.batches = make_batches(account=self.account, n=BATCHES)
        self.status = ["bypassed"] * BATCHES
        self.content = [0] * BATCHES
        self.closed_period = [False] * BATCHES
        self.active, self.cases = True, []
        self.open({0, 1}, 0)
        self.agree(0, changed=False)
        self.open({2}, 1)

    def teardown(self):
        if hasattr(self, "around"):
            try:
                self.promise_holds()
            finally:
                transaction.set_rollback(True)
                self.around.__exit__(None, None, None)

    def rows(self, places):
        return Batch.objects.filter(pk__in=[self.batches[n].pk for n in places])

    def done(self, act):
        numbers = set(act.verdicts.filter(refusal="").values_list("batch", flat=True))
        return {n for n, batch in enumerate(self.batches) if batch.pk in numbers}

    def case_of(self, n):
        return next((case for case in self.cases if n in case.waiting | case.unlocked), None)

    def pick(self, n, *statuses):
        cases = [case for case in self.cases if case.status in statuses]
        return cases[n % len(cases)] if cases else None

    @rule(places=places, who=who)
    def open(self, places, who):
        may = self.active and all(
            self.status[n] == "bypassed" and not self.closed_period[n] and not self.case_of(n) for n in places
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
        if case := self.pick(n, "open", "awaiting", "consented"):
            operations.send_consent_link(case.unlock_request, contact=self.admin, by=self.people[who])
            case.status = "awaiting"

    @rule(n=place, changed=st.booleans())
    def agree(self, n, changed):
        """The customer agrees; or something changes while they read, and they are asked to read again."""
        if not (case := self.pick(n, "awaiting", "open")):
            return
        if case.status == "open":
            operations.send_consent_link(case.unlock_request, contact=self.admin, by=self.people[0])
            case.status = "awaiting"
        link, by = case.unlock_request.links.latest("pk"), customer(self.admin)
        operations.open_consent_link(link, by=by)
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
            self.agreed(case, recorded_by_phone_by=None)

    def agreed(self, case, recorded_by_phone_by):
        case.status, case.covered = "consented", {n: self.content[n] for n in case.waiting}
        case.recorded_by_phone_by = recorded_by_phone_by

    @rule(n=place, who=on_the_phone, changed=st.booleans())
    def record_by_phone(self, n, who, changed):
        """Staff take the consent down on the phone; or something changes while they read it out."""
        if not (case := self.pick(n, "open", "awaiting", "consented")):
            return
        by = self.people[who]
        operations.verify_pin(case.unlock_request, pin=PIN, by=by)
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
            self.agreed(case, recorded_by_phone_by=who)

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
        left = case.waiting | case.unlocked
        with nullcontext() if left else pytest.raises(operations.Refused) as refused:
            if who == "customer":
                operations.withdraw_own_consent(case.consent, why="", by=customer(self.admin))
            else:
                operations.withdraw_consent(case.consent, why="Asked", by=self.people[who])
        if not left:
            assert refused.value.code == Refusal.CONSENT_OVER
            return
        for unlocked in case.unlocked:
            self.status[unlocked] = "bypassed"
        case.status, case.waiting, case.unlocked = "closed", set(), set()

    @rule(places=places, who=anybody, meanwhile=st.sampled_from(["", "", "change", "period", "account"]))
    def unlock(self, places, who, meanwhile):
        """Unlock; now and then something changes at the last moment."""
        if meanwhile == "change":
            self.change(min(places))
        elif meanwhile == "period":
            self.turn_period(min(places))
        elif meanwhile == "account":
            self.turn_account()
        may = {
            n
            for n in places
            if (case := self.case_of(n))
            and self.active
            and not self.closed_period[n]
            and case.status in ("consented", "unlocked")
            and n in case.waiting
            and case.covered.get(n) == self.content[n]
            and case.recorded_by_phone_by != who
        }
        assert self.done(factories.unlock(self.rows(places), by=self.people[who])) == may
        for n in may:
            case = self.case_of(n)
            case.status, self.status[n] = "unlocked", "unlocked"
            case.waiting.remove(n)
            case.unlocked.add(n)

    @rule(places=places)
    def relock(self, places):
        act = factories.relock(self.rows(places), why="Not used", by=self.manager)
        self.ended(places, act, "bypassed")

    @rule(places=places, who=who)
    def re_export(self, places, who):
        act = operations.mark_re_exported(self.rows(places), by=self.people[who])
        self.ended(places, act, "exported")

    def ended(self, places, act, status):
        were = {n for n in places if self.status[n] == "unlocked"}
        assert self.done(act) == were
        for n in were:
            self.case_of(n).unlocked.remove(n)
            self.status[n] = status

    @rule(n=place, who=who)
    def close(self, n, who):
        if not (case := self.pick(n, "open", "awaiting", "consented", "unlocked")):
            return
        try:
            operations.close_request(case.unlock_request, resolution="canceled", why="", by=self.people[who])
        except operations.Refused:
            assert case.unlocked
        else:
            assert not case.unlocked
            case.status, case.waiting = "closed", set()

    @rule(n=place)
    def change(self, n):
        self.content[n] += 1
        history.update(self.batches[n].items.all(), by=Actor.desk(), memo=f"Changed {self.content[n]}")

    @rule(n=place)
    def turn_period(self, n):
        self.closed_period[n] = not self.closed_period[n]
        history.update(self.rows([n]), by=Actor.desk(), period_closed=self.closed_period[n])

    @rule()
    def turn_account(self):
        self.active = not self.active
        history.update(Account.objects.filter(pk=self.account.pk), by=Actor.desk(), active=self.active)

    @invariant()
    def statuses_are_those_of_the_model(self):
        if hasattr(self, "batches"):
            assert list(self.rows(range(BATCHES)).order_by("pk").values_list("status", flat=True)) == self.status
            open_lines = RequestedBatch.objects.filter(outcome__in=RequestedBatch.OPEN)
            assert open_lines.count() == sum(len(case.waiting | case.unlocked) for case in self.cases)

    def promise_holds(self):
        assert [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()] == []
        assert list(chain.faults()) == []
        assert guards.missing() == []


@override_settings(PHONE_CONSENT=True)
def test_the_promise_holds_whatever_is_done():
    # An example is a whole day at the desk: fewer of them do in a usual run.
    examples = settings.default.max_examples if LONG_RUN else 10
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Desk, settings=settings(max_examples=examples, stateful_step_count=20, suppress_health_check=checks)
    )
