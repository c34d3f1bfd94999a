"""Ways that were found round the product half: each tries to have a batch unlocked, or taken for locked, wrongly."""

import json
from datetime import timedelta

import pytest
import time_machine
from django.db import DatabaseError, IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.attacks import sql
from tests.factories import acting, answer, case_unlocked, case_unlocking, make_batches
from tests.product.vendor import SECRET, signed
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import verify
from unlocks.models import Account, Instruction, LedgerEntry, Outgoing
from unlocks.operations import handing_over
from unlocks.outbox import worker
from unlocks.product import port, signing

pytestmark = pytest.mark.django_db


def every():
    return Instruction.objects.order_by("pk")


def outcomes(case):
    return sorted(case.unlock_request.lines.values_list("outcome", flat=True))


def one_unlocking(agent):
    return case_unlocking(agent, batches=make_batches(n=1))


class Product:
    """A product that answers each call as it is told to."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def carry_out(self, instructions):
        return self._answer("carry_out", instructions)

    def state(self, instructions):
        return self._answer("state", instructions)

    def _answer(self, call, instructions):
        self.calls.append((call, [one.what for one in instructions]))
        state = self.answers.pop(0)
        if callable(state):
            state = state()
        if state == "not reached":
            raise port.NotHandedOver("Connection refused")
        return [port.Answer(one.key, port.State(state)) for one in instructions]


@pytest.fixture
def product(monkeypatch):
    def behaving(*answers):
        made = Product(*answers)
        monkeypatch.setattr(worker, "chosen", lambda: made)
        return made

    return behaving


def later(**by):
    return time_machine.travel(timezone.now() + timedelta(**by), tick=False)


# What the product may have got is forgotten


def test_a_second_call_that_is_not_reached_does_not_undo_the_first(agent, product):
    """Timeout, "not known" while the first call is on its way, then a connection refused: it may have got the first."""
    product("unknown", "not_known", "not reached")
    case = one_unlocking(agent)
    with later() as clock:
        for _ in range(3):
            worker.ask_product()
            clock.shift(timedelta(hours=1))
        operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    assert outcomes(case) == ["relocking"]


def test_a_stale_worker_does_not_undo_what_another_handed_over(agent, product):
    """The first worker is held up (its machine sleeps); a second hands over meanwhile, and the product accepts."""
    case, seen = one_unlocking(agent), []

    def meanwhile():
        clock.shift(handing_over.LEASE * 2)
        worker.ask_product()  # what became of it? not known
        clock.shift(timedelta(minutes=10))
        worker.ask_product()  # handed over: accepted
        seen.append(every().get().state)
        return "not reached"

    product(meanwhile, "not_known", "accepted")
    with later() as clock:
        worker.ask_product()
        operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    assert (seen, outcomes(case)) == (["sent"], ["relocking"])


def test_what_a_colleague_left_is_relocked_when_the_customer_withdraws(agent, second_agent, manager):
    """They may have unlocked it in the product before they left: nobody knows."""
    case = one_unlocking(agent)
    operations.start_instructions(every(), by=acting(second_agent))
    operations.put_back_for_others(every(), by=acting(manager))
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    assert outcomes(case) == ["relocking"]


def test_what_a_colleague_left_is_not_canceled(agent, second_agent, manager):
    case = one_unlocking(agent)
    operations.start_instructions(every(), by=acting(second_agent))
    operations.put_back_for_others(every(), by=acting(manager))
    act = operations.cancel_unlock(case.rows, why="Wrong month", by=acting(agent))
    assert list(act.verdicts.values_list("refusal", flat=True)) == ["handed_over"]


def test_what_the_product_accepted_is_relocked_after_staff_took_it_over(agent, manager):
    """PRODUCT was webhook, and is by_hand now."""
    case = one_unlocking(agent)
    answer(factories.hand_over(), "accepted")
    operations.put_back_for_others(every(), by=acting(manager))
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    assert outcomes(case) == ["relocking"]


def test_what_the_product_accepted_is_relocked_after_its_new_owner_put_it_back(agent, manager):
    case = one_unlocking(agent)
    answer(factories.hand_over(), "accepted")
    operations.put_back_for_others(every(), by=acting(manager))
    operations.start_instructions(every(), by=acting(agent))
    operations.put_back(every(), by=acting(agent))
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    assert outcomes(case) == ["relocking"]


# What was never handed over is said to be done


def _done_unheard():
    now = timezone.now()
    sql("UPDATE unlocks_instruction SET state = 'done', done_at = %s", now)
    sql("UPDATE unlocks_batch SET status = 'unlocked', unlocked_until = %s WHERE status = 'unlocking'", now)


@pytest.mark.parametrize("over", ["changed", "inactive"])
def test_raw_sql_does_not_unlock_what_was_not_handed_over_once_the_consent_is_over(agent, over):
    case = one_unlocking(agent)
    if over == "changed":
        history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")
    else:
        history.update(Account.objects.filter(pk=case.account.pk), by=Actor.desk(), active=False)
    with pytest.raises(DatabaseError), transaction.atomic():
        _done_unheard()


@pytest.mark.parametrize("state", ["done", "refused"])
def test_no_answer_is_taken_about_what_was_not_handed_over(agent, state):
    """A key is on the batch's page before the product gets it: whoever reads it there and holds the secret could."""
    case = one_unlocking(agent)
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")
    answer(every(), state, "P-1")
    assert outcomes(case) == ["unlocking"]


