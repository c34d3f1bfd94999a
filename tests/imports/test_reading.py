"""Files of any kind: which it is, and each row as values or as what is wrong with it."""

import csv
import hashlib
import io
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from hypothesis import given
from hypothesis import strategies as st

from unlocks.imports.kinds import KINDS
from unlocks.imports.problems import Problem, errors_csv
from unlocks.imports.reading import open_file
from unlocks.imports.samples import sample, template
from unlocks.models import Account, Batch, BatchItem

from .files import problems, read

ACCOUNTS = "account_number,name\n"
ITEMS = "account_number,batch_number,kind,number,date,amount,memo\n"
NO_HEADER = (
    "No known column was found in the first row that is not blank. It has to name the columns, such as account_number."
)
FEW = (
    ": This row has too few cells: {}, and the header has {}. A delimiter or a quotation mark may be missing. Excel "
    "leaves out empty cells at the end: save the file as a workbook (.xlsx) then."
)


def account(number, name):
    return (number, name, None, None, None, None)


ZOE = [(2, account("4711", "Zoë’s Heating"))]
AS_WRITTEN = {
    "UTF-8": "account_number,name\n4711,Zoë’s Heating\n",
    "UTF-8 with its mark": "\ufeffaccount_number,name\n4711,Zoë’s Heating\n",
    "UTF-16": "account_number\tname\n4711\tZoë’s Heating\n".encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + "account_number\tname\n4711\tZoë’s Heating\n".encode("utf-16-be"),
    "cp1252": "account_number;name\r\n4711;Zoë’s Heating\r\n".encode("cp1252"),
    "old Mac": "account_number,name\r4711,Zoë’s Heating\r",
    "quoted": '"account_number","name"\r\n"4711","Zoë’s Heating"\r\n',
    "another order and case": "NAME, Account Number *,Fax\nZoë’s Heating,4711,none\n",
    "padded": "account_number,name,,\n4711,Zoë’s Heating,,\n,,,\n \n\n",
    "no line break at the end": "account_number,name\n4711,Zoë’s Heating",
}


