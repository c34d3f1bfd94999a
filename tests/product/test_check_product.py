"""The conformance suite: it passes who keeps to the protocol, and names what does not."""

import io
import json
import re
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime

import pytest
import standardwebhooks
from django.core.management import CommandError, call_command

from tests.product import vendor as vendors
from unlocks.product import calls, conformance

REACHED = "It can be reached, and answers a signed message"


@pytest.fixture
def vendor():
    with vendors.running() as vendor:
        yield vendor


def checked(*arguments):
    """Return what the command said, and its last words if it failed."""
    out, last = io.StringIO(), ""
    try:
        call_command("check_product", *arguments, stdout=out)
    except CommandError as error:
        last = str(error)
    return out.getvalue(), last


def failed(vendor):
    """Return {what was checked: what was wrong}."""
    endpoint = conformance.Endpoint(vendor.url, [vendors.SECRET])
    return {what: trouble for what, trouble in endpoint.checked() if trouble}


@pytest.mark.parametrize("decide", [vendors.does, vendors.later, vendors.refuses("This account is for tests.")])
def test_a_good_vendor_passes(vendor, decide):
    vendor.decide = decide
    said, error = checked()
    assert [line[:8] for line in said.splitlines()] == ["ok      "] * len(conformance.CHECKS) + ["All 16 c"]
    assert error == ""


def test_only_test_data_is_sent(vendor):
    checked()
    sent = [one for message in vendor.received for one in message.instructions]
    assert {one["account"] for one in sent} == {"TEST"}
    assert {one["batch"] for one in sent} == {f"TEST-{number:03d}" for number in range(500)}
    assert {one["request"] for one in sent} == {"UR-000000"}
    assert len(vendor.done) == len(set(vendor.done))


def test_nobody_listens():
    with vendors.none():
        assert checked() == (
            f"FAILED  {REACHED}. The product can’t be reached: ConnectionRefusedError, Connection refused.\n",
            "1 of 1 checks failed.",
        )


def test_a_failure_is_told_to_the_shell():
    with vendors.none(), pytest.raises(CommandError) as caught:
        call_command("check_product", stdout=io.StringIO())
    assert caught.value.returncode == 1


def test_the_address_may_be_given(vendor, settings):
    settings.PRODUCT_URL = ""
    assert checked()[0] == f"FAILED  {REACHED}. PRODUCT_URL is not set.\n"
    assert checked(vendor.url)[1] == ""


def test_the_secret_may_be_piped_in_and_is_not_shown(vendor, settings, monkeypatch):
    settings.PRODUCT_SECRETS = []
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{vendors.SECRET}\n"))
    said, error = checked("--secret")
    assert (vendors.SECRET in said, error) == (False, "")
    monkeypatch.setattr("sys.stdin", io.StringIO("my-own-secret\n"))
    said, error = checked("--secret")
    assert ("my-own-secret" in said, error) == (False, "1 of 1 checks failed.")


# Bad vendors, each for one reason


SIGNED_BY_ANOTHER = "It refuses a message that someone else signed, and does nothing"
NOT_SIGNED = "It refuses a message that is not signed"
CHANGED = "It refuses a message that was changed after it was signed"
OLD = "It refuses a message that was signed ten minutes ago"
TWO_SIGNATURES = "It takes a message with a second signature, as while secrets are rotated"
NO_MESSAGE = "It refuses what is signed and cannot be read, with 400"
MORE = "It takes fields that it does not know, and may refuse a type that it does not know, with 400"
NEVER_GOT = "Of a key that it never got it says not_known"
INSTRUCTIONS = "It answers an unlock and a lock"
SAME_KEY = "The same key again is answered as before, alone and with others"
AT_ONCE = "The same key in four calls at once is done once"
BECAME = "Asked about a key, it says what it answered"
IN_VAIN = "When its answer is lost, it knows what it answered, and answers the same key so again"
MANY = "It takes 500 instructions in one call, and knows them all"
IN_TIME = "Each answer came within 15 seconds, half of what the desk waits"
NOT_REFUSED = "It answered 200 instead of 401 or 400."


def test_one_that_verifies_nothing(vendor):
    vendor.verifies = lambda body, headers: True
    assert failed(vendor) == {
        SIGNED_BY_ANOTHER: NOT_REFUSED,
        NOT_SIGNED: NOT_REFUSED,
        CHANGED: NOT_REFUSED,
        OLD: NOT_REFUSED,
    }


def test_one_that_acts_before_it_verifies(vendor):
    def acts(body, headers):
        data = json.loads(body) if body != b"{" else {"type": ""}
        if data["type"] == "instructions.carry_out":
            vendor.carry_out(vendors.Message("", data["type"], data["data"]["instructions"]))
        return vendors.verifies(body, headers)

    vendor.verifies = acts
    assert failed(vendor) == {SIGNED_BY_ANOTHER: "It said done, not not_known."}


def test_one_that_verifies_the_sender_and_not_the_body(vendor):
    vendor.verifies = lambda body, headers: vendors.verifies(body.replace(b"LIVE", b"TEST"), headers)
    assert failed(vendor) == {CHANGED: NOT_REFUSED}


