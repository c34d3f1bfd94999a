"""Who gets in: a token that works, for what its scopes say; nothing else counts, and nothing shows a token."""

import logging
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from tests.api import ALL, Caller, caller
from tests.attacks import difference, snapshot
from tests.factories import acting, case_consented, make_token, make_user
from unlocks import operations
from unlocks.api import access, openapi
from unlocks.database import guards
from unlocks.models import CheckAttempts, LedgerEntry
from unlocks.roles import SCOPES

pytestmark = pytest.mark.django_db
ADDRESSES = [
    (method, path.removeprefix("/api/v1"))
    for path, operations_of in openapi.description()["paths"].items()
    for method in operations_of
]
# What each endpoint takes, by its address.
TAKES = {
    "/me": set(ALL),
    "/imports/{imported}": set(ALL),  # one's own: of another it is not found
    "/events": {"events"},
    "/instructions/answers": {"product"},
    "/accounts": {"records"},
    "/batches": {"records"},
    "/contacts": {"contacts"},
    "/accounts/{number}/pin": {"pins"},
}
ACTS = {"unlock", "cancel-unlock", "extend-window", "relock", "re-exported"}


def takes(method, address):
    if address in TAKES and not (method == "get" and address in ("/accounts", "/batches")):
        return TAKES[address]
    if method == "get":
        return {"read"}
    return {"unlock"} if address.rpartition("/")[2] in ACTS else {"requests"}


BODIES = {
    "/requests": {
        "account": "none",
        "requester": "a@customer.example",
        "channel": "portal",
        "bypass_reason": "by_mistake",
        "reason": "None",
        "batches": ["none"],
    },
    "/accounts": {"accounts": [{"number": "none", "name": ""}]},
    "/contacts": {"contacts": [{"account": "none", "name": "", "email": ""}]},
    "/batches": {"batches": [{"account": "none", "number": "none", "status": ""}]},
    "pin": {"pin": "482915"},
    "advice": {"advice": "wants_export"},
    "consent-links": {"contact": "a@customer.example"},
    "notes": {"text": "Note"},
    "close": {"resolution": "canceled", "why": "None"},
    "cancel-unlock": {"why": "None"},
    "add-batches": {"batches": ["none"]},
    "take-out-batches": {"batches": ["none"]},
    "extend-window": {"hours": 1, "why": "None"},
    "relock": {"why": "None"},
    "/instructions/answers": {"answers": [{"key": "0" * 8 + "-0000-4000-8000-" + "0" * 12, "state": "done"}]},
}


def call(by, method, address):
    if method == "get":
        return by.get(address)
    return by.post(address, BODIES.get(address) or BODIES.get(address.rpartition("/")[2]), method=method)


@pytest.fixture(scope="module")
def scene(shared):
    """A case that waits to be unlocked, and who makes tokens."""
    agent = make_user("agent", group="Agent")
    case = case_consented(agent)
    case.superuser = make_user("superuser", is_superuser=True)
    return case


def filled(scene, address):
    ids = {
        "account": scene.account.pk,
        "batch": scene.batch.pk,
        "case": scene.unlock_request.pk,
        "imported": UUID(int=0),
    }
    ids["number"] = scene.account.number
    for name, pk in ids.items():
        address = address.replace(f"{{{name}}}", str(pk))
    return address


def test_each_endpoint_takes_its_scope_and_no_other(scene, settings):
    """Walk over all endpoints with a token for each scope alone: whoever lacks it is told which one it takes."""
    settings.PRODUCT = "polling"
    settings.API_LIMIT = 10_000
    tokens = {scope: caller(scene.superuser, scope, system=f"only-{scope}") for scope in ALL}
    let_in = {
        (method, address): {
            scope for scope in ALL if call(tokens[scope], method, filled(scene, address)).status_code != 403
        }
        for method, address in ADDRESSES
        if address != "/instructions/pull"
    }
    assert let_in == {key: takes(*key) for key in let_in}
    answer = tokens["read"].post(filled(scene, "/requests/{case}/unlock"))
    assert answer.json() == {
        "title": "Forbidden",
        "status": 403,
        "detail": "This takes a token with the scope “unlock”.",
        "code": "scope_missing",
    }
    assert set(SCOPES) == set(ALL)


