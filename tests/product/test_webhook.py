"""The adapter against a real server, good and bad."""

import json
import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.mail_servers import until
from tests.product import vendor as vendors
from tests.product.made_up import QUEUED, instruction, instructions
from unlocks.product import calls, chosen
from unlocks.product.port import Answer, NotHandedOver, State, Stopped
from unlocks.product.sandbox import Sandbox
from unlocks.product.webhook import Webhook


@pytest.fixture
def vendor():
    with vendors.running() as vendor:
        yield vendor


def of(instructions, state, text=""):
    """Return the same answer for each."""
    return [Answer(one.key, state, text) for one in instructions]


def timers():
    return [one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()]


# What is sent


def test_instructions_are_handed_over_in_their_order(vendor):
    unlock, lock = instruction(), instruction("B-7", what="lock", account="5002", request=124)
    assert chosen().carry_out([unlock, lock]) == [
        Answer(unlock.key, State.DONE, "VN-000001"),
        Answer(lock.key, State.DONE, "VN-000002"),
    ]
    assert vendor.done == [str(unlock.key), str(lock.key)]
    (message,) = vendor.received
    assert (message.type, message.instructions) == (
        "instructions.carry_out",
        [
            {
                "key": str(unlock.key),
                "what": "unlock",
                "account": "5001",
                "batch": "B-1042",
                "request": "UR-000123",
                "instructed_at": "2026-11-27T15:04:05+00:00",
            },
            {
                "key": str(lock.key),
                "what": "lock",
                "account": "5002",
                "batch": "B-7",
                "request": "UR-000124",
                "instructed_at": "2026-11-27T15:04:05+00:00",
            },
        ],
    )


def test_the_same_call_is_the_same_message_and_done_once(vendor):
    made = [instruction(), instruction("B-7", queued_at=QUEUED + timedelta(seconds=1))]
    assert Webhook().carry_out(made) == Webhook().carry_out(made)
    first, again = vendor.received
    assert first == again
    assert len(vendor.done) == 2


def test_other_instructions_are_another_message(vendor):
    made = instructions(2)
    Webhook().carry_out(made)
    Webhook().carry_out(made[:1])
    assert len({message.id for message in vendor.received}) == 2


def test_each_question_is_a_message_of_its_own(vendor):
    made = instructions(1)
    assert Webhook().state(made) == Webhook().state(made) == of(made, State.NOT_KNOWN)
    assert [message.type for message in vendor.received] == ["instructions.state"] * 2
    assert len({message.id for message in vendor.received}) == 2


def test_500_instructions_are_one_call(vendor):
    made = instructions(500)
    assert [answer.state for answer in Webhook().carry_out(made)] == [State.DONE] * 500
    assert len(vendor.received) == 1


@pytest.mark.parametrize("knows", [vendors.SECRET, vendors.OLDER_SECRET])
def test_while_secrets_are_rotated_either_will_do(vendor, settings, knows):
    settings.PRODUCT_SECRETS, vendor.secrets = [vendors.SECRET, vendors.OLDER_SECRET], [knows]
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.DONE, "VN-000001")


def test_with_another_secret_nothing_is_done(vendor, settings):
    settings.PRODUCT_SECRETS = [vendors.OLDER_SECRET]
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, "The product answered 401.")
    assert vendor.done == []


def test_over_tls(tmp_path, monkeypatch):
    file, context = vendors.certificate(tmp_path)
    made = instructions(1)
    with vendors.running(tls=context) as vendor:
        with pytest.raises(NotHandedOver, match="can’t be reached: SSLCertVerificationError, self-signed certificate"):
            Webhook().carry_out(made)
        assert vendor.received == []
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert Webhook().carry_out(made) == of(made, State.DONE, "VN-000001")


def test_a_query_in_the_address_is_kept(vendor, settings):
    settings.PRODUCT_URL += "?tenant=7"
    Webhook().state(instructions(1))
    assert vendor.paths == ["/unlock-desk?tenant=7"]


# What is answered


def test_it_answers_later(vendor):
    vendor.decide = vendors.later
    made = instructions(2)
    assert Webhook().carry_out(made) == Webhook().state(made) == of(made, State.ACCEPTED)
    vendor.do(str(made[1].key))
    assert Webhook().state(made) == [
        Answer(made[0].key, State.ACCEPTED),
        Answer(made[1].key, State.DONE, "VN-000001"),
    ]


def test_it_refuses(vendor):
    vendor.decide = vendors.refuses("Batch was exported meanwhile")
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.REFUSED, "Batch was exported meanwhile")


def test_what_is_not_answered_is_accepted_but_a_question_is_open(vendor):
    made = instructions(2)
    for body in (b"", b" \n", b'{"answers": []}'):
        vendor.fault = vendors.says(body)
        assert Webhook().carry_out(made) == of(made, State.ACCEPTED)
        assert Webhook().state(made) == of(made, State.UNKNOWN, "The product was asked about it and said nothing.")
    vendor.fault = vendors.status(204)
    assert Webhook().carry_out(made) == of(made, State.ACCEPTED)


