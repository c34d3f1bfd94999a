"""What the product puts: an answer for each record, once for each key; never a customer of its own, nor an unlock."""

import json
import logging
from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.api import THE_FEED, caller
from tests.attacks import difference, snapshot
from tests.factories import case_consented, case_unlocked, make_account, make_token
from tests.importing import lose_what_is_staged, on_file
from tests.operations import kinds, refused
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.api import putting, schemas
from unlocks.digest import sha256
from unlocks.imports.kinds import KINDS
from unlocks.imports.staging import Records
from unlocks.ledger import verify
from unlocks.models import (
    Account,
    ApiCall,
    ApiToken,
    Batch,
    BatchItem,
    Contact,
    Import,
    LedgerEntry,
    Outgoing,
    StagedAccount,
    StagedBatch,
)
from unlocks.rules import Refusal, judged, who_entered

pytestmark = pytest.mark.django_db

ACCOUNTS = [
    {"number": "A-1", "name": "Northwind", "active": True, "time_zone": "america/new_york", "external_id": "X1"},
    {"number": "A-2", "name": "Blue Ridge", "accounting_software": "Sage Intacct", "active": "no"},
]
CONTACTS = [
    {"account": "A-1", "name": "Dana", "email": "Dana@Northwind.example", "is_admin": True, "phone": "555"},
    {"account": "A-1", "name": "Omar", "email": "omar@northwind.example"},
]
LINES = [{"sku": "S-1", "quantity": 2, "price": 3.0, "total": "6.00"}, {"description": "Service", "total": 4}]
BATCHES = [
    {
        "account": "A-1",
        "number": "B-1",
        "status": "exported",
        "reached_by": "bypassed",
        "exported_on": "2026-05-02",
        "period_closed": False,
        "item_count": 2,
        "total": 30,
        "items": [
            {"kind": "invoice", "number": "I-1", "date": "5/1/2026", "amount": 10, "memo": "Memo", "lines": LINES},
            {"kind": "invoice", "number": "I-2", "date": "2026-05-01", "amount": "20.00", "customer": "K. Brandt"},
        ],
    },
    {"account": "A-1", "number": "B-2", "status": "posted", "posted_on": "2026-06-01", "item_count": 1, "total": 5},
]


@pytest.fixture
def feed(superuser):
    """The product, which puts what it has."""
    return caller(superuser, *THE_FEED, system="feed")


def put(by, kind, records, **more):
    answer = by.post(f"/{kind}", {kind: records}, **more)
    assert answer.status_code == 200, answer.content
    return answer.json()


def results(answer):
    """Return (result, (code, where, sentence)...) of each record."""
    return [
        (
            one["result"],
            *((flaw["code"], flaw["where"].removeprefix("body."), flaw["sentence"]) for flaw in one["problems"]),
        )
        for one in answer["records"]
    ]