@pytest.mark.parametrize("content", AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_a_file_as_some_program_writes_it(content):
    assert read(content) == ZOE


def test_a_delimiter_that_excel_is_told_and_blank_rows_before_the_header():
    assert read("sep=;\n\n;\naccount_number;name\n4711;Zoë’s Heating\n") == [(5, account("4711", "Zoë’s Heating"))]


def test_a_line_is_the_one_of_the_file_where_the_row_begins():
    content = ITEMS + '1,B,invoice,7,1/2/2026,5,"two\r\nlines"\n\n1,B,payment,8,1/2/2026,"-5","x"\n'
    values = [("invoice", "7", Decimal("5.00"), "two lines"), ("payment", "8", Decimal("-5.00"), "x")]
    rows = [
        (line, ("1", "B", kind, number, date(2026, 1, 2), None, amount, memo, None, None, None, None))
        for line, (kind, number, amount, memo) in zip((2, 5), values, strict=True)
    ]
    assert read(content) == rows


def test_days_come_first_only_when_asked():
    content = ITEMS + "1,B,invoice,7,3/4/2026,5,\n"
    assert [read(content, day_first=first)[0][1][4] for first in (False, True)] == [date(2026, 3, 4), date(2026, 4, 3)]


def test_a_file_says_what_it_is():
    content = b"Name,E-Mail,account number,Shoe size,Shoe size,\n"
    file = open_file("contacts.csv", io.BytesIO(content))
    assert (file.name, file.kind.name, file.unknown_columns, file.sha256, list(file.rows())) == (
        "contacts.csv",
        "contacts",
        ["Shoe size", "Shoe size"],
        hashlib.sha256(content).hexdigest(),
        [],
    )


BATCHES = [
    # status, reached_by, bypassed_on, exported_on; then status, bypassed_on, exported_on as they are read
    ("Exported,bypassed,,11/5/2026", ("bypassed", date(2026, 11, 5), None)),
    ("exported,bypassed,11/4/2026,11/5/2026", ("bypassed", date(2026, 11, 4), None)),
    ("exported,marked by API,,11/5/2026", ("exported", None, date(2026, 11, 5))),
    ("posted,,,", ("posted", None, None)),
    ("bypassed,,,", ["bypassed_on: This has to be filled in: the batch is bypassed."]),
    ("exported,bypassed,,", ["bypassed_on: This has to be filled in: the batch is bypassed."]),
    ("exported,sent,,", ["exported_on: This has to be filled in: the batch is exported."]),
    ("bypassed,sent,11/4/2026,", ["reached_by: A bypassed batch was never sent. Correct this, or the status."]),
    ("unlocked,,,", ["status: This is none of: pending, posted, exported, bypassed."]),
]


def test_a_batch_is_in_a_state_that_holds_together():
    header = "account_number,batch_number,status,reached_by,bypassed_on,exported_on\n"
    rows = [row for _, row in read(header + "".join(f"1,B{n},{cells}\n" for n, (cells, _) in enumerate(BATCHES)))]
    assert [row if isinstance(row, list) else (row[3], row[6], row[7]) for row in rows] == [row for _, row in BATCHES]


UNREADABLE = [
    (b"", "The file is empty."),
    (b"\n\n,,\n", NO_HEADER),
    (b"\0\1\2\3" * 300, NO_HEADER),
    ("account_number,name\n4711,Zoë\n".encode("utf-16-le"), NO_HEADER),
    (b"<html><table><tr><td>account_number</td></tr></table></html>", NO_HEADER),
    (b"%PDF-1.7\n\xe2\xe3\xcf\xd3\n1 0 obj\n\x90", "The file is no text. It has to be a CSV file or an Excel workbook"),
    (b"\xef\xbb\xbfaccount_number,name\n1,\xff\n", "The file begins as UTF-8 text and then is none."),
    (b"\xff\xfea\0c\0c", "The file begins as UTF-16 text and then is none."),
    ("account_number,name\n1,Zoë\n2,".encode() + b"\xe9\n", "The file mixes two encodings"),
    ("account_number,name\n1,Zoë\n".encode() + b"2,x\n" * 300_000 + b"3,\xe9\n", "The file mixes two encodings"),
    (b"account_number,name\n" + b"x" * 2**21, "The file has a line of more than a million characters"),
    (b"account_number|name\n4711|x\n", NO_HEADER),
    (b"batch_number,kind,number,date\n", "The header looks like one of items, and lacks: account_number, amount."),
    (b'"account_number,name\n4711,x\n', NO_HEADER),
    (b"account_number,name,Account-Number\n", "The header names twice: account_number."),
    (
        b"account_number,batch_number,kind,number,date,amount,line,sku\n",
        "The header fits files of items and of lines. Say which it is.",
    ),
]


def test_why_a_file_is_not_read():
    answers = [(content[:40], read(content), sentence) for content, sentence in UNREADABLE]
    assert [answer for answer in answers if not str(answer[1]).startswith(answer[2])] == []


def test_the_kind_may_be_said_and_has_to_fit():
    both = "account_number,batch_number,kind,number,date,amount,line,sku\n1,B,invoice,7,2026-01-02,5,1,S\n"
    assert [read(both, kind=kind)[0][1][:5] for kind in ("items", "lines")] == [
        ("1", "B", "invoice", "7", date(2026, 1, 2)),
        ("1", "B", "invoice", "7", 1),
    ]
    assert read(sample("contacts"), kind="accounts") == "This is a file of contacts, not of accounts."
    assert (
        read(b"account_number\n", kind="contacts") == "The header looks like one of contacts, and lacks: name, email."
    )


NEVER_CLOSED = (
    ": A quotation mark opens a cell here and does not close it before the row ends. Lines 2 to 3 were not read. "
    "Correct it."
)
HOSTILE = {
    "all that is wrong with a row": (
        ITEMS + "1,,refund,7,2/30/2026,1e3,\n",
        {
            2: [
                "batch_number: This has to be filled in.",
                "kind: This is none of: invoice, payment, credit_memo, vendor_bill, vendor_credit, bill_payment, "
                "inventory_adjustment, transfer, return.",
                "date: There is no such day in the calendar.",
                "amount: This can't be read as a number in one way only. Write it with a point, such as 1234.50.",
            ]
        },
    ),
    "too few cells": (ACCOUNTS + "1\n", {2: [FEW.format(1, 2)]}),
    "too many cells": (ACCOUNTS + "1,a,b\n", {2: [FEW.format(3, 2).replace("few", "many")]}),
    "a total": (ITEMS + "Total,,,,,55.00,\n", {2: [": This is a total and not a record. Delete the row."]}),
    "a NUL": (
        ACCOUNTS + "1,a\0b\n",
        {2: ["name: This holds what is no character, such as a NUL, or one that got lost (\ufffd). Correct it."]},
    ),
    "a huge cell": (
        ACCOUNTS + f"1,{'x' * 200_000}\n",
        {2: [": A cell has more than 131,072 characters. Shorten it."]},
    ),
    "a quotation mark inside a cell": (
        ACCOUNTS + '1,"a"b\n',
        {2: [": A quotation mark stands inside a cell. Double it, or leave it out, and read the file again."]},
    ),
    "one that is never closed": (
        ACCOUNTS + '1,"a\n4,a\n',
        {2: [NEVER_CLOSED]},
    ),
    "one that another one closes": (
        ITEMS + '1,B,invoice,"7,1/2/2026,5,\n1,B,invoice,8",1/2/2026,5,\n',
        {2: [NEVER_CLOSED]},
    ),
    "a formula": (
        ACCOUNTS + "=1+1,a\n",
        {2: ["account_number: This is a formula, not a value. Enter the value itself."]},
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_row_is_told_and_the_others_are_read(name):
    content, wrong = HOSTILE[name]
    header = content.partition("\n")[0]
    good = {ACCOUNTS: "9,b\n", ITEMS: "9,B,invoice,7,1/2/2026,5,\n"}[header + "\n"]
    rows = dict(read(header + "\n" + content.partition("\n")[2] + ("" if "never" in name else good)))
    assert {line: row for line, row in rows.items() if isinstance(row, list)} == wrong
    assert [row[0] for row in rows.values() if isinstance(row, tuple)] == ([] if "never" in name else ["9"])


def test_after_a_quotation_mark_that_is_never_closed_reading_goes_on():
    content = ACCOUNTS + '1,"a\n' + "".join(f"{n},{'x' * 150}\n" for n in range(2, 2000))
    (first, wrong), *rest = read(content)
    swallowed = int(wrong[0].split(" to ")[1].split()[0])
    assert (first, swallowed > 800) == (2, True)
    assert [line for line, _ in rest] == list(range(swallowed + 1, 2001))


def test_a_problem_tells_its_value_on_one_line_and_cut():
    long = "x" * 199 + "\u2028yz"
    found = problems(f"account_number,name\n{long},a\n=1\0,b\n".encode())
    assert [(each.line, each.column, each.value) for each in found] == [
        (2, "account_number", f"{'x' * 199} …"),
        (3, "account_number", "=1"),
    ]


def test_errors_csv_has_a_row_for_each_problem_and_no_formula():
    named = [
        ("=a.csv", Problem(2, "name", "@SUM(1)", "This has to be filled in.")),
        ("b.csv", Problem(13, "", "-5.00", "Too few, “cells”")),
    ]
    content = b"".join(errors_csv(iter(named)))
    assert content.startswith(b"\xef\xbb\xbfFile,")
    assert list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))) == [
        ["File", "Line", "Column", "Value", "Problem"],
        ["'=a.csv", "2", "name", "'@SUM(1)", "This has to be filled in."],
        ["b.csv", "13", "", "-5.00", "Too few, “cells”"],
    ]