def answered(vendor, *answers):
    """Return what one instruction is told by these answers, `key` being its key if they name none."""
    made = instruction()
    items = [{"key": str(made.key)} | answer for answer in answers]
    vendor.fault = vendors.says(json.dumps({"answers": items}).encode())
    (answer,) = Webhook().carry_out([made])
    assert answer.key == made.key
    return answer.state, answer.text


@pytest.mark.parametrize(
    ("answer", "understood"),
    [
        ({"state": "done"}, (State.DONE, "")),
        ({"state": "done", "reference": 42, "reason": "no"}, (State.DONE, "42")),
        ({"state": "done", "reference": {"id": 42}}, (State.DONE, "")),
        ({"state": "done", "reference": " VN\x00-1\n\u202e\ud800 "}, (State.DONE, "VN -1")),
        ({"state": "done", "reference": "x" * 600}, (State.DONE, "x" * 500)),
        ({"state": "refused"}, (State.REFUSED, "The product gave no reason.")),
        ({"state": "refused", "reason": "\x07"}, (State.REFUSED, "The product gave no reason.")),
        ({"state": "accepted", "reason": "busy"}, (State.ACCEPTED, "")),
    ],
)
def test_answers_are_read(vendor, answer, understood):
    assert answered(vendor, answer) == understood


STATE = "The product’s answer can’t be read. The “state” of an answer is none that can be given here."


@pytest.mark.parametrize("state", ["unknown", "not_known", "DONE", "", None, 1, ["done"], {}])
def test_a_state_that_is_none_is_unknown(vendor, state):
    assert answered(vendor, {"state": state}) == (State.UNKNOWN, STATE)


def test_a_flawed_answer_is_its_own_alone(vendor):
    made = instructions(2)
    items = [{"key": str(made[0].key), "state": "?"}, {"key": str(made[1].key).upper(), "state": "done"}]
    vendor.fault = vendors.says(json.dumps({"answers": items}).encode())
    assert Webhook().carry_out(made) == [
        Answer(made[0].key, State.UNKNOWN, STATE),
        Answer(made[1].key, State.DONE),
    ]


def test_two_answers_at_once_are_none(vendor):
    done, refused = {"state": "done"}, {"state": "refused"}
    assert answered(vendor, done, done) == (State.DONE, "")
    assert answered(vendor, done, refused) == (State.UNKNOWN, "The product answered two things at once.")


def test_answers_about_others_are_dropped(vendor):
    assert answered(vendor, {"key": str(uuid4()), "state": "refused"}, {"state": "done"}) == (State.DONE, "")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"OK", "It is not JSON."),
        (b"\xff\xfe\x80", "It is not JSON."),
        (b"<html>" * 1000, "It is not JSON."),
        (b"[" * 200_000, "It is not JSON."),
        (b"[]", "It is not an object with a list “answers”."),
        (b"{}", "It is not an object with a list “answers”."),
        (b'{"answers": {}}', "It is not an object with a list “answers”."),
        (b'{"answers": [7]}', "An answer is not an object."),
        (b'{"answers": [{"state": "done"}]}', "The “key” of an answer is not a UUID."),
        (b'{"answers": [{"key": "7", "state": "done"}]}', "The “key” of an answer is not a UUID."),
        (json.dumps({"answers": [{}] * 501}).encode(), "It holds more than 500 answers."),
    ],
)
def test_an_answer_that_cannot_be_read_leaves_all_unknown(vendor, body, why):
    vendor.fault = vendors.says(body)
    made = instructions(2)
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, f"The product’s answer can’t be read. {why}")


def test_an_answer_without_end_is_not_read_to_it(vendor):
    vendor.fault = vendors.says(b" " * (calls.READ_AT_MOST + 1))
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, "The product’s answer is too long.")


# Faults


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (500, "The product answered 500."),
        (503, "The product answered 503."),
        (404, "The product answered 404."),
        (429, "The product answered 429."),
        (304, "The product answered 304, a redirect, which is not followed."),
    ],
)
def test_whatever_is_no_success_is_unknown(vendor, status, why):
    vendor.fault = vendors.status(status, b"" if status == 304 else b'{"answers": []}')
    made = instructions(2)
    assert Webhook().carry_out(made) == Webhook().state(made) == of(made, State.UNKNOWN, why)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(vendor, status):
    vendor.fault = vendors.status(status, Location=vendor.url + "/elsewhere")
    made = instructions(1)
    why = f"The product answered {status}, a redirect, which is not followed."
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, why)
    assert vendor.paths == ["/unlock-desk"]


def test_410_stops(vendor):
    vendor.fault = vendors.status(410)
    with pytest.raises(Stopped, match=r"The product answered 410: it does not want to be called any more\."):
        Webhook().carry_out(instructions(1))
    with pytest.raises(Stopped):
        Webhook().state(instructions(1))