def test_what_is_no_token_that_works_is_nobody(scene):
    made, token = make_token("portal", "read", by=scene.superuser, days=1)
    over, revoked = make_token("portal", "read", by=scene.superuser)
    operations.revoke_api_token(over, by=acting(scene.superuser))
    off, deactivated = make_token("other", "read", by=scene.superuser)
    off.system.is_active = False
    operations.change_staff(off.system, off.system.save, by=acting(scene.superuser))
    assert Caller(token).get("/accounts").status_code == 200
    before = snapshot()
    headers = [
        None,
        "",
        token,
        f"Basic {token}",
        f"Bearer {token[:-1]}",
        f"Bearer {made.token_hash}",
        f"Bearer {revoked}",
        f"Bearer {deactivated}",
        "Bearer ud_",
        "Bearer \xe9" * 50,
    ]
    for header in headers:
        by = Caller()
        by.headers["authorization"] = header or ""
        for method, address in ADDRESSES if header is None else ADDRESSES[::7]:
            answer = call(by, method, filled(scene, address))
            assert (answer.status_code, answer["WWW-Authenticate"], answer["Content-Type"]) == (
                401,
                'Bearer realm="Unlock Desk"',
                "application/problem+json",
            )
    with time_machine.travel(timezone.now() + timedelta(days=1, seconds=1), tick=False):
        assert Caller(token).get("/accounts").status_code == 401
    assert difference(before, snapshot()) == []


def test_no_session_counts(scene):
    client = Client(enforce_csrf_checks=True)
    client.force_login(scene.superuser)
    assert client.get("/api/v1/accounts").status_code == 401
    assert client.post("/api/v1/requests", {}, content_type="application/json").status_code == 401
    by = caller(scene.superuser)
    by.client = client
    answer = by.get("/me")
    assert (answer.status_code, answer.json()["system"], answer.cookies) == (200, "portal", {})


def test_no_token_shows_anywhere(scene, caplog, settings, monkeypatch):
    caplog.set_level(logging.DEBUG)
    made, token = make_token("portal", "read", by=scene.superuser)
    by = Caller(token)
    answers = [by.get("/accounts"), by.get("/accounts/0"), by.get("/nowhere"), by.post("/requests", {"a": token})]

    def broken(*args, **kwargs):
        raise RuntimeError(f"It broke at {token}")

    monkeypatch.setattr("unlocks.rules.judged", broken)
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    by.client.raise_request_exception = False
    answers.append(by.get("/batches"))
    assert [answer.status_code for answer in answers] == [200, 422, 404, 403, 500]
    assert answers[-1].json()["code"] == "bug"
    said = "".join(answer.content.decode() for answer in answers) + repr(made)
    assert token not in said + repr(snapshot())
    # The record of the exception itself is for whoever runs the desk, and `config.logs` masks it.
    assert token not in "".join(record.getMessage() for record in caplog.records)


