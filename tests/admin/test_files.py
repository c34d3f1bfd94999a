"""Lists as files: what stands on the page, on all pages, and a last line that says that nothing is missing."""

import csv
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO, StringIO

import openpyxl
import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.admin.test_lists import BATCHES, LOG, PAGES
from unlocks import operations
from unlocks.admin import files
from unlocks.ledger import chain, events
from unlocks.models import LedgerEntry

REQUESTS = "/desk/unlocks/unlockrequest/"
LISTS = [address for address in PAGES if address.count("/") == 4 and "worker" not in address]


def download(client, address, query="", form="csv"):
    return client.post(f"{address}file/{query}", {"form": form})


def rows(client, address, query=""):
    """The rows of a CSV file; of the last one without who asked for it, and when."""
    response = download(client, address, query)
    assert response.status_code == 200
    assert (response["Content-Type"], response["Content-Disposition"][:10]) == ("text/csv; charset=utf-8", "attachment")
    *read, last = csv.reader(StringIO(response.getvalue().decode("utf-8-sig")))
    return [*read, last[:3]]


def test_the_columns_and_values_are_those_of_the_page(agent_client, agent):
    account = factories.make_account(number="4711", name="=HYPERLINK(1)")
    batch = factories.make_batch(
        account=account, number="-5+2", bypassed_on=date(2026, 5, 3), total=Decimal("-1218.50"), item_count=1234
    )
    factories.make_batch(number="OTHER")
    columns = ["Number", "Name", "Account", "Status", "Bypassed on", "Items", "Total", "Can it be unlocked?"]
    said = "Not yet Not requested Not in an open request. Open a request first."
    row = ["'-5+2", "Invoices -5+2", "'=HYPERLINK(1) (4711)", "Bypassed", "2026-05-03", "1234", "-1218.50", said]
    assert rows(agent_client, BATCHES, "?account=4711") == [
        columns,
        row,
        ["Complete: 1 row", "Times are in America/New York", "Account number: 4711"],
    ]
    opened = factories.open_case(agent, batches=[batch]).unlock_request
    at = timezone.localtime(opened.opened_at).isoformat(" ", "seconds")
    (_, row, _) = rows(agent_client, REQUESTS)
    assert row[0] == opened.reference
    assert row[4:] == ["By mistake", "1", "-1218.50", "agent", at, "0 min of 4 h"]


def test_all_pages_are_in_it_in_the_order_of_the_list(agent_client, monkeypatch):
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 20)
    account = factories.make_account(number="4711")
    factories.make_batches(account=account, n=55, items=0)
    numbers = [number for number, *_ in rows(agent_client, BATCHES, "?account=4711&o=1&p=2")[1:-1]]
    assert len(numbers) == 55
    assert numbers == sorted(numbers)
    assert rows(agent_client, BATCHES, "?account=4711&o=-1")[-1][0] == "Complete: 55 rows"
    with CaptureQueriesContext(connection) as few:
        rows(agent_client, BATCHES, "?show=bypassed")
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 100)
    with CaptureQueriesContext(connection) as fewer:
        rows(agent_client, BATCHES, "?show=bypassed")
    assert len(few) - len(fewer) == 2


@pytest.mark.parametrize("address", LISTS)
def test_whoever_sees_a_list_gets_its_file(request, address, agent):
    factories.case_unlocking(agent)
    for role in ("agent", "manager", "auditor", "superuser"):
        client = request.getfixturevalue(f"{role}_client")
        if role in PAGES[address]:
            assert rows(client, address)[-1][0].startswith("Complete: "), role
        else:
            assert download(client, address).status_code == 403, role
        assert client.get(f"{address}file/").status_code == 405, role


def test_there_is_no_file_of_a_filter_that_cannot_be_read(agent_client):
    factories.make_batches(n=1)
    unreadable = f"?account={'9' * 60}"
    assert download(agent_client, BATCHES, unreadable).status_code == 400
    assert "Download as" not in agent_client.get(f"{BATCHES}{unreadable}").content.decode()