def test_what_a_crash_of_the_database_lost_is_a_503_and_the_same_call_again_brings_it(feed):
    begun = []

    def crash(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if sql.startswith('UPDATE "unlocks_import" SET "state"') and "ready" in params and not begun:
            begun.append(sql)
            lose_what_is_staged()
        return answer

    with connection.execute_wrapper(crash):
        answer = feed.post("/accounts", {"accounts": ACCOUNTS}, key="once")
    lost = "What was read was lost when the database restarted. Import it again."
    assert (answer.status_code, answer["Retry-After"], answer.json()["detail"]) == (503, "30", lost)
    assert on_file()["accounts"] == []
    again = feed.post("/accounts", {"accounts": ACCOUNTS}, key="once")
    assert (again.status_code, results(again.json())) == (200, [("new",), ("new",)])
    assert sorted(Import.objects.values_list("state", "why_failed")) == [("done", ""), ("failed", lost)]


def test_what_the_product_has_is_put_and_the_same_again_changes_nothing(feed):
    first = [put(feed, kind, records) for kind, records in _all()]
    assert [results(one) for one in first] == [[("new",), ("new",)]] * 3
    assert first[2]["counts"] == {"batches": {"new": 2}, "items": {"new": 2}, "lines": {"new": 2}}
    assert on_file() == {
        "accounts": [("A-1", "Northwind", True, "X1"), ("A-2", "Blue Ridge", False, "")],
        "contacts": [
            ("A-1", "Dana", "dana@northwind.example", True, ""),
            ("A-1", "Omar", "omar@northwind.example", False, ""),
        ],
        "batches": [
            ("A-1", "B-1", "", "bypassed", "", Decimal("30.00"), 2, ""),
            ("A-1", "B-2", "", "posted", "", Decimal("5.00"), 1, ""),
        ],
        "items": [
            (
                "B-1",
                "invoice",
                "I-1",
                "",
                Decimal("10.00"),
                "Memo",
                '[{"price":"3.00","quantity":"2","sku":"S-1","total":"6.00"},{"description":"Service","total":"4.00"}]',
            ),
            ("B-1", "invoice", "I-2", "K. Brandt", Decimal("20.00"), "", "[]"),
        ],
    }
    # The product's own word counts: nobody has to confirm it, and nobody is emailed.
    assert list(Contact.objects.values_list("entered_by", "entered_in", "is_admin").order_by("pk")) == [
        (None, None, True),
        (None, None, False),
    ]
    assert not Outgoing.objects.exists()
    assert set(Import.objects.values_list("source", "actor", "state", "parts", "done")) == {
        ("api", "feed", "done", 1, 1)
    }

    written = [model.history.count() for model in (Account, Contact, Batch, BatchItem)]
    again = [put(feed, kind, records) for kind, records in _all()]
    assert [results(one) for one in again] == [[("same",), ("same",)]] * 3
    assert [model.history.count() for model in (Account, Contact, Batch, BatchItem)] == written

    changed = [
        {**BATCHES[0], "items": BATCHES[0]["items"][:1], "total": 10, "item_count": 1},
        {**BATCHES[1], "name": "June"},
    ]
    answer = put(feed, "batches", changed)
    assert results(answer) == [("changed",), ("changed",)]
    assert answer["counts"]["items"] == {"no_longer_listed": 1, "same": 1}
    assert LedgerEntry.objects.filter(kind="imported").count() == 7
    assert (StagedBatch.objects.count(), verify.findings()) == (0, [])


def _all():
    return [("accounts", ACCOUNTS), ("contacts", CONTACTS), ("batches", BATCHES)]


EMPTY, AMBIGUOUS = (
    "This has to be filled in.",
    ("This can't be read as a number in one way only. Write it with a point, such as 1234.50."),
)


def test_each_record_is_judged_by_itself(feed):
    put(feed, "accounts", ACCOUNTS)
    put(feed, "batches", BATCHES)
    accounts = [
        ACCOUNTS[0],
        ACCOUNTS[0],
        {"number": " ", "name": None},
        {"number": "A-3", "name": "C", "external_id": "X1"},
    ]
    assert results(put(feed, "accounts", accounts)) == [
        ("same",),
        ("refused", ("refused", "accounts.1", "An account with this number came before in this call.")),
        ("refused", ("unreadable", "accounts.2.number", EMPTY), ("unreadable", "accounts.2.name", EMPTY)),
        ("refused", ("refused", "accounts.3", "An account with this external ID came before in this call.")),
    ]
    contacts = [CONTACTS[0], CONTACTS[0] | {"email": "dana"}, CONTACTS[0] | {"account": "A-9"}]
    unknown = "There is no account A-9. Add it to a file of accounts, or correct the number."
    assert results(put(feed, "contacts", contacts)) == [
        ("new",),
        (
            "refused",
            ("unreadable", "contacts.1.email", "This is not one email address, such as name@company.example."),
        ),
        ("refused", ("refused", "contacts.2", unknown)),
    ]
    to_come = "What is said of batch B-9 holds as of a time to come. Correct as_of, or the clock behind it."
    item = BATCHES[0]["items"][0]
    pending = {"account": "A-1", "status": "pending", "items": [item]}
    batches = [
        BATCHES[0] | {"items": [item, item | {"amount": "1,2"}]},
        {"account": "A-1", "number": "B-3", "status": "bypassed", "total": 1e30},
        pending | {"number": "B-4", "items": [item, item | {"lines": None}], "total": 10},
        pending | {"number": "B-5", "items": []},
        pending | {"number": "B-6", "items": [item | {"lines": [{}, {"price": "x"}]}]},
        pending | {"number": "B-7", "account": None},
        pending | {"number": "B-8", "total": 11},
        pending | {"number": "B-8", "items": [item | {"number": "I-9"}]},
        BATCHES[1] | {"as_of": "2020-01-01T00:00:00Z", "name": "Old"},
        pending | {"number": "B-9", "as_of": "2099-01-01T00:00:00Z"},
    ]
    answer = put(feed, "batches", batches)
    assert results(answer) == [
        (
            "refused",
            ("refused", "batches.0", "One of its items has an error, and a batch comes whole."),
            ("unreadable", "batches.0.items.1.amount", AMBIGUOUS),
        ),
        ("refused", ("unreadable", "batches.1.total", AMBIGUOUS)),
        ("new", ("came_before", "batches.2.items.1", "Item I-1 of batch B-4 came before in this call.")),
        ("refused", ("unreadable", "batches.3.items", putting._EMPTIED)),
        (
            "refused",
            ("refused", "batches.4", "One of its lines has an error, and a batch comes whole."),
            ("unreadable", "batches.4.items.0.lines.1.price", AMBIGUOUS),
        ),
        ("refused", ("unreadable", "batches.5.account", EMPTY)),
        (
            "new",
            (
                "does_not_add_up",
                "batches.6",
                "The items of batch B-8 don't add up: 1, $10.00 in total. The batch says 1, $11.00 in total.",
            ),
        ),
        ("refused", ("came_before", "batches.7", "Batch B-8 came before in this call.")),
        ("left_alone", ("left_alone", "batches.8", "What is on file of batch B-2 is newer than this.")),
        ("refused", ("refused", "batches.9", to_come)),
    ]
    assert [row[2] for row in on_file()["items"] if row[0] in ("B-4", "B-8")] == ["I-1", "I-1"]
    page = feed.get(f"/imports/{answer['id']}?limit=2").json()
    assert ([flaw["where"] for flaw in page["problems"]], page["state"]) == (
        ["body.batches.1.total", "body.batches.3.items"],
        "done",
    )
    last = feed.get(f"/imports/{answer['id']}?after={page['next']}&limit=200").json()
    assert (last["next"], [flaw["code"] for flaw in last["problems"]].count("left_alone")) == (None, 1)
    # Nothing was said of these, or that it is empty.
    put(feed, "contacts", [{"account": "A-1", "name": "Dana", "email": "dana@northwind.example", "phone": ""}])
    assert Contact.objects.values_list("phone", "is_admin").get() == ("", True)


def test_the_feed_changes_what_a_customer_agreed_to_and_the_consent_no_longer_fits(feed, agent):
    case = case_consented(agent)
    row = {
        "account": case.account.number,
        "number": case.batch.number,
        "status": "bypassed",
        "bypassed_on": "2026-11-20",
    }
    of_case = Batch.objects.filter(pk=case.batch.pk)
    assert judged(of_case, by=agent).get().refusal == ""
    assert results(put(feed, "batches", [row | {"total": 99}])) == [("changed",)]
    assert judged(of_case, by=agent).get().refusal == Refusal.CHANGED


def test_what_the_product_exported_closes_its_line_and_nothing_else_unlocks(feed, agent):
    case, other = case_unlocked(agent), case_consented(agent)
    rows = [
        {"account": one.account.number, "number": one.batch.number, "status": status, "exported_on": "2026-11-26"}
        for one, status in ((case, "exported"), (other, "posted"))
    ]
    assert results(put(feed, "batches", rows)) == [("changed",), ("changed",)]
    assert [(one.batch.status, one.batch.differs) for one in (case.refresh(), other.refresh())] == [
        ("exported", ""),
        ("bypassed", "posted"),
    ]
    assert kinds(case.unlock_request)[-1] == "re_exported"
    assert case.unlock_request.lines.get(batch=case.batch).outcome == "re_exported"
    assert verify.findings() == []


def test_one_key_is_one_import(feed, superuser, settings):
    body = {"accounts": ACCOUNTS}
    first = feed.post("/accounts", body, key="put-1")
    again = feed.post("/accounts", body, key="put-1")
    assert (again.content, again["Location"], again.status_code) == (first.content, first["Location"], 200)
    assert Import.objects.count() == 1
    for address, other in (("/accounts", {"accounts": ACCOUNTS[:1]}), ("/batches", {"batches": BATCHES})):
        assert feed.post(address, other, key="put-1").json()["code"] == "key_of_another_call"
    # The line broke before the answer came, or while the call was under way.
    ApiCall.objects.update(status=0, answer="")
    followed = feed.post("/accounts", body, key="put-1")
    assert (followed.status_code, followed.json()["state"], followed["Location"]) == (202, "done", first["Location"])
    ApiCall.objects.update(location="/api/v1/imports/00000000-0000-4000-8000-000000000000")
    assert feed.post("/accounts", body, key="put-1").json()["code"] == "under_way"
    ApiCall.objects.update(at=timezone.now() - 2 * putting.UNDER_WAY)
    assert results(feed.post("/accounts", body, key="put-1").json()) == [("same",), ("same",)]
    assert feed.post("/accounts", body, key="put-1").status_code == 200
    assert Import.objects.count() == 2


def test_many_records_are_left_to_the_worker(feed, superuser, monkeypatch):
    monkeypatch.setattr(putting, "AT_ONCE", 3)
    put(feed, "accounts", ACCOUNTS)
    sent = {"batches": [*BATCHES, {**BATCHES[1], "number": " "}]}
    asked = feed.post("/batches", sent, key="many")
    assert (asked.status_code, asked.json()["state"], Batch.objects.count()) == (202, "applying", 0)
    address = asked["Location"].removeprefix("/api/v1")
    while operations.finish_imports():
        pass
    said = feed.get(address).json()
    assert (said["state"], said["counts"]["batches"], said["why_failed"]) == ("done", {"new": 2, "refused": 1}, "")
    assert [flaw["where"] for flaw in said["problems"]] == ["body.batches.2.number"]
    assert (
        feed.post("/batches", {"batches": [*BATCHES, {**BATCHES[1], "number": " "}]}, key="many").content
        == asked.content
    )
    # Of another system, or of what a token may not put, nothing is found.
    for by in (caller(superuser), caller(superuser, "contacts", system="feed")):
        assert by.get(address).status_code == 404


def test_a_call_that_broke_off_is_dropped_by_the_worker_or_gone_on_with(feed, superuser):
    body, sources = {"accounts": ACCOUNTS}, [putting._flat("accounts", [schemas.AccountIn(**one) for one in ACCOUNTS])]
    by = Actor.system(ApiToken.objects.get())
    first = feed.post("/accounts", body, key="one")
    broken = operations.stage_import(sources, source="api", by=by, judge=False)
    before = timezone.now() - 2 * putting.UNDER_WAY
    ApiCall.objects.update(status=0, location=f"/api/v1/imports/{broken.pk}", at=before)
    assert feed.post("/accounts", body, key="one").json()["state"] == "applying"
    assert operations.finish_imports() == 1
    broken = operations.stage_import(sources, source="api", by=by, judge=False)
    Import.objects.filter(pk=broken.pk).update(leased_until=before)
    assert [operations.finish_imports() for _ in range(2)] == [1, 0]
    broken.refresh_from_db()
    assert (broken.state, StagedAccount.objects.count()) == ("failed", 0)
    ApiCall.objects.update(location=f"/api/v1/imports/{broken.pk}")
    again = feed.post("/accounts", body, key="one")
    assert (results(again.json()), again["Location"] != first["Location"]) == ([("same",), ("same",)], True)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"{", 400, "unreadable"),
        (b"[" * 100_000, 400, "unreadable"),
        (b"\xff", 400, "unreadable"),
        (b'{"accounts": []}', 422, "unreadable"),
        (b'{"accounts": [{"number": 5, "name": "N"}]}', 422, "unreadable"),
        (b'{"accounts": [{"number": "5", "name": "N", "nmae": 1}]}', 422, "unreadable"),
        (b'{"accounts": [{"number": "5", "name": "N", "pin": "482915"}]}', 422, "unreadable"),
        (b" " * (putting.LONGEST + 1), 413, "too_large"),
    ],
)
def test_what_can_not_be_read_at_all(feed, sent, status, code):
    headers = feed.headers | {"idempotency-key": "one"}
    answer = feed.client.post("/api/v1/accounts", sent, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (Import.objects.count(), ApiCall.objects.count()) == (0, 0)


def test_the_statements_are_as_many_for_two_batches_as_for_many(feed):
    put(feed, "accounts", ACCOUNTS)

    def statements(n, start):
        rows = [{**BATCHES[0], "number": f"C-{start + one}"} for one in range(n)]
        with CaptureQueriesContext(
            connection,
        ) as captured:
            put(feed, "batches", rows)
        return len(captured)

    assert statements(2, 0) == statements(100, 100)


def test_a_pin_is_set_and_shows_nowhere(feed, caplog):
    caplog.set_level(logging.DEBUG)
    account = make_account(pin="", number="P/1")
    answers = [
        feed.put("/accounts/P/1/pin", {"pin": pin}, key="pin") for pin in ("482916", "482916", "48291x", "482917")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 200]
    assert [answers[0].json(), answers[1].json()] == [
        {"account": "P/1", "changed": True},
        {"account": "P/1", "changed": False},
    ]
    account.refresh_from_db()
    assert pins.matches("482917", account.pin_hash)
    assert feed.put("/accounts/none/pin", {"pin": "482916"}).status_code == 404
    kept = json.dumps(snapshot(), default=str) + "".join(answer.content.decode() for answer in answers) + caplog.text
    assert [pin for pin in ("482916", "48291x", "482917") if pin in kept] == []
    # A digest of six digits is as good as the digits: none is kept of this call, and of others a keyed one.
    assert not ApiCall.objects.exists()
    feed.post("/accounts", {"accounts": ACCOUNTS}, key="one")
    sent = b"/api/v1/accounts\n" + json.dumps({"accounts": ACCOUNTS}).encode()
    assert ApiCall.objects.get().sha256 not in (sha256(sent), sha256(sent.partition(b"\n")[2]))


def test_no_token_makes_up_a_customer(superuser, agent):
    """Who puts contacts or PINs can do nothing with requests, and who works on requests puts neither."""
    with refused(Refusal.MAKES_UP_CUSTOMERS):
        make_token("both", "contacts", "unlock", by=superuser)
    case = case_consented(agent)
    address = f"/requests/{case.unlock_request.pk}"
    feed, records, portal = (
        caller(superuser, *THE_FEED, system="feed"),
        caller(superuser, "records", system="records"),
        caller(superuser),
    )
    admin = {"account": case.account.number, "name": "Mallory", "email": "mallory@customer.example", "is_admin": True}
    before = snapshot()
    tried = [
        feed.post(f"{address}/unlock"),
        feed.post(f"{address}/consent-links", {"contact": case.admin.email}),
        portal.post("/contacts", {"contacts": [admin]}),
        portal.put(f"/accounts/{case.account.number}/pin", {"pin": "482916"}),
        portal.post("/batches", {"batches": BATCHES}),
        records.post("/contacts", {"contacts": [admin]}),
        records.put(f"/accounts/{case.account.number}/pin", {"pin": "482916"}),
    ]
    assert [answer.json()["code"] for answer in tried] == ["scope_missing"] * 7
    noted = {"unlocks_apitoken", "unlocks_checkattempts"}  # that they called
    assert set(difference(before, snapshot())) <= noted
    # Nor does the verb let in what the address would not.
    token, _ = make_token("records", "records", by=superuser)
    with pytest.raises(PermissionDenied, match="put_contacts"):
        operations.stage_import([Records(KINDS["contacts"], [])], source="api", by=Actor.system(token))
    # By two systems of the same person nothing is asked of whom the one put.
    put(feed, "contacts", [admin])
    assert portal.post(f"{address}/consent-links", {"contact": case.admin.email}).json()["code"] == "tokens_maker"
    assert list(who_entered(Contact.objects.get(name="Mallory"))) == [superuser]
    # A new status unlocks nothing: there is none to say it with, and a consented batch waits for its unlock.
    row = {"account": case.account.number, "number": case.batch.number, "status": "unlocked"}
    assert results(put(records, "batches", [row]))[0][0] == "refused"
    assert case.refresh().batch.status == "bypassed"
