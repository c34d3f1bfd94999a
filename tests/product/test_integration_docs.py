"""docs/integration.md says what is: its messages are those of the desk, and its endpoint passes the checks."""

import argparse
import doctest
import io
import json
import re
import shlex
import threading
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.core import management
from django.test import Client

from tests.api import caller
from tests.factories import Case, agree, case_unlocking, hand_over, make_user
from tests.product.made_up import instruction
from unlocks.api import acting, putting, schemas
from unlocks.ledger import verify
from unlocks.models import ApiCall, ApiToken, Batch, Instruction, UnlockRequest
from unlocks.outbox.rows import LEASE, WAITS
from unlocks.product import answers, calls, conformance, webhook
from unlocks.product.port import State

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "integration.md"
TEXT = DOCUMENT.read_text()
KEY = UUID("0b7c1f6e-9f0e-4c53-8d5a-3a4f7c0d9e21")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def endpoint():
    """What the document's two programs define."""
    defined = {"__name__": "endpoint"}
    for source in blocks("python"):
        exec(compile(source, DOCUMENT.name, "exec"), defined)
    return SimpleNamespace(**defined)


@pytest.fixture
def called(endpoint, settings):
    """The address at which the document's endpoint answers, as the desk's product."""
    endpoint.Endpoint.log_message = lambda *args: None
    endpoint.kept.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), endpoint.Endpoint) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        settings.PRODUCT, settings.PRODUCT_SECRETS = "webhook", endpoint.SECRETS
        settings.PRODUCT_URL = f"http://127.0.0.1:{server.server_address[1]}/"
        yield settings.PRODUCT_URL
        server.shutdown()


def test_the_message_is_what_the_desk_sends():
    shown = json.loads(blocks("json")[0])
    made = instruction(queued_at=datetime(2026, 11, 27, 15, 4, 5, tzinfo=UTC))
    made.key = KEY
    assert shown == json.loads(webhook.message(webhook.CARRY_OUT, [made]))


def test_the_answer_is_what_the_desk_reads():
    items = answers.items(blocks("json")[1].encode())
    assert [(one.state, one.text) for one in (answers.answer(item, webhook.GIVEN) for item in items)] == [
        (State.DONE, "JOB-7781"),
        (State.REFUSED, "The batch was exported today."),
        (State.ACCEPTED, ""),
    ]


@pytest.fixture
def systems(db, settings):
    """The two systems that the document has call an empty desk, by the variables of their tokens."""
    settings.PRODUCT = "polling"
    root, other = (make_user(name, is_superuser=True) for name in ("root", "other"))
    return {
        "$FEED": caller(root, "records", "contacts", "pins", system="product"),
        "$TOKEN": caller(other, "read", "personal", "requests", "unlock", "product", "events"),
    }


def curl_calls():
    """Return the calls by curl, each in one line."""
    return re.split(r"\n(?=curl )", "".join(blocks("curl")).replace("\\\n", " ").strip())


def curled(systems, line):
    """Call what a line of curl calls. It has the options that the document uses, and no others."""
    command, *words = shlex.split(line.replace("$DESK", ""))
    parser = argparse.ArgumentParser(prog=command)
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-X", dest="method", default="POST")
    parser.add_argument("-H", action="append", dest="headers", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("address")
    sent = parser.parse_args(words)
    headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in sent.headers)}
    by = systems[headers.pop("authorization").removeprefix("Bearer ")]
    if sent.body is None:
        return by.get(sent.address, **headers)
    assert headers.pop("content-type") == "application/json"
    return by.post(sent.address, json.loads(sent.body), method=sent.method.lower(), **headers)


def _newest():
    """Return the id of the request: 1 in the document, another one where sequences are not begun anew."""
    return UnlockRequest.objects.order_by("-pk").values_list("pk", flat=True).first()


def _walked(systems, to=None):
    """Call the lines as they stand, in their order, down to one; return the answers of each address.

    The customer agrees where the document says so.
    """
    said = {}
    for line in curl_calls():
        assert line.startswith("curl -s ")
        name = re.search(r"\$DESK([^ ?\"]*)", line)[1]
        if name == to:
            break
        if name == "/requests/1/unlock":
            case = UnlockRequest.objects.get()
            agree(Case(unlock_request=case, account=case.account, admin=case.requester), pin="482915")
        if name == "/instructions/answers":
            line = line.replace(str(KEY), said["/instructions/pull"][0]["instructions"][0]["key"])
        answer = curled(systems, line.replace("/requests/1", f"/requests/{_newest()}"))
        assert answer.status_code in (200, 201), (line, answer.content)
        said.setdefault(name, []).append(answer.json())
    return said