# The record


def test_an_unlock_that_was_done_after_the_withdrawal_is_on_record(agent):
    """It was unlocked, if for minutes, without consent: the one thing that a customer who withdrew has to read."""
    case = one_unlocking(agent)
    sent = factories.hand_over()
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    before = LedgerEntry.objects.count()
    answer(sent, "done", "P-1")
    assert LedgerEntry.objects.count() > before


def test_an_unlock_that_was_done_after_it_was_ended_here_is_on_record(agent, manager):
    """Accepted, not answered for three days, given up, relocked - and then done after all: unlocked forever."""
    case = one_unlocking(agent)
    sent = factories.hand_over()
    with later(days=3.5) as clock:
        answer(sent, "accepted")
        operations.relock(case.rows, why="Too long", by=acting(manager))
        factories.carry_out()
        assert outcomes(case) == ["relocked"]
        clock.shift(timedelta(hours=1))
        before = LedgerEntry.objects.count(), list(every().values())
        answer(sent, "done", "P-1")
    assert (LedgerEntry.objects.count(), list(every().values())) != before


# Products and settings that are not what they should be


def post(body, headers):
    answered = Client().post("/product/answers/", body, content_type="application/json", headers=headers)
    return answered.status_code


@pytest.fixture
def webhook(settings):
    settings.PRODUCT, settings.PRODUCT_SECRETS = "webhook", [SECRET]


@pytest.mark.parametrize("states", [("done", "refused"), ("refused", "done")])
def test_a_callback_that_says_two_things_at_once_says_nothing(agent, webhook, states):
    """In the answer to a call that is unknown, and is asked about."""
    case = one_unlocking(agent)
    (sent,) = factories.hand_over()
    said = [{"key": str(sent.key), "state": state} for state in states]
    assert post(*signed(json.dumps({"answers": said}))) == 400
    assert outcomes(case) == ["unlocking"]


@pytest.mark.parametrize("secret", ["whsec_", "whsec_YQ==", "", "YQ", "whsec_!!!!"])
def test_a_secret_that_is_none_signs_nothing(agent, webhook, settings, secret):
    settings.PRODUCT_SECRETS = [secret]
    case_unlocking(agent)
    body, headers = b'{"answers": []}', {}
    try:
        headers = signing.signed(body, [secret])
    except Exception:
        _, headers = signed(body.decode())
    assert post(body, headers) == 401


@pytest.mark.parametrize("stamp", ["inf", "1e999", "9" * 400, "-1", "1e18", "0x10", "\u0661"])
def test_no_time_of_a_callback_is_an_error(webhook, stamp):
    body, headers = signed('{"answers": []}')
    assert post(body, headers | {"webhook-timestamp": stamp}) == 401


@pytest.mark.parametrize("state", ["done", "refused"])
def test_whatever_the_product_writes_can_be_kept(agent, webhook, state):
    texts = ["\ud800", "\u0000", "a\r\nBcc: x@y.example", "x" * 5000, "\u202egpj", 5, True, 10**400]
    case_unlocking(agent, batches=make_batches(n=len(texts)))
    sent = factories.hand_over()
    for one, text in zip(sent, texts, strict=True):
        said = {"key": str(one.key), "state": state, "reference": text, "reason": text}
        assert post(*signed(json.dumps({"answers": [said]}))) == 200, text
        one.refresh_from_db()
        assert one.state == state, text
        assert len(one.answer.splitlines()) <= 1, text
        assert len(one.answer) <= 500, text
    factories.deliver()


