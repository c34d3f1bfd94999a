"""Verbs in any order by anybody: a plain model says which batches may be unlocked, and the desk must agree with it."""

import re
from unittest import mock

import pytest
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.factories import PIN, acting, customer, make_account, make_batches, make_item, make_user
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.database import fingerprint, guards
from unlocks.ledger import chain, invariants
from unlocks.models import Account, Batch, BatchItem, RequestedBatch
from unlocks.texts.shown import shown_text, text_to_read_out

pytestmark = pytest.mark.django_db

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
            operations.decline_consent(link, name="", role="", why="", shown=shown, by=by)
            case.status, case.waiting = "closed", set()

    @rule(n=place, who=st.sampled_from(["customer", 0, 1]))
    def withdraw(self, n, who):
        if case := self.pick(n, "consented", "unlocked"):
            if who == "customer":
                operations.withdraw_own_consent(case.consent, why="", by=customer(self.admin))
            else:
                operations.withdraw_consent(case.consent, why="Asked", by=self.people[who])
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
        assert self.done(operations.unlock(self.rows(places), by=self.people[who])) == may
        for n in may:
            case = self.case_of(n)
            case.status, self.status[n] = "unlocked", "unlocked"
            case.waiting.remove(n)
            case.unlocked.add(n)

    @rule(places=places)
    def relock(self, places):
        act = operations.relock(self.rows(places), why="Not used", by=self.manager)
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
        assert chain.first_fault() == ""
        assert guards.missing() == []


def test_the_promise_holds_whatever_is_done():
    knows = mock.patch.object(pins, "matches", lambda pin, pin_hash: pin == PIN)
    with knows, override_settings(PHONE_CONSENT=True):
        run_state_machine_as_test(
            Desk,
            settings=settings(
                max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )


# The fingerprint

# PostgreSQL's texts hold no NUL, SQLite's do.
NUL = "\0" if connection.vendor == "postgresql" else ""
words = st.text(st.characters(exclude_characters=NUL, exclude_categories=["Cs"]), max_size=12)
CONTENT = {
    Batch: {"name": words, "number": words, "item_count": st.integers(0, 999)},
    BatchItem: {"number": words, "customer": words, "memo": words, "export_id": words},
}
fixed = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def taken(batch):
    return Batch.objects.annotate(content=fingerprint.expression("default")).get(pk=batch.pk).content


def write_over(row, **fields):
    type(row).objects.filter(pk=row.pk).update(**fields)


@pytest.fixture
def batch(db):
    (made,) = make_batches(n=1)
    return made


@fixed
@given(data=st.data())
def test_another_content_has_another_fingerprint(batch, data):
    model = data.draw(st.sampled_from([Batch, BatchItem]))
    name = data.draw(st.sampled_from(sorted(CONTENT[model].keys() - {"number"} if model is Batch else CONTENT[model])))
    one, other = data.draw(st.tuples(CONTENT[model][name], CONTENT[model][name]))
    row = batch if model is Batch else batch.items.get()
    prints = []
    for value in (one, other):
        write_over(row, **{name: value})
        prints.append(taken(batch))
    assert (prints[0] == prints[1]) == (one == other)


@fixed
@given(one=st.tuples(words, words), other=st.tuples(words, words))
def test_no_two_contents_read_the_same(batch, one, other):
    """What stands in one field, digits and colons above all, never passes for the end of another."""
    prints = []
    for memo, export_id in (one, other):
        write_over(batch.items.get(), memo=memo, export_id=export_id)
        prints.append(taken(batch))
    assert (prints[0] == prints[1]) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(("1:", ""), ("", "1:")), (("a", "b1:"), ("a2:b1", "")), (("é", "x"), ("e", "x"))]
)
def test_netstrings_that_were_made_to_collide(batch, one, other):
    prints = []
    for memo, export_id in (one, other):
        write_over(batch.items.get(), memo=memo, export_id=export_id)
        prints.append(taken(batch))
    assert prints[0] != prints[1]


def test_every_part_of_the_content_counts(batch):
    seen = {taken(batch)}
    changes = {"name": "x", "total": "1.01", "item_count": 9, "posted_on": "2020-01-01", "bypassed_on": "2020-01-02"}
    for name, value in changes.items():
        write_over(batch, **{name: value})
        seen.add(taken(batch))
    item = {"kind": "payment", "number": "x", "date": "2020-01-01", "customer": "x", "amount": "1.01", "memo": "x"}
    for name, value in (item | {"export_id": "x", "lines": [{"sku": "x"}]}).items():
        write_over(batch.items.get(), **{name: value})
        seen.add(taken(batch))
    make_item(batch=batch)
    seen.add(taken(batch))
    assert len(seen) == 1 + len(changes) + len(item) + 3
    assert changes.keys() | {"number"} == set(fingerprint.BATCH_CONTENT)
    assert item.keys() | {"export_id", "lines"} == set(fingerprint.ITEM_CONTENT)


@pytest.mark.parametrize("name", fingerprint.ITEM_CONTENT)
def test_a_change_of_an_item_blanks_it(batch, name):
    fingerprint.take(Batch.objects.filter(pk=batch.pk))
    values = {"date": "2020-01-01", "amount": "1.01", "lines": [1], "kind": "payment"}
    write_over(batch.items.get(), **{name: values.get(name, "x")})
    batch.refresh_from_db()
    assert batch.fingerprint == ""


def test_the_same_content_keeps_it(batch):
    fingerprint.take(Batch.objects.filter(pk=batch.pk))
    batch.refresh_from_db()
    write_over(batch, name=batch.name, total=batch.total, period_closed=True)
    write_over(batch.items.get(), memo="", disposition="keyed in")
    kept = batch.fingerprint
    batch.refresh_from_db()
    assert re.fullmatch("[0-9a-f]{64}", kept)
    assert batch.fingerprint == kept