def test_what_broke_off_does_not_look_whole(agent_client, monkeypatch):
    factories.make_batches(n=3)
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 2)
    pieces = iter(download(agent_client, BATCHES).streaming_content)
    assert b"Complete" not in next(pieces) + next(pieces) + next(pieces)
    assert next(pieces).startswith(b"Complete: 3 rows,Times are in America/New York,Not filtered,")


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_who_breaks_off_a_download_leaves_no_transaction_open(agent_client, monkeypatch, form):
    factories.make_batches(n=600, items=0)
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 200)
    response = download(agent_client, BATCHES, form=form)
    pieces = iter(response.streaming_content)
    next(pieces), next(pieces)
    assert connection.in_atomic_block
    response.close()
    assert not connection.in_atomic_block


def test_the_log_says_whose_entries_they_are(manager_client, agent):
    case = factories.open_case(agent)
    header, *entries, _ = rows(manager_client, LOG)
    assert header == [
        *("Sequence", "When", "Actor", "Ip", "Kind", "What", "Why"),
        *("Account number", "Account", "Batches", "Amount", "Request"),
    ]
    account, entry = case.account, LedgerEntry.objects.get(kind="opened")
    assert [[entry[0], *entry[2:]] for entry in entries if entry[2] == "agent"] == [
        [
            *(str(entry.sequence), "agent", "", "Opened"),
            f"Opened with {len(case.batches)} batches. Channel: Phone. Why bypassed: By mistake",
            "Bypassed by mistake; the customer wants to export them.",
            *(account.number, account.name, str(len(case.batches)), str(entry.amount), case.unlock_request.reference),
        ]
    ]


def test_an_excel_file_holds_the_same_and_what_it_is(manager_client, agent):
    account = factories.make_account(number="4711", name="=HYPERLINK(1)")
    factories.make_batch(account=account, number="-5+2", bypassed_on=date(2026, 5, 3), total=Decimal("-1218.50"))
    response = download(manager_client, BATCHES, "?account=4711&show=bypassed", "xlsx")
    assert (response["Content-Type"], response["Content-Disposition"]) == (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        'attachment; filename="batches.xlsx"',
    )
    book = openpyxl.load_workbook(BytesIO(response.getvalue()))
    titles, row = book["List"].iter_rows(values_only=True)
    assert titles == ("Number", "Name", "Account", "Status", "Bypassed on", "Items", "Total", "Can it be unlocked?")
    assert row[:7] == ("-5+2", "Invoices -5+2", "=HYPERLINK(1) (4711)", "Bypassed", datetime(2026, 5, 3), 3, -1218.5)
    assert {cell.data_type for cell in book["List"][2]} == {"s", "d", "n"}
    *about, by = (line for (line,) in book["About"].iter_rows(values_only=True))
    assert about == ["Complete: 1 row", "Times are in America/New York", "Status: Bypassed; Account number: 4711"]
    assert by.startswith("By manager, ")


def test_a_list_that_is_too_long_for_excel_is_not_begun(manager_client, monkeypatch):
    monkeypatch.setitem(files.MOST, "xlsx", 2)
    factories.make_batches(n=3)
    response = manager_client.post(f"{BATCHES}file/?show=bypassed", {"form": "xlsx"}, follow=True)
    assert response.redirect_chain == [(f"{BATCHES}?show=bypassed", 302)]
    said = "An Excel file holds 2 rows, and the list has more. Narrow it, or download it as CSV."
    assert [str(message) for message in response.context["messages"]] == [said]
    assert not LedgerEntry.objects.filter(kind="exported").exists()
    assert rows(manager_client, BATCHES, "?show=bypassed")[-1][0] == "Complete: 3 rows"


@pytest.mark.parametrize("form", ["", "pdf", "\0"])
def test_there_is_no_other_form_of_a_file(manager_client, form):
    assert download(manager_client, BATCHES, form=form).status_code == 400


def test_who_exported_what_is_in_the_ledger_before_it_is_sent(manager_client, manager):
    factories.make_batches(n=2)
    download(manager_client, BATCHES, "?show=bypassed&q=B", "xlsx")
    entry = LedgerEntry.objects.latest("sequence")
    assert (entry.kind, entry.user, entry.ip) == ("exported", manager, "127.0.0.1")
    assert chain.event_of(entry) == events.Exported(
        what="batches", form="xlsx", narrowed=["Search: B", "Status: Bypassed"]
    )


def test_nothing_is_recorded_for_those_who_may_not_see_it(agent_client, agent):
    assert download(agent_client, LOG).status_code == 403
    with pytest.raises(PermissionDenied):
        operations.record_export(LedgerEntry, form="csv", narrowed=[], by=factories.acting(agent))
    assert not LedgerEntry.objects.filter(kind="exported").exists()
