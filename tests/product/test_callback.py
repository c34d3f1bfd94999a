"""Answers that the product sends by itself."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from tests.attacks import snapshot
from tests.factories import case_unlocking, hand_over, make_batch
from tests.product import vendor as vendors
from tests.product.vendor import OLDER_SECRET, SECRET, signed
from unlocks import callback
from unlocks.models import LedgerEntry
from unlocks.outbox import worker

KEY = "0b7c1f6e-9f0e-4c53-8d5a-3a4f7c0d9e21"
NO_SIGNATURE = {"problem": "There is no valid signature of the last five minutes."}


@pytest.fixture(autouse=True)
def webhook(settings):
    settings.PRODUCT, settings.PRODUCT_SECRETS = "webhook", [SECRET, OLDER_SECRET]


def post(body, headers, client=None):
    """Return the status of the answer and its JSON."""
    client = client or Client(enforce_csrf_checks=True)
    answer = client.post("/product/answers/", body, content_type="application/json", headers=headers)
    assert (answer["Cache-Control"], answer.cookies) == ("no-store", {})
    return answer.status_code, answer.json()


def told(*answers):
    return json.dumps({"answers": answers})


def test_what_another_signed_is_refused():
    assert post(*signed(told(), secret="whsec_" + "A" * 32)) == (401, NO_SIGNATURE)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_what_was_not_signed_now_is_refused(minutes):
    assert post(*signed(told(), at=datetime.now(UTC) + timedelta(minutes=minutes))) == (401, NO_SIGNATURE)


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": ""},
        {"webhook-id": "another"},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "nan"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1a,AAAA v2,AAAA"},
    ],
)
def test_headers_that_do_not_fit_are_refused(headers):
    body, fitting = signed(told())
    assert post(body, fitting | headers) == (401, NO_SIGNATURE)


def test_a_body_that_was_changed_is_refused():
    body, headers = signed(told({"key": KEY, "state": "refused"}))
    assert post(body.replace("refused", "done"), headers) == (401, NO_SIGNATURE)
    assert post(b"\xff\xfe", headers) == (401, NO_SIGNATURE)


def test_without_secrets_nothing_is_taken(settings):
    settings.PRODUCT_SECRETS = []
    assert post(*signed(told())) == (401, NO_SIGNATURE)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "It is not JSON."),
        ("{", "It is not JSON."),
        ("[]", "It is not an object with a list “answers”."),
        (told("done"), "An answer is not an object."),
        (told({"key": "7", "state": "done"}), "The “key” of an answer is not a UUID."),
        (told({"key": f"{KEY}0", "state": "done"}), "The “key” of an answer is not a UUID."),
        (told({"key": f"{{{KEY}}}", "state": "done"}), "The “key” of an answer is not a UUID."),
        (
            told({"key": KEY, "state": "not_known"}),
            "The “state” of an answer is none that can be given here.",
        ),
        (told(*[{"key": KEY, "state": "done"}] * 501), "It holds more than 500 answers."),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_problem(body, problem):
    assert post(*signed(body)) == (400, {"problem": problem})


def test_what_is_too_long_is_refused_before_it_is_looked_at():
    body = " " * (callback.READ_AT_MOST + 1)
    assert post(*signed(body)) == (413, {"problem": "The body is longer than 1,048,576 bytes."})


@pytest.mark.parametrize("product", ["by_hand", "sandbox"])
def test_there_is_no_such_page_without_the_webhook(settings, client, product):
    settings.PRODUCT = product
    body, headers = signed(told())
    assert client.post("/product/answers/", body, content_type="application/json", headers=headers).status_code == 404


def test_only_posts(client):
    assert client.get("/product/answers/").status_code == 405


@pytest.fixture
def waiting(agent):
    """The instruction of a case that the product was handed and has only accepted, and its batch."""
    case = case_unlocking(agent, batches=[make_batch()])
    (instruction,) = hand_over()
    return instruction, case.rows.get()


def stands(key, state):
    return 200, {"answers": [{"key": str(key), "state": state}]}


def test_what_was_done_is_recorded_once(waiting):
    instruction, batch = waiting
    body, headers = signed(told({"key": str(instruction.key), "state": "done", "reference": "VN-7"}))
    assert post(body, headers) == stands(instruction.key, "done")
    batch.refresh_from_db()
    instruction.refresh_from_db()
    assert (batch.status, instruction.answer) == ("unlocked", "VN-7")
    assert LedgerEntry.objects.get(kind="unlocked").actor == "ServiceTitan"
    before = snapshot()
    assert post(body, headers) == stands(instruction.key, "done")
    assert post(*signed(told({"key": str(instruction.key), "state": "refused"}))) == stands(instruction.key, "done")
    assert snapshot() == before


def test_what_was_refused_waits_no_more(waiting):
    instruction, batch = waiting
    key = str(instruction.key).upper()
    answer = post(*signed(told({"key": key, "state": "refused", "reason": "Exported"}), secret=OLDER_SECRET))
    assert answer == stands(instruction.key, "refused")
    batch.refresh_from_db()
    instruction.refresh_from_db()
    assert (batch.status, instruction.answer) == ("bypassed", "Exported")


def test_what_is_accepted_goes_on_waiting(waiting):
    instruction, batch = waiting
    assert post(*signed(told({"key": str(instruction.key), "state": "accepted"}))) == stands(instruction.key, "sent")
    batch.refresh_from_db()
    assert batch.status == "unlocking"


def test_what_is_not_ours_is_named(waiting):
    instruction, _ = waiting
    answers = [{"key": KEY, "state": "done"}, {"key": str(instruction.key), "state": "done"}]
    assert post(*signed(told(*answers))) == (
        200,
        {"answers": [{"key": KEY, "state": "not_known"}, {"key": str(instruction.key), "state": "done"}]},
    )


@pytest.mark.django_db
def test_a_key_that_is_named_twice_is_answered_once():
    answers = [{"key": key, "state": "done"} for key in (KEY, KEY.upper())]
    assert post(*signed(told(*answers))) == stands(KEY, "not_known")


@pytest.mark.django_db
def test_nothing_is_no_problem():
    assert post(*signed(told())) == (200, {"answers": []})


@pytest.mark.django_db
def test_a_refused_callback_changes_nothing(waiting):
    instruction, _ = waiting
    before = snapshot()
    answers = [{"key": str(instruction.key), "state": "done"}, {"key": KEY, "state": "?"}]
    assert post(*signed(told(*answers)))[0] == 400
    assert post(*signed(told(answers[0]), secret="whsec_" + "A" * 32))[0] == 401
    assert snapshot() == before


def test_the_whole_way(agent):
    """Handed over by the worker, accepted, done later, and told by a callback."""
    with vendors.running() as vendor:
        vendor.decide = vendors.later
        case = case_unlocking(agent)
        assert worker.ask_product() == 2
        keys = [one["key"] for one in vendor.received[0].instructions]
        assert set(case.rows.values_list("status", flat=True)) == {"unlocking"}
        for key in keys:
            vendor.do(key)
        assert post(*vendor.callback()) == (200, {"answers": [{"key": key, "state": "done"} for key in keys]})
    assert set(case.rows.values_list("status", flat=True)) == {"unlocked"}
