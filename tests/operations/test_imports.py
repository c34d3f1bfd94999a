"""Importing: what is made of each record, what is written, and what no import does."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Sum
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import factories
from tests.factories import acting, case_consented, case_unlocked, case_unlocking, make_account, make_batch, make_user
from tests.importing import bring, bringing, on_file, sentences, staged
from tests.operations import only_for, refused
from unlocks import operations
from unlocks.imports.kinds import KINDS
from unlocks.imports.staging import Records
from unlocks.ledger import verify
from unlocks.models import (
    Account,
    Act,
    Batch,
    BatchItem,
    Contact,
    Import,
    Outgoing,
    RequestedBatch,
    StagedBatch,
    StagedItem,
)
from unlocks.rules import Refusal, judged

pytestmark = pytest.mark.django_db

FIRST = {
    "accounts": """A-1,Northwind,quickbooks_online,yes,America/New_York,X1
        A-2,Blue Ridge,none,no,,""",
    "contacts": """A-1,Dana,dana@northwind.example,555,yes,C1
        A-1,Omar,omar@northwind.example,,no,""",
    "batches": """A-1,B-1,May,bypassed,,5/1/2026,5/2/2026,,no,2,30.00,,E1
        A-1,B-2,June,posted,,6/1/2026,,,no,1,5.00,,
        A-2,B-1,Other,exported,bypassed,,,7/1/2026,,0,0,,""",
    "items": """A-1,B-1,invoice,I-1,5/1/2026,R. Alvarez,10.00,Memo,,T1,J1,North
        A-1,B-1,invoice,I-2,5/1/2026,K. Brandt,20.00,,QBO-1,,,
        A-1,B-2,payment,P-1,6/1/2026,,5.00,,,,,""",
    "lines": """A-1,B-1,invoice,I-1,2,SKU2,,1,4.00,4.00,
        A-1,B-1,invoice,I-1,1,SKU1,Service,2,3.00,6.00,Income""",
}
LINES = (
    '[{"description":"Service","gl_account":"Income","price":"3.00","quantity":"2","sku":"SKU1","total":"6.00"},'
    '{"price":"4.00","quantity":"1","sku":"SKU2","total":"4.00"}]'
)


@pytest.fixture(scope="module")
def importer(shared):
    return make_user("importer", group="Manager")


@pytest.fixture(scope="module")
def first(importer):
    return bring(importer, **FIRST)


def counts(imported):
    return {kind: counted for kind, counted in imported.counts.items() if kind in ("batches", "items", "contacts")}


def test_a_first_import(first, importer):
    assert sentences(first) == []
    assert (first.state, first.parts, first.done, first.leased_until) == ("done", 3, 3, None)
    assert first.counts == {
        "accounts": {"new": 2},
        "contacts": {"new": 2},
        "batches": {"new": 3},
        "items": {"new": 3},
        "lines": {"new": 2},
    }
    assert on_file() == {
        "accounts": [("A-1", "Northwind", True, "X1"), ("A-2", "Blue Ridge", False, "")],
        "contacts": [
            ("A-1", "Dana", "dana@northwind.example", True, "C1"),
            ("A-1", "Omar", "omar@northwind.example", False, ""),
        ],
        "batches": [
            ("A-1", "B-1", "May", "bypassed", "", Decimal("30.00"), 2, "E1"),
            ("A-1", "B-2", "June", "posted", "", Decimal("5.00"), 1, ""),
            ("A-2", "B-1", "Other", "bypassed", "", Decimal("0.00"), 0, ""),
        ],
        "items": [
            ("B-1", "invoice", "I-1", "R. Alvarez", Decimal("10.00"), "Memo", LINES),
            ("B-1", "invoice", "I-2", "K. Brandt", Decimal("20.00"), "", "[]"),
            ("B-2", "payment", "P-1", "", Decimal("5.00"), "", "[]"),
        ],
    }
    assert not StagedItem.objects.exists()
    assert not Outgoing.objects.exists()
    assert verify.findings() == []


def test_the_same_again_changes_nothing(first, importer):
    histories = [model.history.count for model in (Account, Contact, Batch, BatchItem)]
    before = [count() for count in histories]
    for items in (FIRST["items"], "\n".join(reversed(FIRST["items"].splitlines()))):
        again = bring(importer, **FIRST | {"items": items})
        assert again.counts == {
            "accounts": {"same": 2},
            "contacts": {"same": 2},
            "batches": {"same": 3},
            "items": {"same": 3},
            "lines": {"same": 2},
        }
    assert [count() for count in histories] == before


# What comes in after FIRST, what is said of it, and the counts: by kind.
JUDGED = {
    "a name": ({"accounts": "A-1,North Wind,,,,X1"}, [], {"accounts": {"changed": 1}}),
    "an ID that is another's": (
        {"accounts": "A-2,Blue Ridge,,,,X1\nA-1,Northwind,,,,X9"},
        [
            "accounts 2: refused: Another account has the external ID X1. Correct the number or the ID.",
            "accounts 3: refused: Account A-1 has another external ID on file. Correct the number or the ID.",
        ],
        {"accounts": {"refused": 2}},
    ),
    "an account twice": (
        {"accounts": "A-3,New,,,,\nA-4,New,,,,Y\nA-3,Newer,,,,\nA-5,Newest,,,,Y"},
        [
            "accounts 4: refused: An account with this number stands in line 2 already.",
            "accounts 5: refused: An account with this external ID stands in line 3 already.",
        ],
        {"accounts": {"new": 2, "refused": 2}},
    ),
    "contacts": (
        {
            "contacts": """A-1,Dana W.,dana@northwind.example,,,
                A-1,Omar,dana@northwind.example,,no,C2
                A-9,Nobody,nobody@customer.example,,,
                A-2,Tom,tom@blue.example,,yes,
                A-2,Tom,tom@blue.example,,yes,"""
        },
        [
            "contacts 3: refused: A contact with this address stands in line 2 already.",
            "contacts 4: refused: There is no account A-9. Add it to a file of accounts, or correct the number.",
            "contacts 6: refused: A contact with this address stands in line 5 already.",
        ],
        {"contacts": {"changed": 1, "refused": 3, "new": 1}},
    ),
    "a batch of no account, and items of no batch": (
        {"batches": "A-9,B-1,,posted,,,,,,,,,", "items": "A-1,B-9,invoice,I-1,5/1/2026,,1.00,,,,,"},
        [
            "batches 2: refused: There is no account A-9. Add it to a file of accounts, or correct the number.",
            "items 2: refused: There is no batch B-9 in account A-1. Add it to a file of batches, or correct it.",
        ],
        {"batches": {"refused": 1}, "items": {"refused": 1}},
    ),
    "a batch of an account that comes with it": (
        {"accounts": "A-9,New,,,,", "batches": "A-9,B-1,,posted,,,,,,,,,"},
        [],
        {"accounts": {"new": 1}, "batches": {"new": 1}},
    ),
    "a batch twice": (
        {"batches": "A-1,B-3,,posted,,,,,,,,,\nA-1,B-3,,pending,,,,,,,,,"},
        ["batches 3: refused: Batch B-3 stands in line 2 already."],
        {"batches": {"new": 1, "refused": 1}},
    ),
    "an ID of another batch": (
        {"batches": "A-1,B-2,,posted,,,,,,,,,E1"},
        [
            "batches 2: refused: Another batch of the account has the external ID E1. Correct the number or the ID.",
        ],
        {"batches": {"refused": 1}},
    ),
    "items that left, came and changed": (
        {
            "items": """A-1,B-1,invoice,I-7,5/1/2026,R. Alvarez,10.00,,,T1,,
                A-1,B-1,payment,I-2,5/1/2026,,20.00,,,,,"""
        },
        [],
        {"items": {"new": 1, "changed": 1, "no_longer_listed": 1}},
    ),
    "an item twice": (
        {
            "items": """A-1,B-2,payment,P-1,6/1/2026,,5.00,,,,,
                A-1,B-1,invoice,I-1,5/1/2026,R. Alvarez,10.00,Memo,,T1,J1,North
                A-1,B-2,payment,P-1,6/1/2026,,6.00,,,,,
                A-1,B-1,invoice,I-2,5/1/2026,K. Brandt,20.00,,QBO-1,,,"""
        },
        ["items 4: refused: Item P-1 of this batch stands in line 2 already."],
        {"items": {"same": 3, "refused": 1}},
    ),
    "a number that is another item's": (
        {"items": "A-1,B-1,invoice,I-2,5/1/2026,,10.00,,,T1,,"},
        ["items 2: refused: An item of batch B-1 has the external ID of another item."],
        {"items": {"refused": 1}},
    ),
    "an item that can't be read": (
        {
            "items": """A-1,B-1,invoice,I-1,5/1/2026,R. Alvarez,ten,,,,,
                A-1,B-1,invoice,I-2,5/1/2026,K. Brandt,21.00,,QBO-1,,,
                A-1,B-2,payment,P-1,6/1/2026,,6.00,,,,,"""
        },
        [
            "items 2: refused: This can't be read as a number in one way only. Write it with a point, such as 1234.50.",
            "items 3: refused: Line 2 of the items has an error, and a batch comes whole.",
        ],
        {"items": {"refused": 2, "changed": 1}},
    ),
    "a row of any batch": (
        {"items": "A-1,,invoice,I-1,5/1/2026,,1.00,,,,,\nA-1,B-1,invoice,I-2,5/1/2026,K. Brandt,20.00,,QBO-1,,,"},
        [
            "items 2: refused: This has to be filled in.",
            "items 3: refused: Items of batch B-1 are missing here, and a row with an error may be one of them. "
            "Correct that first.",
        ],
        {"items": {"refused": 2}},
    ),
    "lines": (
        {"lines": "A-1,B-2,payment,P-1,1,SKU9,,1,5.00,5.00,\nA-1,B-1,invoice,I-9,1,SKU9,,1,5.00,5.00,"},
        ["lines 3: refused: Lines of batch B-1 name an item that it does not have."],
        {"lines": {"changed": 1, "refused": 1}},
    ),
    "totals that do not add up": (
        {"batches": "A-1,B-1,,bypassed,,,5/2/2026,,,3,31.00,,", "items": FIRST["items"]},
        [
            "batches 2: adds_up: The items of batch B-1 don't add up: 2, $30.00 in total. "
            "The batch says 3, $31.00 in total."
        ],
        {"batches": {"changed": 1}, "items": {"same": 3}},
    ),
    "a negative total": (
        {"batches": "A-1,B-1,,bypassed,,,5/2/2026,,,3,-1234567.5,,", "items": FIRST["items"]},
        [
            "batches 2: adds_up: The items of batch B-1 don't add up: 2, $30.00 in total. "
            "The batch says 3, -$1,234,567.50 in total."
        ],
        {"batches": {"changed": 1}, "items": {"same": 3}},
    ),
    "a contact by its ID and by its address": (
        {"contacts": "A-1,Dana,new@northwind.example,,,C1\nA-1,Dana W.,dana@northwind.example,,,"},
        [
            f"contacts {line}: refused: Two rows name the same contact: {email}@northwind.example, one of them by the "
            "external ID. Correct one of them."
            for line, email in ((2, "new"), (3, "dana"))
        ],
        {"contacts": {"refused": 2}},
    ),
    "an item by its ID and by its number": (
        {"items": "A-1,B-1,invoice,I-7,5/1/2026,,10.00,,,T1,,\nA-1,B-1,invoice,I-1,5/1/2026,,11.00,,,,,"},
        [
            f"items {line}: refused: Two items of batch B-1 are one on file: one by its external ID, the other by its "
            "number."
            for line in (2, 3)
        ],
        {"items": {"refused": 2}},
    ),
    "lines of an item that do not stand together": (
        {"lines": "\n".join(f"A-1,B-1,invoice,{line},SKU9,,1,5.00,5.00," for line in ("I-1,1", "I-2,1", "I-1,2"))},
        [],
        {"lines": {"changed": 3}},
    ),
    "lines of a batch that do not stand together": (
        {
            "lines": """A-1,B-1,invoice,I-1,1,SKU9,,1,5.00,5.00,
                A-1,B-2,payment,P-1,1,SKU9,,1,5.00,5.00,
                A-1,B-1,invoice,I-1,2,SKU9,,1,5.00,5.00,"""
        },
        [
            "lines 4: refused: Lines of item I-1 stand from line 2 on. Keep them together.",
            "lines 2: refused: Lines of one item stand apart from each other, and a batch comes whole.",
        ],
        {"lines": {"changed": 1, "refused": 2}},
    ),
    "a batch in a row with an error and in another one": (
        {"batches": "A-1,B-3,,late,,,,,,,,,\nA-1,B-4,,late,,,,,,,,,\nA-1,B-3,,posted,,,,,,,,,"},
        [
            "batches 2: refused: This is none of: pending, posted, exported, bypassed.",
            "batches 3: refused: This is none of: pending, posted, exported, bypassed.",
            "batches 4: refused: Line 2 of the batches has an error, and a batch comes whole.",
        ],
        {"batches": {"refused": 3}},
    ),
    "cents": (
        {
            "batches": "A-1,B-3,,posted,,,,,,2,0.30,,\nA-1,B-4,,posted,,,,,,1,1,,",
            "items": """A-1,B-3,payment,P-1,6/1/2026,,0.10,,,,,
                A-1,B-4,payment,P-1,6/1/2026,,1.00,,,,,
                A-1,B-3,payment,P-2,6/1/2026,,0.20,,,,,""",
        },
        [],
        {"batches": {"new": 2}, "items": {"new": 3}},
    ),
    "a time that has not come yet": (
        {"batches": "A-1,B-2,,posted,,,,,,,,2099-01-01T00:00:00Z,"},
        [
            "batches 2: refused: What is said of batch B-2 holds as of a time to come. Correct as_of, or the clock "
            "behind it."
        ],
        {"batches": {"refused": 1}},
    ),
    "data older than what is on file": (
        {"batches": "A-1,B-2,July,posted,,,,,,,,2020-01-01T00:00:00Z,"},
        ["batches 2: left_alone: What is on file of batch B-2 is newer than this."],
        {"batches": {"left_alone": 1}},
    ),
}


@pytest.mark.parametrize("case", JUDGED)
def test_what_is_made_of_each_record(first, importer, case):
    rows, said, counted = JUDGED[case]
    previewed = staged(importer, **rows)
    assert (sentences(previewed), previewed.counts) == (said, counted)
    operations.discard_import(previewed, by=acting(importer))
    before = on_file()
    imported = bring(importer, **rows)
    assert (sentences(imported), imported.counts) == (said, counted)
    if not any(counts.keys() & {"new", "changed", "no_longer_listed"} for counts in counted.values()):
        assert on_file() == before
    again = bring(importer, **rows)
    assert not any(counts.keys() & {"new", "changed", "no_longer_listed"} for counts in again.counts.values())
    assert sentences(again) == said
    assert verify.findings() == []


def test_an_item_that_left_comes_back(first, importer):
    row = "A-1,B-1,invoice,I-1,5/1/2026,R. Alvarez,10.00,Memo,,T1,J1,North"
    item = BatchItem.objects.get(number="I-2")
    bring(importer, items=row)
    item.refresh_from_db()
    assert item.left_at
    bring(importer, items=FIRST["items"])
    item.refresh_from_db()
    assert (item.left_at, item.history.count(), BatchItem.objects.count()) == (None, 3, 3)


# What is on file and what the product says, and what is on file then: status, and what differs.
ARROWS = [
    ("pending", "posted", "posted", ""),
    ("pending", "bypassed", "bypassed", ""),
    ("pending", "exported", "exported", ""),
    ("posted", "pending", "pending", ""),
    ("posted", "exported", "exported", ""),
    ("posted", "bypassed", "bypassed", ""),
    ("bypassed", "pending", "bypassed", "pending"),
    ("bypassed", "posted", "bypassed", "posted"),
    ("bypassed", "exported", "bypassed", "exported"),
    ("exported", "bypassed", "exported", "bypassed"),
    ("exported", "posted", "exported", "posted"),
]


@pytest.mark.parametrize("source", ["file", "api"])
def test_a_state_that_no_arrow_allows_is_kept_apart(importer, source):
    account = make_account(admin=False, pin="")
    batches = [make_batch(account=account, number=f"{was}-{says}", status=was, items=0) for was, says, *_ in ARROWS]
    rows = "\n".join(f"{account.number},{was}-{says},,{says},,,5/2/2026,5/3/2026,,,,," for was, says, *_ in ARROWS)
    bring(importer, source=source, batches=rows)
    found = [(batch.number, batch.status, batch.differs) for batch in account.batches.order_by("pk")]
    assert found == [(f"{was}-{says}", status, differs) for was, says, status, differs in ARROWS]
    back = "\n".join(f"{account.number},{was}-{says},,{was},,,5/2/2026,5/3/2026,,,,," for was, says, *_ in ARROWS)
    bring(importer, source=source, batches=back)
    assert set(account.batches.filter(number__startswith="bypassed").values_list("status", "differs")) == {
        ("bypassed", "")
    }
    assert len(batches) == len(ARROWS)
    assert verify.findings() == []


def test_a_file_leaves_alone_what_a_consent_is_about_and_the_product_does_not(importer, agent):
    agreed = case_consented(agent)
    asked = factories.case_awaiting(agent)
    unlocking = case_unlocking(agent)
    before = on_file()
    cases = (agreed, asked, unlocking)
    rows = "\n".join(
        f"{case.account.number},{batch.number},Changed,bypassed,,,5/2/2026,,,,7.00,,"
        for case in cases
        for batch in case.batches
    )
    imported = bring(importer, re_exported=True, batches=rows)
    assert imported.counts == {"batches": {"left_alone": 6}}
    assert on_file() == before
    assert sentences(imported)[0] == (
        f"batches 2: left_alone: The customer was asked about batch {agreed.batch.number} as it stands, or agreed to "
        "that. A file does not change it: the consent would no longer fit."
    )

    imported = bring(importer, source="api", batches=rows)
    assert imported.counts == {"batches": {"changed": 6}}
    refusals = judged(agreed.rows, by=agent).values_list("refusal", flat=True)
    assert set(refusals) == {Refusal.CHANGED}
    assert factories.hand_over() == []
    assert set(unlocking.rows.values_list("status", flat=True)) == {"bypassed"}
    assert verify.findings() == []


def test_no_import_unlocks(importer, agent):
    case, ready = case_unlocked(agent), case_consented(agent)
    for source in ("file", "api"):
        for status in ("pending", "posted", "exported", "bypassed"):
            rows = f"{ready.account.number},{ready.batch.number},,{status},,,5/2/2026,5/3/2026,,,,,"
            bring(importer, source=source, re_exported=source == "file", batches=rows)
            ready.refresh()
            assert ready.batch.status == "bypassed"
    for status in ("unlocked", "unlocking", "relocking"):
        rows = f"{ready.account.number},{ready.batch.number},,{status},,,5/2/2026,,,,,,"
        assert bring(importer, source="api", batches=rows).counts == {"batches": {"refused": 1}}
    assert case.refresh().batch.status == "unlocked"


def test_an_unlocked_batch_takes_what_the_customer_changed(importer, agent):
    case = case_unlocked(agent)
    number = f"{case.account.number},{case.batch.number}"
    rows = {
        "batches": f"{number},Corrected,posted,,5/9/2026,,,,1,90.00,,",
        "items": f"{number},invoice,N-1,5/9/2026,,90,,,,,",
    }
    rows = {kind: row + "," * (12 - row.count(",")) if kind == "batches" else row + "," for kind, row in rows.items()}
    imported = bring(importer, **rows)
    assert (sentences(imported), counts(imported)) == (
        [],
        {"batches": {"changed": 1}, "items": {"new": 1, "no_longer_listed": 1}},
    )
    batch = case.refresh().batch
    assert (batch.status, batch.differs, batch.name, batch.total) == ("unlocked", "", "Corrected", Decimal("90.00"))
    summed = case.rows.aggregate(n=Count("pk"), total=Sum("total"))
    assert (case.unlock_request.batch_count, case.unlock_request.amount) == (summed["n"], summed["total"])
    assert verify.findings() == []


def test_what_changes_once_it_is_relocked_counts_while_its_request_is_open(importer, agent, manager):
    case = case_unlocked(agent)
    factories.relock(case.rows.filter(pk=case.batch.pk), why="Not used", by=acting(manager))
    assert case.refresh().unlock_request.amount == Decimal("200.00")
    bring(importer, batches=f"{case.account.number},{case.batch.number},,bypassed,,,5/2/2026,,,1,90.00,,")
    unlock_request = case.refresh().unlock_request
    assert (case.batch.total, unlock_request.batch_count, unlock_request.amount) == (90, 2, Decimal("190.00"))
    assert verify.findings() == []


@pytest.mark.parametrize(
    ("source", "ticked", "closes"), [("file", False, False), ("file", True, True), ("api", False, True)]
)
def test_exported_closes_the_line_of_an_unlocked_batch(importer, agent, source, ticked, closes):
    case = case_unlocked(agent)
    rows = f"{case.account.number},{case.batch.number},,exported,sent,,,6/7/2026,,,,,"
    imported = bring(importer, source=source, re_exported=ticked, batches=rows)
    batch, line = case.refresh().batch, RequestedBatch.objects.get(batch=case.batch)
    if not closes:
        assert (batch.status, line.outcome) == ("unlocked", "unlocked")
        assert sentences(imported) == [
            f"batches 2: left_alone: Batch {batch.number} is unlocked here and exported in the file. It is marked as "
            "re-exported only when that is ticked."
        ]
        return
    assert (batch.status, str(batch.exported_on), line.outcome) == ("exported", "2026-06-07", "re_exported")
    act = Act.objects.get(kind=Act.Kind.RE_EXPORT)
    assert (act.by, act.why) == (importer, str(imported))
    assert bring(importer, source=source, batches=rows).counts == {"batches": {"same": 1}}
    assert verify.findings() == []


@pytest.mark.parametrize("source", ["file", "api"])
def test_exported_before_the_unlock_is_not_re_exported(importer, agent, source):
    case = case_consented(agent)
    said_at = timezone.now().isoformat()
    known = f"{case.account.number},{case.batch.number},Other,exported,sent,,,6/7/2026,,,,"
    read_before = staged(importer, source=source, batches=f"{known},")
    factories.unlock(case.rows, by=acting(agent))
    for imported in (
        operations.import_records(read_before, re_exported=source == "file", by=bringing(importer, source)),
        bring(importer, source=source, re_exported=source == "file", batches=f"{known}{said_at},"),
    ):
        assert sentences(imported) == [
            f"batches 2: left_alone: Batch {case.batch.number} was unlocked after this was said of it, so it can't "
            "mean what came of the unlock. Import what the product says now."
        ]
        assert case.refresh().batch.status == "unlocked"
    assert verify.findings() == []


def test_contacts_of_a_file_count_once_a_second_person_confirmed_the_import(importer, agent, manager):
    account = make_account()
    dana = account.contacts.get()
    number = account.number
    imported = bring(
        importer,
        contacts=f"""{number},New Admin,new@customer.example,,yes,
            {number},Not one,not@customer.example,,no,""",
    )
    new = Contact.objects.get(email="new@customer.example")
    assert (new.entered_by, new.entered_in, new.is_confirmed_admin) == (importer, imported, False)
    told = Outgoing.objects.values_list("email", "address", "contact", "entered__id")
    assert list(told) == [("admin_entered", dana.email, dana.pk, new.pk)]
    assert operations.own_contact(account, importer)
    with refused(Refusal.OWN_IMPORT):
        operations.confirm_import(imported, how="I know them", by=acting(importer))
    with refused(Refusal.NO_HOW):
        operations.confirm_import(imported, how=" ", by=acting(manager))
    assert operations.confirm_import(imported, how="Called the number on file", by=acting(manager)) == 1
    new.refresh_from_db()
    assert new.is_confirmed_admin
    assert not operations.own_contact(account, importer)
    with refused(Refusal.NOTHING_TO_CONFIRM):
        operations.confirm_import(imported, how="Again", by=acting(manager))
    assert verify.findings() == []


def test_a_changed_address_of_an_admin(importer, agent, manager):
    case = factories.case_awaiting(agent)
    factories.deliver()
    old, number = case.admin.email, case.account.number
    known = bring(importer, source="api", contacts=f"{number},{case.admin.name},{old},,yes,C-7")
    assert known.counts == {"contacts": {"changed": 1}}
    imported = bring(importer, contacts=f"{number},{case.admin.name},other@customer.example,,yes,C-7")
    assert imported.counts == {"contacts": {"changed": 1}}
    case.admin.refresh_from_db()
    assert (case.admin.email, case.admin.is_confirmed) == ("other@customer.example", False)
    assert case.link.revoked_at
    assert list(Outgoing.objects.filter(email="admin_entered").values_list("address", flat=True)) == [old]

    bring(importer, source="api", contacts=f"{number},{case.admin.name},third@customer.example,,yes,C-7")
    case.admin.refresh_from_db()
    assert (case.admin.entered_by, case.admin.entered_in, case.admin.is_confirmed_admin) == (None, None, True)
    assert [fault for fault in verify.findings() if "Outgoing" not in fault] == []


def test_no_file_has_the_product_make_someone_else_an_admin(importer):
    account = make_account()
    admin, number = account.contacts.get(), account.number
    bring(importer, contacts=f"{number},{admin.name},{admin.email},,,C-9")
    imported = bring(importer, source="api", contacts=f"{number},Omar,omar@customer.example,,,C-9")
    assert sentences(imported) == [
        "contacts 2: refused: omar@customer.example is a new address of an Admin, found by the external ID C-9. Say in "
        "is_admin whether the contact still is one."
    ]
    bring(importer, source="api", contacts=f"{number},Omar,omar@customer.example,,no,C-9")
    assert not account.contacts.confirmed_admins().exists()
    assert verify.findings() == []


def test_only_for_managers(importer):
    def stage(by):
        operations.stage_import([], source="file", by=by)

    only_for(["Manager"], stage)
    imported = staged(importer, accounts="A-9,New,,,,")
    operations.discard_import(imported, by=acting(importer))
    for verb in (operations.import_records, operations.start_import, operations.discard_import):
        with refused(Refusal.IMPORT_OVER, says=f"Nothing was done: import {imported.number} is discarded already."):
            verb(imported, by=acting(importer))


def test_only_a_system_brings_the_word_of_the_product(importer, superuser):
    for by in (importer, superuser):
        with pytest.raises(PermissionDenied):
            operations.stage_import([], source="api", by=acting(by))
    assert not Import.objects.filter(source="api").exists()


def test_only_who_may_mark_batches_as_re_exported_may_tick_that(importer):
    only_imports = make_user("only-imports")
    only_imports.user_permissions.add(Permission.objects.get(codename="import_records"))
    imported = staged(only_imports, accounts="A-9,New,,,,")
    with pytest.raises(PermissionDenied):
        operations.import_records(imported, re_exported=True, by=acting(only_imports))
    assert operations.import_records(imported, by=acting(only_imports)).state == "done"


def test_contacts_are_confirmed_once_all_are_there(importer, manager):
    imported = bring(importer, accounts="A-9,New,,,,", contacts="A-9,Dana,dana@new.example,,yes,")
    assert operations.obstacle_to_confirming_import(imported, manager) == ""
    assert "You imported these contacts" in operations.obstacle_to_confirming_import(imported, importer)
    Import.objects.update(state="applying")
    with refused(Refusal.IMPORT_GOING_ON, says=operations.obstacle_to_confirming_import(imported, manager)):
        operations.confirm_import(imported, how="Called them", by=acting(manager))


def test_what_the_database_refuses_fails_the_import_and_leaves_nothing(importer):
    """Not even records that nobody read unlock: here, some that a program made up."""
    account = make_account(admin=False, pin="").number
    row = dict.fromkeys(KINDS["batches"].header) | {"account_number": account, "batch_number": "B-9"}
    for status in ("unlocked", "unlocking", "relocking"):
        made_up = Records(KINDS["batches"], [(1, tuple((row | {"status": status}).values()))])
        imported = operations.stage_import([made_up], source="file", by=acting(importer), judge=False)
        imported = operations.import_records(imported, by=acting(importer))
        why = "Part 1 can't be written: IntegrityError."
        assert (imported.state, imported.why_failed, imported.counts, imported.leased_until) == (
            ("failed", why, {}, None)
        )
    assert not Batch.objects.filter(number="B-9").exists()
    assert not StagedBatch.objects.exists()
    assert verify.findings() == []
    assert bring(importer, batches=f"{account},B-9,,posted,,,,,,,,,").counts == {"batches": {"new": 1}}


def test_nothing_to_import_is_said(importer):
    with pytest.raises(operations.Refused) as caught:
        staged(importer, accounts="")
    assert caught.value.code == Refusal.NOTHING_TO_IMPORT
    assert Import.objects.latest("number").state == "failed"


_ITEM = st.tuples(st.sampled_from(["I-1", "I-2", "I-3"]), st.integers(1, 3))
_FILE = st.dictionaries(st.sampled_from(["B-1", "B-2"]), st.lists(_ITEM, max_size=3, unique_by=lambda item: item[0]))


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(_FILE.filter(any), min_size=2, max_size=4))
def test_files_one_after_the_other_leave_what_the_last_one_said(first, importer, files):
    account = make_account(admin=False, pin="").number
    model = {}
    for file in files:
        batches = "\n".join(f"{account},{number},,posted,,,,,,,,," for number in file)
        items = "\n".join(
            f"{account},{number},invoice,{item},5/1/2026,,{amount},,,,,"
            for number, listed in file.items()
            for item, amount in listed
        )
        bring(importer, batches=batches, **({"items": items} if items else {}))
        model |= {number: dict(listed) for number, listed in file.items() if listed or number not in model}
    found = {number: {} for number in Batch.objects.filter(account__number=account).values_list("number", flat=True)}
    listed = BatchItem.objects.listed().filter(batch__account__number=account)
    for number, item, amount in listed.values_list("batch__number", "number", "amount"):
        found[number][item] = amount
    assert found == model