def test_each_line_of_curl_leads_to_a_first_unlock(systems):
    said = _walked(systems)
    assert said["/me"][0]["system"] == "portal"
    put, read, exported = said["/batches"]
    assert {**json.loads(blocks("json")[2]), "id": put["id"]} == put
    assert [row["number"] for row in read["data"]] == ["B-1042", "B-1043"]
    assert exported["records"] == [{"record": 0, "result": "changed", "problems": []}]
    assert said["/accounts/5001/pin"] == [{"account": "5001", "changed": True}]
    assert said["/requests/1/consent-links"][0]["state"] == "live"
    assert (said["/requests/1/unlock"][0]["done"], said["/requests/1/unlock"][0]["refused"]) == (1, 0)
    assert [one["ask"] for one in said["/instructions/pull"][0]["instructions"]] == ["carry_out"]
    assert said["/instructions/answers"][0]["answers"][0]["state"] == "done"
    assert list(UnlockRequest.objects.values_list("status", "resolution")) == [("closed", "re_exported")]
    told = {event["kind"] for event in said["/events"][0]["data"]}
    assert {"imported", "pin_issued", "opened", "consented", "unlocked", "re_exported", "closed"} <= told
    assert sorted(Batch.objects.values_list("number", "status")) == [("B-1042", "exported"), ("B-1043", "bypassed")]
    assert verify.findings() == []


@pytest.mark.django_db
def test_the_problem_is_what_the_desk_says(systems):
    _walked(systems, to="/requests/1/advice")
    address = f"/requests/{_newest()}/consent-links"
    refused = systems["$TOKEN"].post(address, {"contact": "dana@customer.example"})
    assert refused.json() == json.loads(blocks("json")[3])


def test_the_scopes_are_those_of_the_code():
    table = TEXT.partition("| Scope |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| (\w+) \|", table, re.M)) == sorted(ApiToken.Scope.values)
    assert (putting.AT_ONCE, putting.ROWS, putting.LONGEST) == (20_000, 200_000, 16 * 1024 * 1024)
    assert (schemas.MOST, acting.LISTED, ApiCall.KEPT_FOR.days, LEASE.total_seconds()) == (5000, 1000, 30, 300)


def test_the_numbers_are_those_of_the_code():
    hours = [wait.total_seconds() / 3600 for wait in WAITS]
    assert hours == [5 / 3600, 5 / 60, 0.5, 2, 5, 10]
    assert (calls.DEADLINE, calls.READ_AT_MOST, answers.AT_ONCE, answers.LONGEST) == (30, 2 * 1024 * 1024, 500, 500)


def test_states_are_named():
    assert {*re.findall(r"^\| `(\w+)` \|", TEXT, re.M)} == {*webhook.MAY_ANSWER[webhook.STATE]}
    told = TEXT.partition("in the desk's words (")[2].partition(")")[0]
    assert re.findall(r"`(\w+)`", told) == Instruction.State.values


def test_the_signature_is_that_of_the_library():
    found = doctest.DocTestParser().get_doctest(TEXT, {}, DOCUMENT.name, str(DOCUMENT), 0)
    said = []
    results = doctest.DocTestRunner().run(found, out=said.append)
    assert (results.failed, results.attempted, said) == (0, 5, [])


def test_the_endpoint_passes_the_checks(called):
    management.call_command("check_product", stdout=(out := io.StringIO()))
    assert out.getvalue().splitlines()[-1] == f"All {len(conformance.CHECKS)} checks passed."


def test_the_endpoint_does_what_it_is_told_to(called):
    made = [instruction(), instruction("B-7", what="lock")]
    said = webhook.Webhook().carry_out(made)
    assert [(one.state, one.text) for one in said] == [(State.DONE, "unlock B-1042"), (State.DONE, "lock B-7")]


@pytest.mark.django_db
def test_its_later_answer_is_taken(endpoint, settings, agent):
    settings.PRODUCT, settings.PRODUCT_SECRETS = "webhook", endpoint.SECRETS
    case_unlocking(agent)
    one, other = hand_over()
    done = {"key": str(one.key), "state": "done", "reference": "JOB-1"}
    sent = endpoint.later([done, {"key": str(other.key), "state": "refused", "reason": "Exported."}])
    assert sent.full_url == "https://desk.example/product/answers/"
    headers = {name: value for name, value in sent.header_items() if name != "Content-type"}
    taken = Client().post("/product/answers/", sent.data, content_type="application/json", headers=headers)
    assert taken.json() == {
        "answers": [{"key": str(one.key), "state": "done"}, {"key": str(other.key), "state": "refused"}]
    }
