"""Answers that the product sends by itself."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from tests.product.vendor import OLDER_SECRET, SECRET, signed
from unlocks import callback

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
