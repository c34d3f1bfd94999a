"""Workbooks, opened by two programs that are not ours."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from zipfile import BadZipFile, ZipFile

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from unlocks.texts import xlsx

TITLES = ["Number", "Total", "Bypassed on", "At", "Count", "Closed", "Nothing"]
ROW = ["0042", Decimal("-1218.50"), date(2026, 5, 3), datetime(2026, 11, 25, 19, 38, 5), 12, True, None]


def book(*sheets):
    return b"".join(xlsx.xlsx(sheets))


def read(content):
    """The values of each sheet, as openpyxl reads them, by its title."""
    opened = openpyxl.load_workbook(io.BytesIO(content))
    return {sheet.title: [[cell.value for cell in row] for row in sheet.iter_rows()] for sheet in opened}


def test_values_keep_their_kinds():
    content = book(("List", iter([TITLES, ROW])), ("About & more", [["Complete: 1 row"]]))
    assert read(content) == {
        "List": [TITLES, ["0042", -1218.5, datetime(2026, 5, 3), ROW[3], 12, "yes", None]],
        "About & more": [["Complete: 1 row"]],
    }
    opened = CalamineWorkbook.from_filelike(io.BytesIO(content))
    assert opened.sheet_names == ["List", "About & more"]
    assert opened.get_sheet_by_index(0).to_python() == [TITLES, ["0042", -1218.5, ROW[2], ROW[3], 12.0, "yes", ""]]


def test_a_time_stands_without_its_zone():
    at = datetime(2026, 11, 25, 19, 38, 5, tzinfo=UTC)
    assert read(book(("List", [["At"], [at]])))["List"][1] == [at.replace(tzinfo=None)]


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("=HYPERLINK(1)", "=HYPERLINK(1)"),
        ("+1", "+1"),
        ("@SUM(A1)", "@SUM(A1)"),
        ("<b>&amp;\"'", "<b>&amp;\"'"),
        (" two  blanks ", " two  blanks "),
        ("a\nb", "a\nb"),
        ("a\0b\x07c\ud800d\uffff", "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("Zoë 🦀 北京", "Zoë 🦀 北京"),
        ("x" * 40_000, "x" * (xlsx.MOST_LETTERS - len(xlsx.CUT)) + xlsx.CUT),
    ],
)
def test_a_text_stays_a_text(text, stands):
    content = book(("List", [["Text"], [text]]))
    opened = openpyxl.load_workbook(io.BytesIO(content))["List"]["A2"]
    assert (opened.value, opened.data_type) == (stands, "s")
    assert CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()[1] == [stands]


def test_what_excel_would_decode_is_kept_apart():
    with ZipFile(io.BytesIO(book(("List", [["Text"], ["_x0041_ and _x"]])))) as opened:
        assert b"_x005F_x0041_ and _x<" in opened.read("xl/worksheets/sheet1.xml")


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"])), min_size=1, max_size=3)))
def test_texts_come_back(rows):
    wide = [["a", "b", "c"], *([*row, *[""] * (3 - len(row))] for row in rows)]
    found = CalamineWorkbook.from_filelike(io.BytesIO(book(("List", wide)))).get_sheet_by_index(0).to_python()
    expected = [["a", "b", "c"], *wide[1:]]
    while expected and not any(expected[-1]):
        expected.pop()
    assert found == expected


def test_rows_are_not_kept():
    """A piece comes for each some of rows, before the next are read."""
    count = 0

    def rows():
        nonlocal count
        for number in range(3000):
            count += 1
            yield [number]

    pieces = xlsx.xlsx([("List", rows())])
    next(pieces)
    assert count == 1
    next(pieces)
    assert count == 501
    assert sum(map(len, pieces)) > 0
    assert count == 3000


def test_what_broke_off_is_no_workbook():
    *pieces, _ = xlsx.xlsx([("List", [[number] for number in range(2000)])])
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(b"".join(pieces)))
