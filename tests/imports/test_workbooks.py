"""Excel workbooks: read as the same CSV file would be, and measured before they are opened."""

from datetime import date, datetime, time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from unlocks.imports import workbooks

from .files import packed, parts, read, workbook

HEADER = ["Account number", "batch number", "kind", "number", "date", "amount", "memo"]
SHEET = "xl/worksheets/sheet1.xml"
DAMAGED = "The workbook is damaged, or is no Excel workbook (.xlsx). Save the sheet as “CSV UTF-8”."
GOOD = (4711, "B1", "Invoice", 1001, date(2026, 11, 4), 12.5, "x")
READ = ("4711", "B1", "invoice", "1001", date(2026, 11, 4), None, Decimal("12.50"), "x", None, None, None, None)


def with_cells(*replaced):
    """Return a workbook of a header and a good row, with (old, new) replaced in the XML of its sheet."""
    files = parts(workbook([HEADER, GOOD]))
    for old, new in replaced:
        assert old in files[SHEET]
        files[SHEET] = files[SHEET].replace(old, new)
    return packed(files)


CELLS = [
    # column, what is in the cell, as what it is read (or why it isn't)
    (3, "1001", "1001"),
    (3, 1001.0, "1001"),
    (3, "0042", "0042"),
    (3, True, "true"),
    (3, date(2026, 11, 4), "number: The spreadsheet has made a date of this."),
    (3, 12345678901234567, "number: The spreadsheet has shortened this number."),
    (3, "=1+1", "number: This formula has no result."),
    (3, "#REF!", "number: This is an error of the spreadsheet"),
    (4, "11/4/2026", date(2026, 11, 4)),
    (4, "2026-11-04", date(2026, 11, 4)),
    (4, datetime(2026, 11, 4), date(2026, 11, 4)),
    (4, datetime(2026, 11, 4, 13, 5), "date: This is not a day."),
    (4, time(13, 5), "date: This is not a day."),
    (4, 46330, "date: This is not a day."),
    (4, date(1900, 1, 1), "date: The year 1900 can't be right"),
    (5, 0.1 + 0.2, Decimal("0.30")),
    (5, 1234.565 * 2, Decimal("2469.13")),
    (5, -12, Decimal("-12.00")),
    (5, "(1,234.50)", Decimal("-1234.50")),
    (5, 12.345, "amount: This has more than 2 decimals."),
    (5, 1e-9, "amount: This has more than 2 decimals."),
    (5, 1e300, "amount: This can't be read as a number in one way only."),
    (5, "=A1*2", "amount: This formula has no result."),
    (6, None, None),
    (6, 2041, "2041"),
    (6, "two\nlines", "two lines"),
    (6, "=IF(A1,A1,A1)", "memo: This formula has no result."),
    (6, "#N/A", "memo: This is an error of the spreadsheet"),
]


def test_cells_of_every_type():
    rows = []
    for column, value, _ in CELLS:
        rows.append(list(GOOD))
        rows[-1][column] = value
    read_at = {3: 3, 4: 4, 5: 6, 6: 7}
    answers = read(workbook([HEADER, *rows]))
    assert len(answers) == len(CELLS)
    for (_, answer), (column, value, expected) in zip(answers, CELLS, strict=True):
        if isinstance(answer, list):
            assert (value, len(answer), answer[0][: len(str(expected))]) == (value, 1, expected)
        else:
            assert (value, repr(answer[read_at[column]])) == (value, repr(expected))


def test_a_sheet_is_read_wherever_it_begins_and_the_line_is_the_row_of_the_sheet():
    rows = [[], [None], [], [None, None, *HEADER], [None, None, *GOOD], [], [None, None, *GOOD, None], [None] * 9]
    assert read(workbook(rows)) == [(5, READ), (7, READ)]