def test_one_that_does_not_look_at_the_time(vendor):
    def verifies(body, headers):
        if set(headers) < {"webhook-id", "webhook-timestamp", "webhook-signature"}:
            return False
        at = datetime.fromtimestamp(int(headers.get("webhook-timestamp", 0)), UTC)
        fitting = standardwebhooks.Webhook(vendors.SECRET).sign(headers.get("webhook-id"), at, body.decode())
        return fitting in headers.get("webhook-signature", "").split(" ")

    vendor.verifies = verifies
    assert failed(vendor) == {OLD: NOT_REFUSED}


def test_one_that_looks_at_one_signature(vendor):
    def verifies(body, headers):
        return " " not in headers.get("webhook-signature", "") and vendors.verifies(body, headers)

    vendor.verifies = verifies
    assert failed(vendor) == {TWO_SIGNATURES: "It answered 401."}


def test_one_that_fails_at_what_is_no_message(vendor):
    vendor.verifies = lambda body, headers: body != b"{" and vendors.verifies(body, headers)
    assert failed(vendor) == {NO_MESSAGE: "It answered 401 instead of 400."}


def test_one_that_takes_no_field_more(vendor):
    def strict(session, message):
        session.answer(400, {}) if "to_come" in message.instructions[0] else session.work(message)

    vendor.fault = strict
    assert failed(vendor) == {MORE: "It answered 400."}


def test_one_that_fails_at_a_type_that_it_does_not_know(vendor):
    def fails(session, message):
        session.answer(500, {}) if message.type == "instructions.to_come" else session.work(message)

    vendor.fault = fails
    assert failed(vendor) == {MORE: "To a type that it does not know it answered 500."}


def test_one_that_knows_everything(vendor):
    vendor.kept = defaultdict(lambda: {"state": "done", "reference": "VN-1"})
    vendor.state = lambda message: [vendor.kept[one["key"]] | {"key": one["key"]} for one in message.instructions]
    said = "It said done, not not_known."
    assert failed(vendor) == {SIGNED_BY_ANOTHER: said, MORE: said, NEVER_GOT: said}


def test_one_that_takes_no_lock(vendor):
    def only_unlocks(session, message):
        if any(one["what"] == "lock" for one in message.instructions):
            session.answer(422, {})
        else:
            session.work(message)

    vendor.fault = only_unlocks
    assert failed(vendor) == {INSTRUCTIONS: "The product answered 422.", BECAME: "The product answered 422."}


def test_one_that_does_a_key_as_often_as_it_gets_it(vendor):
    def forgets(session, message):
        if message.type == "instructions.carry_out":
            session.server.kept.clear()
        session.work(message)

    vendor.fault = forgets
    assert failed(vendor).keys() == {SAME_KEY, AT_ONCE, IN_VAIN}


def test_one_that_looks_before_it_does(vendor):
    """Between the two it does what another call is about."""

    def looks(session, message):
        new = [one["key"] for one in message.instructions if one["key"] not in vendor.kept]
        if message.type == "instructions.carry_out" and len(message.instructions) == 1:
            time.sleep(0.4)  # all four calls come meanwhile
            for key in new:
                vendor.do(key)
        session.work(message)

    vendor.fault = looks
    (found,) = failed(vendor).items()
    assert found[0] == AT_ONCE
    assert re.fullmatch(r"First it said done \(VN-\d+\), then done \(VN-\d+\)\.", found[1])


def test_one_that_forgets_what_it_refused(vendor):
    def forgets(session, message):
        works = vendor.carry_out if message.type == "instructions.carry_out" else vendor.state
        said = works(message)
        vendor.kept.clear()
        session.answer(200, {"answers": said})

    vendor.decide, vendor.fault = vendors.refuses("This account is for tests."), forgets
    forgot = "First it said refused (This account is for tests.), then not_known."
    assert failed(vendor) == {
        AT_ONCE: forgot,
        BECAME: forgot,
        IN_VAIN: "It said not_known, not accepted or done or refused.",
        MANY: forgot,
    }


def test_one_that_keeps_nothing_when_its_answer_is_lost(vendor):
    one_after_another = threading.Lock()

    def rolls_back(session, message):
        with one_after_another:
            before = dict(vendor.kept)
            try:
                session.work(message)
                session.connection.recv(1)  # nothing, when it was read
            except OSError:
                vendor.kept = before

    vendor.fault = rolls_back
    assert failed(vendor) == {IN_VAIN: "It said not_known, not accepted or done or refused."}


def test_one_that_takes_no_500(vendor):
    def few(session, message):
        session.answer(413, {}) if len(message.instructions) > 100 else session.work(message)

    vendor.fault = few
    assert failed(vendor) == {MANY: "The product answered 413."}


def test_one_that_redirects(vendor):
    vendor.fault = vendors.status(307, Location=vendor.url)
    assert failed(vendor) == {REACHED: "The product answered 307, a redirect, which is not followed."}


def test_one_that_wants_no_more(vendor):
    vendor.fault = vendors.status(410)
    assert failed(vendor) == {REACHED: "The product answered 410: it does not want to be called any more."}


def test_one_that_takes_its_time(vendor, monkeypatch):
    monkeypatch.setattr(calls, "DEADLINE", 2.0)

    def slow(session, message):
        if message.type == "instructions.to_come":
            time.sleep(1.1)
        session.work(message)

    vendor.fault = slow
    (found,) = failed(vendor).items()
    assert found[0] == IN_TIME
    assert re.fullmatch(r"The slowest took 1\.\d seconds\.", found[1])
