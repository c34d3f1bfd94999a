"""What stands in a cell is read in the one way that it can be read, or not at all."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.texts.test_normalize import INVISIBLE
from unlocks.imports import values
from unlocks.imports.kinds import KINDS
from unlocks.imports.values import Cells, Unclear

NAMES = values.number(40)
TEXTS = values.line(200)
QUANTITY, PRICE = values.decimal(0, 6), values.decimal(2, 6)

READ = [
    (NAMES, "4711", "4711"),
    (NAMES, " 20261104–INV ", "20261104-INV"),
    (NAMES, '="0042"', "0042"),
    (NAMES, "'0042", "0042"),
    (NAMES, "\ufeff4711", "4711"),
    (NAMES, "A" * 40, "A" * 40),
    (NAMES, "Inv 12 / 3", "Inv 12 / 3"),
    (values.reference(80), "“T–1”", "T–1"),
    (TEXTS, "Zoe\u0308  K.\r\n2nd line\t", "Zoë K. 2nd line"),
    (TEXTS, "Don’t—“quote”", "Don’t—“quote”"),
    (TEXTS, "=HYPERLINK(1)", "=HYPERLINK(1)"),
    (TEXTS, "#1 Plumbing", "#1 Plumbing"),
    (TEXTS, "می\u200cخواهم\u200b", "می\u200cخواهم"),
    (TEXTS, "x" * 200, "x" * 200),
    (values.email, " D.Whitfield@Northwind.EXAMPLE", "d.whitfield@northwind.example"),
    (values.yes_no, "TRUE", True),
    (values.yes_no, "0", False),
    (values.choice(["credit_memo"]), " Credit-MEMO", "credit_memo"),
    (values.time_zone, "america/new york", "America/New_York"),
    (values.day, "2026-11-04", date(2026, 11, 4)),
    (values.day, "11/4/2026", date(2026, 11, 4)),
    (values.day, "2026-11-04 00:00:00", date(2026, 11, 4)),
    (values.day, "2026-11-04T00:00:00.000", date(2026, 11, 4)),
    (values.day, "11/4/2026 12:00:00 AM", date(2026, 11, 4)),
    (values.day, "٢٠٢٦-١١-٠٤", date(2026, 11, 4)),
    (values.day_first, "4/11/2026", date(2026, 11, 4)),
    (values.day_first, "04.11.2026", date(2026, 11, 4)),
    (values.day_first, "2026-11-04", date(2026, 11, 4)),
    (values.moment, "2026-11-25T19:38:05-05:00", datetime(2026, 11, 26, 0, 38, 5, tzinfo=UTC)),
    (values.moment, "2026-11-26 00:38:05Z", datetime(2026, 11, 26, 0, 38, 5, tzinfo=UTC)),
    (values.money, "1234.50", Decimal("1234.50")),
    (values.money, "1234.5", Decimal("1234.50")),
    (values.money, "1,234", Decimal("1234.00")),
    (values.money, " $ 1,234,567.89 ", Decimal("1234567.89")),
    (values.money, ".5", Decimal("0.50")),
    (values.money, "-45", Decimal("-45.00")),
    (values.money, "−45.00", Decimal("-45.00")),
    (values.money, "-$45.00", Decimal("-45.00")),
    (values.money, "$-45.00", Decimal("-45.00")),
    (values.money, "($45.00)", Decimal("-45.00")),
    (values.money, "$ (45.00)", Decimal("-45.00")),
    (values.money, "-0.00", Decimal("0.00")),
    (values.money, "12.5000", Decimal("12.50")),
    (values.money, "00000000000000012", Decimal("12.00")),
    (values.money, "-999999999999.99", Decimal("-999999999999.99")),
    (values.money, "４５", Decimal("45.00")),
    (QUANTITY, "2.500", Decimal("2.5")),
    (QUANTITY, "1", Decimal("1")),
    (QUANTITY, "0", Decimal("0")),
    (PRICE, "0.125", Decimal("0.125")),
    (PRICE, "12", Decimal("12.00")),
    (values.count(0), "1,200", 1200),
    (values.count(1), "2147483647", 2**31 - 1),
]

NOT_READ = [
    (NAMES, "A" * 41, "This has 41 characters, and 40 are the most."),
    (NAMES, "=A1", "This is a formula"),
    (NAMES, "4.71E+11", "The spreadsheet has shortened this number."),
    (NAMES, "2026-11-04 00:00:00", "The spreadsheet has made a date of this."),
    (NAMES, "47\x0011", "This holds what is no character"),
    (TEXTS, "Caf\x82", "This holds what is no character"),
    (TEXTS, "Caf\ufffd", "This holds what is no character"),
    (TEXTS, "x" * 201, "This has 201 characters, and 200 are the most."),
    (TEXTS, "x" * 100_000, "This has more than 10,000 characters."),
    (TEXTS, "#N/A", "This is an error of the spreadsheet"),
    (TEXTS, "#FORMULA!", "This formula has no result."),
    (values.email, "dana@northwind.example; omar@blueridge.example", "This is not one email address"),
    (values.email, "dana w@northwind.example", "This is not one email address"),
    (values.email, "Dana <dana@northwind.example>", "This is not one email address"),
    (values.yes_no, "maybe", "This is none of: true, false, yes, no, 1, 0."),
    (values.choice(["posted", "bypassed"]), "unlocked", "This is none of: posted, bypassed."),
    (values.time_zone, "Eastern", "This is no name of a time zone"),
    (values.day, "11/4/26", "Write the year with four digits."),
    (values.day, "13/13/2026", "There is no such day in the calendar."),
    (values.day, "25/11/2026", "There is no such month. If the day comes first in this file"),
    (values.day, "2/29/2027", "There is no such day in the calendar."),
    (values.day, "4.11.2026", "This is not a day."),
    (values.day, "46330", "This is not a day."),
    (values.day, "11/4/2026 1:05 PM", "This is not a day."),
    (values.day, "1899-12-31", "The year 1899 can't be right"),
    (values.day, "1900-01-00", "There is no such day in the calendar."),
    (values.day, "20261104", "This is not a day."),
    (values.day, "2026-W45-3", "This is not a day."),
    (values.day_first, "11/25/2026", "There is no such month. If the month comes first in this file"),
    (values.moment, "2026-11-25T19:38:05", "This time has no zone."),
    (values.moment, "11/25/2026", "This is not a date and time."),
    (values.moment, "0001-01-01T00:00:00+14:00", "The year 1 can't be right"),
    (values.money, "1.234,56", "This can't be read as a number in one way only."),
    (values.money, "12,50", "This can't be read as a number in one way only."),
    (values.money, "1,23,456", "This can't be read as a number in one way only."),
    (values.money, "0,123", "This can't be read as a number in one way only."),
    (values.money, "1 234.50", "This can't be read as a number in one way only."),
    (values.money, "12e3", "This can't be read as a number in one way only."),
    (values.money, "1e400", "This can't be read as a number in one way only."),
    (values.money, "NaN", "This can't be read as a number in one way only."),
    (values.money, "-Infinity", "This can't be read as a number in one way only."),
    (values.money, "45-", "This can't be read as a number in one way only."),
    (values.money, "(-45)", "This can't be read as a number in one way only."),
    (values.money, "(45", "This can't be read as a number in one way only."),
    (values.money, "$ -", "This can't be read as a number in one way only."),
    (values.money, "5.", "This can't be read as a number in one way only."),
    (values.money, "USD 5", "This can't be read as a number in one way only."),
    (values.money, "١٢٫٥", "This can't be read as a number in one way only."),
    (values.money, "12.345", "This has more than 2 decimals."),
    (values.money, "12.500", "This has more than 2 decimals."),
    (values.money, "1000000000000", "This number is too long"),
    (QUANTITY, "0.1234567", "This has more than 6 decimals."),
    (values.count(1), "0", "This number has to be between 1 and 2,147,483,647."),
    (values.count(0), "2147483648", "This number has to be between 0 and 2,147,483,647."),
    (values.count(0), "1.5", "This is not a whole number."),
]


def said(reader, text):
    """Return what a cell is read as, or why it is not read."""
    try:
        return Cells(reader, required=True)[text]
    except Unclear as unclear:
        return unclear


def test_what_is_read():
    read = [(text, said(reader, text)) for reader, text, _ in READ]
    assert [(text, repr(value)) for text, value in read] == [(text, repr(value)) for _, text, value in READ]


def test_what_is_not_read_and_why():
    answers = [(text, said(reader, text), sentence) for reader, text, sentence in NOT_READ]
    assert [(text[:50], answer) for text, answer, sentence in answers if not str(answer).startswith(sentence)] == []
    assert {type(answer) for _, answer, _ in answers} == {Unclear}


@pytest.mark.parametrize("text", ["", " ", "\u00a0\t\n"])
def test_an_empty_cell_is_no_value_and_has_to_be_filled_in_when_it_is_required(text):
    for column in KINDS["items"].columns:
        assert Cells(column.read, required=False)[text] is None
        assert str(said(column.read, text)) == "This has to be filled in."


@given(st.decimals(-(10**12) + 1, 10**12 - 1, places=2), st.booleans())
def test_any_amount_is_read_as_it_was_written(amount, signed):
    written = f"${amount:,.2f}" if amount >= 0 or signed else f"({-amount:,.2f})"
    assert str(Cells(values.money, required=True)[written]) == str(amount if amount else Decimal("0.00"))


@given(st.dates(date(1970, 1, 1), date(2099, 12, 31)))
def test_any_day_is_read_as_it_was_written(day):
    month_first, day_first = f"{day.month}/{day.day}/{day.year}", f"{day:%d.%m.%Y}"
    read = [Cells(values.day, required=True)[text] for text in (str(day), f"{day} 00:00:00", month_first)]
    assert [*read, Cells(values.day_first, required=True)[day_first]] == [day] * 4


@given(st.data())
def test_any_cell_is_read_or_refused_and_what_was_read_is_read_the_same_again(data):
    column = data.draw(st.sampled_from([column for kind in KINDS.values() for column in kind.columns]))
    cells = Cells(column.read, required=False)
    alphabet = st.one_of(st.sampled_from("0123456789.,-$()/=#\"' aE+\0" + INVISIBLE), st.characters())
    try:
        value = cells[data.draw(st.text(alphabet, max_size=12))]
    except Unclear:
        return
    if isinstance(value, str):
        assert value.isprintable() or "\u200c" in value or "\u200d" in value
        assert cells[value] == value


def test_no_more_is_kept_of_a_column_than_has_room():
    cells = Cells(TEXTS, required=True)
    texts = [f"{n}" * (1 + n % 2 * 40) for n in range(10_000)]
    assert [cells[text] for text in texts] == texts
    assert len(cells) <= Cells.KEPT