def test_the_sheet_is_the_one_whose_header_fits():
    assert read(workbook([["Read me first"]], ["hidden", HEADER, GOOD], [HEADER, GOOD])) == [(2, READ)]
    assert read(workbook([HEADER], [["Account number", "name"]])) == (
        "More than one sheet can be read: “Sheet 1” (items), “Sheet 2” (accounts). Save each as a file of its own."
    )
    assert read(workbook([HEADER[:5]], [["x"]])) == (
        "The header of the sheet “Sheet 1” looks like one of items, and lacks: amount."
    )
    assert read(workbook([["x"]], ["hidden", HEADER])).startswith("No known column was found")


def test_days_are_counted_from_1904_where_the_workbook_says_so():
    assert read(workbook([HEADER, GOOD], epoch=CALENDAR_MAC_1904)) == [(2, READ)]


def test_a_formula_may_have_a_result_that_is_empty():
    formula = b'<c r="G2" t="inlineStr"><is><t>x</t></is></c>'
    cells = {
        b'<c r="G2" t="str"><f>"x"</f><v>x</v></c>': READ,
        b'<c r="G2" t="str"><f>""</f><v></v></c>': (*READ[:7], None, *READ[8:]),
        b'<c r="G2"><f>""</f></c>': [
            "memo: This formula has no result. Open the file in Excel and save it, or enter the value itself."
        ],
        b'<c r="G2"><f>""</f><v/>\n </c>': [
            "memo: This formula has no result. Open the file in Excel and save it, or enter the value itself."
        ],
        b'<c r="G2" t="e"><v>#DIV/0!</v></c>': [
            "memo: This is an error of the spreadsheet, not a value. Correct the formula."
        ],
    }
    assert {new: read(with_cells((formula, new))) for new in cells} == {new: [(2, row)] for new, row in cells.items()}


def test_what_calamine_takes_for_empty_is_told():
    """Errors and formulas without a result, in rows and columns that hold nothing else."""
    answers = read(workbook([[None, *HEADER], ["#N/A", *GOOD], ["=1"] * 8, [None] * 7 + ["=2"]]))
    columns = ["account_number", "batch_number", "kind", "number", "date", "amount", "memo"]
    missing = [f"{column}: This has to be filled in." for column in columns[:6]]
    formula = "This formula has no result. Open the file in Excel and save it, or enter the value itself."
    assert answers == [
        (2, READ),
        (3, [f"{column}: {formula}" for column in columns]),
        (4, [*missing, f"memo: {formula}"]),
    ]


def changed(path, old, new):
    """Return a workbook of two sheets in which one part is changed."""
    files = parts(workbook([HEADER, GOOD], [["x"]]))
    assert old in files[path]
    return packed(files | {path: files[path].replace(old, new)})


def shared(count):
    """Return a workbook with so many empty texts that no cell shows."""
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    texts = f'<sst xmlns="{namespace}">{"<si/>" * count}</sst>'
    return packed(parts(workbook([HEADER, GOOD])) | {"xl/sharedStrings.xml": texts})


def lying():
    """Return a workbook that says of a sheet of 40 MB that it has 1,000 bytes."""
    files = parts(workbook([HEADER, GOOD]))
    files[SHEET] = files[SHEET].replace(b"</worksheet>", b" " * 40_000_000 + b"</worksheet>")
    content = bytearray(packed(files))
    size = len(files[SHEET]).to_bytes(4, "little")
    assert content.count(size) == 2
    return bytes(content.replace(size, (1000).to_bytes(4, "little")))


def locked():
    return workbooks.OLD + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le")


