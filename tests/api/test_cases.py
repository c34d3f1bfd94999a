"""A case by the API alone, from the first look to the closing; each call once, and by the one rule."""

import pytest

from tests.api import Caller, caller
from tests.attacks import snapshot
from tests.factories import (
    Case,
    acting,
    agree,
    carry_out,
    case_awaiting,
    case_consented,
    case_unlocked,
    enter_contact,
    make_account,
    make_batch,
    make_batches,
    make_contact,
    make_item,
    make_token,
    open_case,
)
from tests.operations import kinds
from unlocks import operations, rules
from unlocks.ledger import chain, invariants
from unlocks.models import ApiCall, Batch, ConsentLink, LedgerEntry, UnlockRequest
from unlocks.rules import Refusal, judged

pytestmark = pytest.mark.django_db


def opening(account, batches):
    return {
        "account": account.number,
        "requester": account.contacts.order_by("pk").first().email,
        "channel": "portal",
        "bypass_reason": "by_mistake",
        "reason": "They want to export them.",
        "batches": [batch.number for batch in batches],
    }


@pytest.fixture
def by(superuser):
    return caller(superuser)


def test_a_case_from_the_first_look_to_the_closing(by):
    account = make_account()
    batches = make_batches(account=account, n=2)
    found = by.get(f"/batches?account={account.number}&status=bypassed").json()["data"]
    assert [row["can_be_unlocked"]["code"] for row in found] == ["not_requested"] * 2

    opened = by.post("/requests", opening(account, batches))
    case = UnlockRequest.objects.get()
    assert (opened.status_code, opened["Location"]) == (201, f"/api/v1/requests/{case.pk}")
    assert opened.json()["batches"] == {"waiting": 2}
    assert (case.opened_by.username, case.history.get().history_actor) == ("portal", "portal")

    address = opened["Location"].removeprefix("/api/v1")
    link = {"contact": account.contacts.get().email}
    assert by.post(f"{address}/consent-links", link).json()["code"] == Refusal.ADVICE_FIRST
    assert by.post(f"{address}/advice", {"advice": "wants_export"}).status_code == 200
    asked = by.post(f"{address}/consent-links", link)
    assert (asked.status_code, asked.json()["state"], asked.json()["email"]) == (201, "live", "queued")
    assert "url" not in asked.json()
    assert "/consent/" not in asked.content.decode()

    # Nothing is unlocked before the customer agreed.
    refused = by.post(f"{address}/unlock").json()
    assert (refused["done"], refused["refused"]) == (0, 2)
    assert refused["verdicts"][0]["code"] == Refusal.AWAITING_CUSTOMER
    assert refused["verdicts"][0]["sentence"] == f"Waiting for the customer's consent ({case})."

    agree(Case(unlock_request=case, account=account, admin=account.contacts.get()))
    assert by.get(address).json()["consents"][0]["state"] == "agreed"
    done = by.post(f"{address}/unlock").json()
    assert (done["kind"], done["done"], done["refused"]) == ("unlock", 2, 0)
    carry_out()
    relocked = by.post(f"{address}/relock", {"batches": [batches[0].number], "why": "Not needed"}).json()
    assert [(row["number"], row["done"]) for row in relocked["verdicts"]] == [(batches[0].number, True)]
    carry_out()
    by.post(f"{address}/re-exported")
    closed = by.get(address).json()
    assert (closed["status"], closed["resolution"]) == ("closed", "re_exported")  # by itself
    listed = by.get(f"{address}/batches").json()["data"]
    assert [row["outcome"] for row in listed] == ["relocked", "re_exported"]
    assert {entry.actor for entry in case.entries.filter(user__username="portal")} == {"portal"}
    assert list(chain.faults()) == []
    assert [wrong for wrong, offending in invariants.offenders() if offending.exists()] == []