@pytest.mark.parametrize("make", [SimpleUploadedFile, TemporaryUploadedFile, io.BytesIO])
def test_a_file_is_read_twice_and_stays_open(make):
    content = (ACCOUNTS + "4711,a\n").encode()
    if make is TemporaryUploadedFile:
        upload = make("a.csv", "text/csv", len(content), None)
        upload.write(content)
    else:
        upload = make(content) if make is io.BytesIO else make("a.csv", content)
    file = open_file("a.csv", upload)
    assert [list(file.rows()), list(file.rows())] == [[(2, account("4711", "a"))]] * 2
    assert not upload.closed
    upload.close()


def test_the_samples_belong_together():
    rows = {name: [row for _, row in read(sample(name))] for name in KINDS}
    assert {name: len(of_kind) for name, of_kind in rows.items()} == {
        "accounts": 3,
        "contacts": 6,
        "batches": 20,
        "items": 75,
        "lines": 73,
    }
    assert {row[0] for of_kind in rows.values() for row in of_kind} == {row[0] for row in rows["accounts"]}
    counts, totals, lines = Counter(), Counter(), Counter()
    for item in rows["items"]:
        counts[item[:2]] += 1
        totals[item[:2]] += item[6]
    for line in rows["lines"]:
        lines[line[:4]] += line[9]
    assert {batch[:2]: batch[9:11] for batch in rows["batches"]} == {key: (counts[key], totals[key]) for key in counts}
    assert lines == {item[:4]: item[6] for item in rows["items"] if item[:4] in lines}
    assert Counter(batch[3] for batch in rows["batches"]) == {"bypassed": 14, "exported": 2, "posted": 2, "pending": 2}