A1 = b'<c r="A2" t="n">'
REFUSED = {
    "cut off": (lambda: workbook([HEADER, GOOD])[:-200], DAMAGED),
    "no archive": (lambda: b"PK\3\4 and no more", DAMAGED),
    "another archive": (lambda: packed({"word/document.xml": "<x/>"}), DAMAGED),
    "a size that is a lie": (lying, DAMAGED),
    "a document type": (lambda: with_cells((b"<worksheet", b'<!DOCTYPE x [<!ENTITY a "b">]><worksheet')), DAMAGED),
    "rows in no order": (lambda: with_cells((b'<row r="2">', b'<row r="1">')), DAMAGED),
    "a cell twice": (lambda: with_cells((b'"B2"', b'"A2"')), DAMAGED),
    "a column of no letters": (lambda: with_cells((b'"G2"', b'"?2"')), DAMAGED),
    "a cell far to the right": (
        lambda: with_cells((b'"G2"', b'"XFD200000"')),
        "The workbook has more than 3,000,000 cells. Save the sheet as “CSV UTF-8”.",
    ),
    "a cell far down": (
        lambda: with_cells((b'"G2"', b'"G200002"')),
        "The sheet reaches down to row 200,002, and 200,000 rows below the header are the most. Save the sheet as “CSV "
        "UTF-8”. If there is nothing that far down, delete the empty rows.",
    ),
    "a list of sheets that has no end": (
        lambda: changed("xl/workbook.xml", b"</workbook>", b" " * 2**20 + b"</workbook>"),
        DAMAGED,
    ),
    "two parts of one name": (
        lambda: packed(parts(workbook([HEADER, GOOD])) | {"xl/Worksheets/sheet1.xml": b"<worksheet/>"}),
        DAMAGED,
    ),
    "two sheets of one name": (lambda: changed("xl/workbook.xml", b"Sheet 2", b"Sheet 1"), DAMAGED),
    "hidden sheets only": (
        lambda: packed(
            parts(book := workbook([HEADER]))
            | {"xl/workbook.xml": parts(book)["xl/workbook.xml"].replace(b'"visible"', b'"hidden"')}
        ),
        "All sheets of the workbook are hidden. Save the sheet as “CSV UTF-8”.",
    ),
    "an old workbook": (
        lambda: workbooks.OLD + b"\0" * 600,
        "The file is an old workbook (.xls). Save it as .xlsx, or as “CSV UTF-8”.",
    ),
    "a password": (locked, "The workbook is protected by a password. Save it again without one."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_workbook_is_refused(name):
    make, sentence = REFUSED[name]
    assert read(make()) == sentence


def test_rows_that_are_formatted_and_empty_do_not_count():
    styled = b'</row><row r="1048576"><c r="XFD1048576" s="0"/></row></sheetData>'
    assert read(with_cells((b"</row></sheetData>", styled))) == [(2, READ)]


def test_what_is_wrong_and_unpacked_and_packed_has_an_end(monkeypatch):
    content = workbook([HEADER, GOOD, ["=1", "=2"]])
    monkeypatch.setattr(workbooks, "CELLS", 30)
    assert read(shared(31)) == "The workbook has more than 30 cells. Save the sheet as “CSV UTF-8”."
    monkeypatch.setattr(workbooks, "FAULTS", 1)
    assert read(content).startswith("More than 1 cells are errors, or formulas without a result.")
    monkeypatch.setattr(workbooks, "UNPACKED", 2**10)
    assert read(content).startswith("The workbook has more than 0 MB when it is unpacked.")
    monkeypatch.setattr(workbooks, "PACKED", 2**10)
    assert read(content).startswith("The workbook has more than 0 MB. ")


@given(st.data())
def test_whatever_was_damaged_there_are_rows_or_a_sentence(data):
    files = parts(workbook([HEADER, GOOD, GOOD]))
    name = data.draw(st.sampled_from([SHEET, *files]))
    place = data.draw(st.integers(0, len(files[name]) - 1))
    token = data.draw(
        st.sampled_from([b"", b'"', b"<", b">", b"9", b"-1", b'r="A1"', b't="s"', b't="e"', b"<v>", b"</v>"])
    )
    files[name] = files[name][:place] + token + files[name][place + data.draw(st.integers(0, 5)) :]
    assert read(packed(files))