def test_each_batch_is_judged_as_on_the_page(by, agent, superuser):
    ready, unlocked = case_consented(agent), case_unlocked(agent)
    make_batch(status="posted")
    make_item(batch=make_batch(), export_id="QB-1")
    system = by.get("/me").json()["system"]
    of_system = type(superuser).objects.get(username=system)
    told = {row["id"]: row["can_be_unlocked"] for row in by.get("/batches").json()["data"]}
    expected = {
        batch.pk: {
            "possible": not batch.refusal,
            "code": batch.refusal,
            "sentence": rules.sentence(batch.refusal, batch),
        }
        for batch in judged(Batch.objects.all(), by=of_system)
    }
    assert told == expected
    assert told[ready.batch.pk]["possible"]
    one = by.get(f"/batches/{unlocked.batch.pk}").json()
    assert (one["status"], one["total"], one["request"]) == ("unlocked", "100.00", unlocked.unlock_request.reference)


def test_a_list_is_read_page_by_page(by):
    made = make_batches(n=5)
    seen, after, pages = [], 0, 0
    while after is not None:
        page = by.get(f"/batches?limit=2&after={after}").json()
        seen, after, pages = seen + [row["id"] for row in page["data"]], page["next"], pages + 1
    assert (seen, pages) == ([batch.pk for batch in made], 3)
    items = by.get(f"/batches/{made[0].pk}/items").json()
    assert ([row["amount"] for row in items["data"]], items["next"]) == (["100.00"], None)


def test_what_did_not_change_is_not_sent_again(by):
    batch = make_batch()
    first = by.get(f"/batches/{batch.pk}")
    assert by.get(f"/batches/{batch.pk}", **{"if-none-match": first["ETag"]}).status_code == 304
    Batch.objects.filter(pk=batch.pk).update(period_closed=True)
    again = by.get(f"/batches/{batch.pk}", **{"if-none-match": first["ETag"]})
    assert (again.status_code, again["ETag"] == first["ETag"]) == (200, False)
    assert again["Cache-Control"] == "private, no-cache"


def test_names_and_notes_are_for_those_who_may_see_them(superuser, agent):
    case = case_consented(agent)
    blind, sees = (caller(superuser, *scopes) for scopes in (["read"], ["read", "personal"]))
    addresses = [
        f"/accounts/{case.account.pk}",
        f"/batches/{case.batch.pk}/items",
        f"/requests/{case.unlock_request.pk}",
        "/requests",
    ]
    words = [case.admin.name, case.admin.email, "Job site", "Bypassed by mistake"]
    for by, found in ((blind, 0), (sees, 4)):
        text = "".join(by.get(address).content.decode() for address in addresses)
        assert sum(word in text for word in words) == found


def test_a_refusal_names_nobody_to_those_who_may_not_see_names(superuser):
    account = make_account()
    office = make_contact(account=account, is_admin=False)
    body = opening(account, make_batches(account=account, n=1)) | {"requester": office.email}
    told = [
        caller(superuser, "requests", *more, system=f"portal-{len(more)}").post("/requests", body).json()["detail"]
        for more in ([], ["personal"])
    ]
    admin = account.contacts.get(is_admin=True)
    assert told == [
        "This contact is not an Admin of the account.",
        f"{office.name} is not an Admin of the account. Ask {admin.name}, or have one of them join the call.",
    ]