def test_calls_are_counted_by_token_for_all_processes(scene, settings):
    settings.API_LIMIT = 3
    one, other = caller(scene.superuser), caller(scene.superuser)
    with time_machine.travel(timezone.now().replace(second=10, microsecond=0), tick=False) as clock:
        assert [one.get("/me").status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = one.get("/me")
        assert (refused["Retry-After"], refused.json()["code"]) == ("50", "too_many_calls")
        assert other.get("/me").status_code == 200
        assert CheckAttempts.objects.filter(network__startswith="API token").count() == 2
        clock.shift(timedelta(seconds=50))
        assert one.get("/me").status_code == 200
    assert timedelta(minutes=1) == access.WINDOW


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"content_type": "text/plain"}, 415, "not_json"),
        ({"content_type": "application/json; charset=latin-1"}, 415, "not_utf_8"),
        ({"data": b"{"}, 400, "unreadable"),
        ({"data": b"[" * 100_000}, 400, "unreadable"),
        ({"data": b"\xff"}, 400, "unreadable"),
        ({"data": b" " * 3_000_000}, 413, "too_large"),
        ({"data": b""}, 415, "not_json"),
        ({"data": b"[]"}, 422, "unreadable"),
        ({"data": b'{"text": "a\\u0000b"}'}, 422, "unreadable"),
        ({"data": b'{"text": "\\ud800"}'}, 422, "unreadable"),
        ({"data": b'{"text": "   "}'}, 422, "unreadable"),
        ({"data": b'{"text": "Note", "txet": ""}'}, 422, "unreadable"),
    ],
)
def test_what_can_not_be_read_is_said(scene, sent, status, code):
    by = caller(scene.superuser)
    before = LedgerEntry.objects.count()
    sent = {"data": b'{"text": "Note"}', "content_type": "application/json"} | sent
    answer = by.client.post(f"/api/v1/requests/{scene.unlock_request.pk}/notes", headers=by.headers, **sent)
    assert (answer.status_code, answer.json()["code"], answer["Content-Type"]) == (
        status,
        code,
        "application/problem+json",
    )
    assert LedgerEntry.objects.count() == before


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/nowhere", 404, "not_found"),
        ("/accounts/", 404, "not_found"),
        ("/", 404, "not_found"),
        ("/accounts/99999999", 404, "not_found"),
        ("/accounts/abc", 422, "unreadable"),
        ("/accounts?numbr=1", 422, "unreadable"),
        ("/accounts?limit=1&limit=2", 422, "unreadable"),
        ("/accounts?limit=0", 422, "unreadable"),
        ("/accounts?limit=5.0", 422, "unreadable"),
        ("/accounts/%2B1", 422, "unreadable"),
        ("/accounts?after=" + "9" * 30, 422, "unreadable"),
        ("/accounts?number=%00", 422, "unreadable"),
        ("/batches?status=unknown", 422, "unreadable"),
        ("/requests/1/notes", 405, "no_such_method"),
        ("/requests/1/unlock?all=1", 405, "no_such_method"),
    ],
)
def test_an_address_that_leads_nowhere_is_said(scene, address, status, code):
    answer = caller(scene.superuser).get(address)
    assert (answer.status_code, answer.json()["code"], answer["Content-Type"]) == (
        status,
        code,
        "application/problem+json",
    )
    assert status != 405 or answer["Allow"] == "POST"


def test_what_the_database_can_not_do_is_a_503(scene, monkeypatch):
    def locked(*args, **kwargs):
        raise OperationalError("database is locked")

    by = caller(scene.superuser)
    monkeypatch.setattr("unlocks.rules.judged", locked)
    answer = by.get("/batches")
    assert (answer.status_code, answer["Retry-After"], answer.json()["code"]) == (503, "30", "unavailable")


def test_nothing_is_unlocked_while_guards_are_missing(scene, settings):
    settings.PRODUCT = "polling"
    by = caller(scene.superuser)
    connection.check_constraints()  # PostgreSQL drops no trigger of a table with checks still to come
    with guards.lifted():
        unlocked = by.post(f"/requests/{scene.unlock_request.pk}/unlock")
        pulled = by.post("/instructions/pull")
    for answer in (unlocked, pulled):
        assert (answer.status_code, answer["Retry-After"], answer.json()["code"]) == (503, "30", "guards_missing")
    assert {batch.status for batch in scene.refresh().batches} == {"bypassed"}


def test_everybody_may_read_the_description(db):
    first = Client().get("/api/v1/openapi.json")
    assert first.status_code == 200
    assert Client().get("/api/v1/openapi.json", headers={"if-none-match": first["ETag"]}).status_code == 304