def test_what_staff_write_is_one_line_as_what_the_product_says(agent):
    """The customer reads it in an email of ours: a crafted POST would write whole paragraphs there."""
    case_unlocking(agent)
    operations.start_instructions(every(), by=acting(agent))
    text = "Exported\n\nYour PIN has expired. Type it at https://evil.example to get a new one."
    operations.answer_by_hand(every(), done=False, text=text, by=acting(agent))
    assert {len(one.answer.splitlines()) for one in every()} == {1}


# One instruction that holds up all others


def test_what_was_tried_too_often_holds_up_no_other(agent, product):
    """The guard refuses to count on, and with it every lease: no instruction of anybody is handed over any more."""
    product("done", "done", "done")
    stuck, other = one_unlocking(agent), one_unlocking(agent)
    first = every().filter(batch=stuck.batch)
    for tries in range(1, 1001):
        first.update(tries=tries)
    worker.ask_product()
    assert outcomes(other) == ["unlocked"]


@pytest.mark.django_db(transaction=True)
def test_a_failing_product_row_holds_up_no_email(agent, monkeypatch):
    """Whatever the database refuses while the product is asked, emails go out."""

    def refused():
        raise IntegrityError("refused by a guard")

    monkeypatch.setattr(worker, "ask_product", refused)
    stopping = _Stopping()
    factories.case_awaiting(agent)
    worker.work(stopping)
    assert set(Outgoing.objects.values_list("state", flat=True)) == {"sent"}


class _Stopping:
    """Stops a worker at its first pause."""

    def __init__(self):
        self.set = False

    def is_set(self):
        return self.set

    def wait(self, seconds):
        self.set = True


# Staff


def test_what_the_product_was_never_asked_is_not_marked_as_re_exported(agent):
    case = one_unlocking(agent)
    act = operations.mark_re_exported(case.rows, by=acting(agent))
    assert list(act.verdicts.values_list("refusal", flat=True)) != [""]


@pytest.mark.parametrize("verb", ["done", "not_done", "put_back"])
def test_all_are_those_that_the_page_showed(agent, verb):
    """Two tabs: what was started in the other one meanwhile was not on this page, and is not done by it."""
    seen, other = one_unlocking(agent), one_unlocking(agent)
    operations.start_instructions(every().filter(batch=seen.batch), by=acting(agent))
    client = Client()
    client.force_login(agent)
    page = "/desk/unlocks/instruction/?show=mine"
    assert client.get(page).status_code == 200
    operations.start_instructions(every().filter(batch=other.batch), by=acting(agent))
    typed = {"done": {"reference": "T-1"}, "not_done": {"why": "Exported"}, "put_back": {}}[verb]
    client.post(page, {"all": "on", "verb": verb, "index": "0", **typed})
    assert every().get(batch=other.batch).state == "sent"


# What is said of a window that is over


def test_the_email_does_not_ask_to_export_before_a_time_that_is_over(agent):
    """The email server was down for two days."""
    case_unlocked(agent)
    with later(days=2):
        assert [one.subject for one in factories.deliver() if "edit and export what is unlocked" in one.body] == []


def test_the_receipt_does_not_ask_to_export_before_a_time_that_is_over(agent):
    case = case_unlocked(agent)
    with later(days=2):
        page = Client().get(f"/receipt/{case.receipt}/", follow=True)
        assert page.status_code == 200
        assert "export before that time" not in page.content.decode()


# What the audit does not name


ALTERED = {
    "a canceled one is gone": "DELETE FROM unlocks_instruction WHERE state = 'canceled'",
}


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
def test_what_is_altered_of_an_instruction_is_named(agent, second_agent, statement):
    done, refused, canceled = (one_unlocking(agent) for _ in range(3))
    operations.cancel_unlock(canceled.rows, why="Wrong month", by=acting(agent))
    operations.start_instructions(every(), by=acting(agent))
    operations.answer_by_hand(every().filter(batch=done.batch), done=True, text="T-1", by=acting(agent))
    operations.answer_by_hand(every().filter(batch=refused.batch), done=False, text="Exported", by=acting(agent))
    before = verify.findings()
    with guards.lifted():
        assert sql(statement.format(other=second_agent.pk))
    assert verify.findings() != before