REFUSED = {
    "no account": ({"account": "none"}, "no_such_account"),
    "no contact": ({"requester": "stranger@customer.example"}, "no_such_contact"),
    "no batch": ({"batches": ["none"]}, "no_such_batch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_refused(by, case):
    account = make_account()
    fields, code = REFUSED[case]
    before = snapshot()
    answer = by.post("/requests", opening(account, make_batches(account=account, n=1)) | fields)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    after = snapshot()
    assert after["unlocks_unlockrequest"] == before["unlocks_unlockrequest"] == {}


def test_each_refusal_of_a_verb_is_told_with_its_sentence(by):
    account = make_account()
    posted, exported = make_batch(account=account, status="posted"), make_batch(account=account, status="exported")
    answer = by.post("/requests", opening(account, [posted, exported]))
    told = answer.json()
    assert (answer.status_code, told["code"], told["title"]) == (409, "posted", "Conflict")
    assert [reason["code"] for reason in told["refusals"]] == ["posted", "exported"]
    assert told["refusals"][0]["sentence"] == (
        f"{posted.number}: Posted, not bypassed. The customer can unpost it without Support."
    )


def test_a_system_s_own_rules_hold(by, manager):
    """An address that staff typed does not count until a second person confirmed it, for a system either."""
    account = make_account(admin=False)
    typed = enter_contact(account=account, by=manager)
    assert account.contacts.get() == typed
    answer = by.post("/requests", opening(account, make_batches(account=account, n=1)))
    assert answer.json()["code"] == Refusal.NOT_CONFIRMED


def test_the_same_key_gets_the_same_answer(by):
    account = make_account()
    body = opening(account, make_batches(account=account, n=2))
    first = by.post("/requests", body, key="open-1")
    assert first.status_code == 201
    before = snapshot()
    for _ in range(2):
        again = by.post("/requests", body, key="open-1")
        assert (again.status_code, again.content, again["Location"]) == (201, first.content, first["Location"])
    other = by.post("/requests", body | {"reason": "Another one"}, key="open-1")
    assert (other.status_code, other.json()["code"]) == (422, "key_of_another_call")
    elsewhere = by.post(f"/requests/{first.json()['id']}/notes", {"text": "Called"}, key="open-1")
    assert elsewhere.json()["code"] == "key_of_another_call"
    after = snapshot()
    assert (after["unlocks_unlockrequest"], after["unlocks_ledgerentry"], after["unlocks_apicall"]) == (
        before["unlocks_unlockrequest"],
        before["unlocks_ledgerentry"],
        before["unlocks_apicall"],
    )


def test_the_act_is_known_by_its_key_when_the_answer_is_not_kept_any_more(by):
    account = make_account()
    body = opening(account, make_batches(account=account, n=1))
    first = by.post("/requests", body, key="open-1")
    address = f"/requests/{first.json()['id']}"
    by.post(f"{address}/advice", {"advice": "wants_export"})
    notes = [by.post(f"{address}/notes", {"text": "Called"}, key="note-1").status_code]
    ApiCall.objects.all().delete()
    again = by.post("/requests", body, key="open-1")
    notes += [by.post(f"{address}/notes", {"text": "Called"}, key="note-1").status_code]
    assert (again.json()["id"], notes) == (first.json()["id"], [201, 201])
    assert UnlockRequest.objects.count() == LedgerEntry.objects.filter(kind="note").count() == 1


def test_a_key_is_of_one_system(by, superuser):
    account = make_account()
    body = opening(account, make_batches(account=account, n=1))
    by.post("/requests", body, key="open-1")
    _, token = make_token("another", "requests", by=superuser)
    answer = Caller(token).post("/requests", body, key="open-1")
    assert (answer.status_code, answer.json()["code"]) == (409, Refusal.IN_ANOTHER_REQUEST)
    _, token = make_token("portal", "requests", by=superuser)
    assert Caller(token).post("/requests", body, key="open-1").status_code == 201
    assert UnlockRequest.objects.count() == 1


def test_what_was_refused_may_be_tried_again_with_its_key(by, agent):
    case = open_case(agent)
    address, body = f"/requests/{case.unlock_request.pk}/consent-links", {"contact": case.admin.email}
    assert by.post(address, body, key="link-1").json()["code"] == Refusal.ADVICE_FIRST
    by.post(f"/requests/{case.unlock_request.pk}/advice", {"advice": "wants_export"}, key="advice-1")
    assert by.post(address, body, key="link-1").json()["state"] == "live"
    assert by.post(address, body, key="x" * 101).json()["code"] == "unreadable"
    assert kinds(case.unlock_request)[-1] == "link_sent"


def test_a_closed_request_lets_no_link_work(by, agent):
    account = make_account()
    opened = by.post("/requests", opening(account, make_batches(account=account, n=1))).json()
    address = f"/requests/{opened['id']}"
    by.post(f"{address}/advice", {"advice": "wants_export"})
    by.post(f"{address}/consent-links", {"contact": account.contacts.get().email})
    by.post(f"{address}/close", {"resolution": "canceled", "why": "They called it off"})
    assert operations.link_state(ConsentLink.objects.get()) == "revoked"
    again = by.post(f"{address}/notes", {"text": "They called again"})
    assert again.json()["link"]["state"] == "revoked"
    assert by.post(f"{address}/advice", {"advice": "wants_export"}).json()["code"] == Refusal.CLOSED
    assert operations.add_note.permission == "unlocks.open_request"
    assert acting(agent).may(operations.add_note.permission)


def test_batches_are_added_and_taken_out_until_the_customer_agreed(by, agent):
    case = case_awaiting(agent)
    address, more = f"/requests/{case.unlock_request.pk}", make_batch(account=case.account)
    numbers = {"batches": [more.number]}
    for _ in range(2):
        added = by.post(f"{address}/add-batches", numbers, key="add-1")
        assert (added.status_code, added.json()["batches"], added.json()["link"]["state"]) == (
            200,
            {"waiting": 3},
            "live",
        )
    assert by.post(f"{address}/add-batches", numbers).json()["code"] == Refusal.IN_ANOTHER_REQUEST
    taken = {"batches": [case.batch.number]}
    for _ in range(2):
        out = by.post(f"{address}/take-out-batches", taken, key="out-1").json()
        assert out["batches"] == {"waiting": 2, "not_unlocked": 1}
    assert kinds(case.unlock_request)[-2:] == ["batches_added", "batches_taken_out"]
    case.batches = [case.batches[1], more]
    agree(case)
    foreign, before = make_batch(), snapshot()
    for verb, body, code in (
        ("take-out-batches", numbers, Refusal.ANSWERED),
        ("add-batches", taken, Refusal.ANSWERED),
        ("add-batches", {"batches": [foreign.number]}, "no_such_batch"),
        ("take-out-batches", {"batches": []}, "unreadable"),
    ):
        answer = by.post(f"{address}/{verb}", body)
        assert (answer.json()["code"], answer["Content-Type"]) == (code, "application/problem+json")
    assert snapshot()["unlocks_requestedbatch"] == before["unlocks_requestedbatch"]
    assert snapshot()["unlocks_ledgerentry"] == before["unlocks_ledgerentry"]


def test_a_window_is_extended_once(by, agent):
    case = case_unlocked(agent)
    address, until = f"/requests/{case.unlock_request.pk}/extend-window", case.batch.unlocked_until
    body = {"hours": 72, "why": "Their bookkeeper is ill."}
    for _ in range(2):
        extended = by.post(address, body | {"batches": [case.batch.number]}, key="extend-1").json()
        assert (extended["kind"], extended["done"], extended["refused"]) == ("extend", 1, 0)
    assert case.refresh().batch.unlocked_until > until
    again = by.post(address, body).json()
    assert [(row["number"], row["code"]) for row in again["verdicts"]] == [
        (case.batch.number, Refusal.EXTENDED),
        (case.batches[1].number, ""),
    ]
    assert (by.post(address, body | {"hours": 0}).status_code, by.post(address, {"hours": 72}).status_code) == (
        422,
        422,
    )
    assert by.post(address, body | {"why": " "}).json()["code"] == "unreadable"
    assert by.post(address, body | {"hours": 73}).json()["code"] == Refusal.WINDOW_UNFIT