def test_a_template_is_a_header_that_is_known():
    assert {name: open_file("", io.BytesIO(template(name))).kind.name for name in KINDS} == {
        name: name for name in KINDS
    }
    assert template("lines").decode().strip().split(",") == KINDS["lines"].header


def test_columns_fit_those_of_the_tables():
    """The choices are those of the models, and nothing that is read is too long for its column."""
    read = {kind: {column.name: column.read.read for column in KINDS[kind].columns} for kind in KINDS}
    for kind, model, names in [
        ("accounts", Account, {"account_number": "number", "name": "name"}),
        ("batches", Batch, {"batch_number": "number", "name": "name"}),
        ("items", BatchItem, {"number": "number", "customer": "customer", "export_id": "export_id"}),
    ]:
        for column, field in names.items():
            longest = model._meta.get_field(field).max_length
            assert read[kind][column]("x" * longest) == "x" * longest
            with pytest.raises(ValueError, match=f"^This has {longest + 1} characters, and {longest} are the most"):
                read[kind][column]("x" * (longest + 1))
    for kind, column, choices in [
        ("accounts", "accounting_software", Account.Software.values),
        ("batches", "status", ["pending", "posted", "exported", "bypassed"]),
        ("items", "kind", BatchItem.Kind.values),
    ]:
        assert [read[kind][column](choice) for choice in choices] == choices


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=8), min_size=5, max_size=5),
        max_size=5,
    ),
    st.sampled_from([("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t")]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_row_that_a_program_writes_is_read_as_it_is_or_told(rows, written, ending):
    encoding, delimiter = written
    header = ["account_number", "name", "accounting_software", "time_zone", "external_id"]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=ending).writerows([header, *rows])
    filled = [row for row in rows if any(map(str.strip, row))]
    answers = read(file.getvalue().encode(encoding))
    assert len(answers) == len(filled)
    reads = [KINDS["accounts"].columns[place] for place in (0, 1)]
    for (_, answer), cells in zip(answers, filled, strict=True):
        if isinstance(answer, tuple):
            assert [column.read.read(cell) for column, cell in zip(reads, cells, strict=False)] == list(answer[:2])