def test_nobody_listens():
    with vendors.none(), pytest.raises(NotHandedOver, match="can’t be reached: ConnectionRefusedError, Connection ref"):
        Webhook().carry_out(instructions(1))
    assert timers() == []


@pytest.mark.parametrize("host", ["vendor.invalid", "x" * 64 + ".example"])
def test_there_is_no_such_host(vendor, settings, host):
    settings.PRODUCT_URL = f"http://{host}/"
    with pytest.raises(NotHandedOver, match="The product can’t be reached: "):
        Webhook().state(instructions(1))


def test_a_server_without_tls_gets_nothing(vendor, settings):
    settings.PRODUCT_URL = vendor.url.replace("http:", "https:")
    with pytest.raises(NotHandedOver, match="can’t be reached: SSLError, "):
        Webhook().carry_out(instructions(1))
    assert vendor.received == []


def test_a_server_that_does_not_begin_tls_is_left(monkeypatch):
    monkeypatch.setattr(calls, "CONNECT", 0.3)
    with vendors.none() as silent:
        url, start = Webhook().url.replace("http:", "https:"), time.monotonic()
        silent.listen()
        with pytest.raises(NotHandedOver, match="can’t be reached: TimeoutError, "):
            Webhook(url).carry_out(instructions(1))
    assert 0.2 < time.monotonic() - start < 5


@pytest.mark.parametrize(("fault", "done"), [(vendors.loses, 1), (vendors.closes, 0)])
def test_a_lost_answer_is_unknown(vendor, fault, done):
    vendor.fault = fault
    made = instructions(1)
    why = (
        "The connection broke before the product’s answer was read: "
        "RemoteDisconnected, Remote end closed connection without response."
    )
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, why)
    assert len(vendor.done) == done


def test_so_is_one_that_breaks_off(vendor):
    vendor.fault = vendors.breaks_off
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, "The product’s answer broke off.")


def test_what_became_of_a_lost_answer_is_asked(vendor):
    vendor.fault = vendors.loses
    made = instructions(1)
    Webhook().carry_out(made)
    assert Webhook().state(made) == of(made, State.DONE, "VN-000001")


@pytest.mark.parametrize("fault", [vendors.hangs, vendors.trickles])
def test_nobody_holds_a_call_beyond_its_deadline(vendor, monkeypatch, fault):
    monkeypatch.setattr(calls, "DEADLINE", 0.4)
    vendor.fault, made, start = fault, instructions(1), time.monotonic()
    why = "The product did not answer within 0.4 seconds."
    assert Webhook().carry_out(made) == of(made, State.UNKNOWN, why)
    assert 0.3 < time.monotonic() - start < 5
    until(lambda: vendor.open == 0)
    assert timers() == []


def test_nobody_holds_a_call_over_tls_beyond_its_deadline(tmp_path, monkeypatch):
    file, context = vendors.certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(calls, "DEADLINE", 0.4)
    made = instructions(1)
    with vendors.running(tls=context) as vendor:
        for vendor.fault in (vendors.hangs, vendors.trickles):
            why = "The product did not answer within 0.4 seconds."
            assert Webhook().carry_out(made) == of(made, State.UNKNOWN, why)
        until(lambda: vendor.open == 0)


def test_a_slow_answer_within_it_counts(vendor):
    vendor.fault = vendors.slow(0.3)
    made = instructions(1)
    assert Webhook().carry_out(made) == of(made, State.DONE, "VN-000001")
    assert timers() == []


# Settings


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PRODUCT_URL", "", "PRODUCT_URL is not set."),
        ("PRODUCT_SECRETS", [], "PRODUCT_SECRETS is not set."),
        (
            "PRODUCT_SECRETS",
            [vendors.SECRET, "my-secret"],
            "PRODUCT_SECRETS: secret 2 is not 24 to 64 bytes in base64 after whsec_.",
        ),
        ("TRIAL", False, "PRODUCT_URL is not the address of a server that begins with https://."),
    ],
)
def test_without_fitting_settings_nothing_is_handed_over(vendor, settings, name, value, why):
    setattr(settings, name, value)
    with pytest.raises(NotHandedOver) as caught:
        Webhook().carry_out(instructions(1))
    assert str(caught.value) == why
    assert vendor.paths == []


def test_the_product_is_chosen_by_setting(settings):
    assert chosen() is None
    settings.PRODUCT = "webhook"
    assert isinstance(chosen(), Webhook)
    settings.PRODUCT = "sandbox"
    assert isinstance(chosen(), Sandbox)
    settings.PRODUCT = "servicetitan"
    with pytest.raises(
        ImproperlyConfigured, match=r"^PRODUCT is servicetitan, not one of by_hand, polling, webhook, sandbox\.$"
    ):
        chosen()
