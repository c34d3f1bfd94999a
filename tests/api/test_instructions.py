"""A product that polls: it is asked what one that is called would be, under the same leases and judgments."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests.api import caller
from tests.factories import case_unlocking
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import chain, invariants
from unlocks.models import Batch, Instruction
from unlocks.outbox import worker
from unlocks.product import chosen

pytestmark = pytest.mark.django_db


@pytest.fixture
def by(superuser, settings):
    settings.PRODUCT = "polling"
    return caller(superuser, "product", system="vendor")


def pulled(by, most=100):
    return [(one["ask"], one["key"]) for one in by.post("/instructions/pull", {"most": most}).json()["instructions"]]


def answer(by, *answers):
    body = {"answers": [{"key": key, "state": state, **more} for key, state, more in answers]}
    return [one["state"] for one in by.post("/instructions/answers", body).json()["answers"]]


def keys(case):
    asked = Instruction.objects.filter(line__unlock_request=case.unlock_request).order_by("pk")
    return [str(one.key) for one in asked]


def test_what_is_due_is_pulled_once_and_answered(by, agent):
    case = case_unlocking(agent)
    first, second = keys(case)
    told = by.post("/instructions/pull", {"most": 1}).json()["instructions"]
    assert told == [
        {
            "key": first,
            "ask": "carry_out",
            "what": "unlock",
            "account": case.account.number,
            "batch": case.batch.number,
            "request": case.unlock_request.reference,
            "instructed_at": told[0]["instructed_at"],
        }
    ]
    assert pulled(by) == [("carry_out", second)]
    assert pulled(by) == []
    done, refused = (first, "done", {"reference": "JOB-1"}), (second, "refused", {"reason": "Exported today."})
    assert answer(by, done, refused) == ["done", "refused"]
    assert [batch.status for batch in case.refresh().batches] == ["unlocked", "bypassed"]
    assert {entry.actor for entry in case.unlock_request.entries.filter(kind__in=["unlocked", "product_refused"])} == {
        "vendor"
    }
    # Once more changes nothing, and what is not ours is said.
    stranger = "00000000-0000-4000-8000-000000000000"
    assert answer(by, (first, "refused", {"reason": "No"}), (stranger, "done", {})) == ["done", "not_known"]
    assert list(chain.faults()) == []
    assert [wrong for wrong, offending in invariants.offenders() if offending.exists()] == []


def test_what_was_not_answered_is_asked_about_and_never_repeated_blindly(by, agent):
    case = case_unlocking(agent, batches=None)
    first, second = keys(case)
    assert pulled(by) == [("carry_out", first), ("carry_out", second)]
    with time_machine.travel(timezone.now() + timedelta(minutes=6), tick=False):
        assert pulled(by) == [("state", first), ("state", second)]
        assert answer(by, (first, "done", {}), (second, "not_known", {})) == ["done", "queued"]
    with time_machine.travel(timezone.now() + timedelta(minutes=40), tick=False):
        assert pulled(by) == [("carry_out", second)]


def test_it_is_given_up_after_days_of_silence(by, agent):
    case_unlocking(agent)
    now, asks = timezone.now(), 0
    for hours in range(0, 90, 5):
        with time_machine.travel(now + timedelta(hours=hours), tick=False):
            asks += len(pulled(by))
    assert asks == 2 * 11
    assert set(Instruction.objects.values_list("state", flat=True)) == {"given_up"}


def test_the_consent_is_judged_again_before_it_is_pulled(by, agent):
    withdrawn, changed = case_unlocking(agent), case_unlocking(agent)
    operations.withdraw_consent(withdrawn.consent, why="They changed their mind", by=Actor.staff(agent))
    Batch.objects.filter(pk=changed.batch.pk).update(name="Another name")
    assert pulled(by) == [("carry_out", keys(changed)[1])]
    assert changed.refresh().batch.status == "bypassed"


def test_the_worker_asks_nobody_then(by, agent):
    case_unlocking(agent)
    assert (chosen(), worker.ask_product()) == (None, 0)


@pytest.mark.parametrize("product", ["by_hand", "webhook", "sandbox"])
def test_nothing_is_pulled_from_a_desk_that_calls(by, agent, settings, product):
    settings.PRODUCT = product
    case = case_unlocking(agent)
    for address, body in (
        ("/instructions/pull", {}),
        ("/instructions/answers", {"answers": [{"key": keys(case)[0], "state": "done"}]}),
    ):
        refused = by.post(address, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "not_polling")
    assert {batch.status for batch in case.refresh().batches} == {"unlocking"}


def test_one_key_is_answered_once_in_a_call(by, agent):
    key = keys(case_unlocking(agent))[0]
    body = {"answers": [{"key": key, "state": state} for state in ("done", "refused")]}
    assert by.post("/instructions/answers", body).json()["code"] == "answered_twice"
