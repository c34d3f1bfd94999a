"""What stands in a cell, as a value of a column. What can be read in two ways is not read.

A reader takes the text of a cell and returns the value, or raises Unclear. What is written in the `usual` way it takes
as it is, by `convert`: most cells are, and in a million rows nothing else is looked at.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from ..texts import normalize


class Reader(NamedTuple):
    read: Callable[[str], Any]
    usual: re.Pattern[str] = re.compile("(?!)")
    convert: Callable[[str], Any] = str


YEARS = range(1970, 2100)  # a spreadsheet shows 1900 for a date that was never entered
DIGITS = 12  # before the point; MONEY_ENDS of the models
COUNT_ENDS = 2**31

NO_VALUE = "#FORMULA!"  # stands for a formula of a workbook without its result
SPREADSHEET_ERRORS = {"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"}
_QUOTED = re.compile(r'="(.*)"', re.S)  # how a spreadsheet is kept from reading a text as a number
# Controls that are no blanks: no program shows them, and PostgreSQL keeps no NUL. The last stands for what got lost.
_CONTROL = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufffd]")

_SHORTENED = re.compile(r"-?[0-9](?:[.,][0-9]+)?E\+[0-9]+", re.I)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")

_ISO = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_PARTS = re.compile(r"([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]+)")
_MIDNIGHT = re.compile(r"[T ](?:0?0:00(?::00(?:\.0+)?)?|12:00(?::00)? AM)$", re.I)

_USUAL_MONEY = re.compile(r"-?[1-9][0-9]{0,11}\.[0-9]{2}|0\.[0-9]{2}")
_AMOUNT = re.compile(
    r"(?:(?P<minus>-) ?\$? ?|\$ ?(?P<dollar_minus>-)? ?|(?P<parenthesis>(?:\$ ?)?\( ?(?:\$ ?)?))?"
    r"(?P<whole>[0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.(?P<fraction>[0-9]+))?(?(parenthesis) ?\))"
)
_COUNT = re.compile(r"[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+")

_YES_NO = dict.fromkeys(["true", "yes", "y", "t", "1"], True) | dict.fromkeys(["false", "no", "n", "f", "0"], False)


class Unclear(ValueError):
    """A cell that can't be read, or only by guessing. `column` is named when a whole row is read."""

    def __init__(self, sentence: str, column: str = "") -> None:
        super().__init__(sentence)
        self.column = column


class Cells(dict[str, Any]):
    """The values of one column by the text of their cells: what was read before is not read again."""

    KEPT, LONGEST, TOO_LONG = 4096, 100, 10_000
    __slots__ = ("_convert", "_is_usual", "_read", "_required")

    def __init__(self, reader: Reader, *, required: bool) -> None:
        super().__init__()
        self._read, self._required = reader.read, required
        self._is_usual, self._convert = reader.usual.fullmatch, reader.convert

    def __missing__(self, text: str) -> Any:
        value = self._convert(text) if self._is_usual(text) else self._unusual(text)
        if len(text) <= self.LONGEST:
            if len(self) >= self.KEPT:
                self.clear()
            self[text] = value
        return value

    def _unusual(self, text: str) -> Any:
        if len(text) > self.TOO_LONG:
            raise Unclear(f"This has more than {self.TOO_LONG:,} characters.")
        value = self._read(_content(text)) if text and not text.isspace() else ""
        if value == "":
            if self._required:
                raise Unclear("This has to be filled in.")
            return None
        return value


def _content(text: str) -> str:
    """Return the text of a cell without what protects it; refuse what is no text."""
    if _CONTROL.search(text):
        raise Unclear("This holds what is no character, such as a NUL, or one that got lost (\ufffd). Correct it.")
    if text[0] == "=" and (quoted := _QUOTED.fullmatch(text)):
        return quoted[1]
    if text[0] == "#":
        if text == NO_VALUE:
            raise Unclear("This formula has no result. Open the file in Excel and save it, or enter the value itself.")
        if text.upper() in SPREADSHEET_ERRORS:
            raise Unclear("This is an error of the spreadsheet, not a value. Correct the formula.")
    return text


def _fitting(text: str, longest: int) -> str:
    if len(text) > longest:
        raise Unclear(f"This has {len(text):,} characters, and {longest:,} are the most.")
    return text


# Texts


def number(longest: int) -> Reader:
    """Read what a record is known by, as `normalize.number` spells it."""
    return _name(normalize.number, longest)


def reference(longest: int) -> Reader:
    """Read what another system knows a record by, as it is spelled there."""
    return _name(lambda text: normalize.bare(normalize.line(text)), longest)


def _name(spelled: Callable[[str], str], longest: int) -> Reader:
    usual = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._/#-]{{0,{longest - 1}}}")
    return Reader(lambda text: _fitting(_known_by(spelled(text)), longest), usual)


def _known_by(text: str) -> str:
    if text.startswith("="):
        raise Unclear("This is a formula, not a value. Enter the value itself.")
    if _SHORTENED.fullmatch(text):
        raise Unclear("The spreadsheet has shortened this number. Format the column as text and enter it again.")
    if _MOMENT.fullmatch(text):
        raise Unclear("The spreadsheet has made a date of this. Format the column as text and enter it again.")
    return text


def line(longest: int) -> Reader:
    """Read text, as one line."""
    usual = re.compile(rf"(?!.*  )[!$-<>-~](?:[ -~]{{0,{longest - 2}}}[!-~])?")
    return Reader(lambda text: _fitting(normalize.line(text), longest), usual)


def _email(text: str) -> str:
    """Read one email address, in small letters."""
    address = _fitting(normalize.email(text), 254)
    try:
        if " " in normalize.plain(text):
            raise ValidationError("two words")
        validate_email(address)
    except ValidationError:
        raise Unclear("This is not one email address, such as name@company.example.") from None
    return address


email = Reader(_email)


# Choices


def squeezed(text: str) -> str:
    """Return a name of a column or choice as it is compared: without capitals, spaces, hyphens and underscores."""
    return re.sub("[ _-]", "", normalize.plain(text)).casefold()


def choice(values: Iterable[str] | Mapping[str, Any], named: str = "") -> Reader:
    """Read one of several values, written in any way to write its name. `named` says which there are."""
    pairs = values.items() if isinstance(values, Mapping) else [(value, value) for value in values]
    known = {squeezed(name): value for name, value in pairs}
    named = named or ", ".join(values)

    def read(text: str) -> Any:
        try:
            return known[squeezed(text)]
        except KeyError:
            raise Unclear(f"This is none of: {named}.") from None

    return Reader(read)


yes_no = choice(_YES_NO, named="true, false, yes, no, 1, 0")


@cache
def _time_zones() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones()}


def _time_zone(text: str) -> str:
    """Read a time zone by its name in the IANA database."""
    name = normalize.plain(text).replace(" ", "_").casefold()
    if name not in _time_zones():
        raise Unclear("This is no name of a time zone, such as America/New_York.")
    return _time_zones()[name]


time_zone = Reader(_time_zone)


# Days and times


def _month_first(text: str) -> date:
    """Read a day that is written as 2026-11-25 or, the American way, as 11/25/2026."""
    return _read_day(text, day_first=False)


def _day_first(text: str) -> date:
    """Read a day that is written as 2026-11-25 or, with the day first, as 25/11/2026, 25.11.2026 or 25-11-2026."""
    return _read_day(text, day_first=True)


def _read_day(text: str, *, day_first: bool) -> date:
    plain = _MIDNIGHT.sub("", normalize.plain(text))
    if iso := _ISO.fullmatch(plain):
        return _day(*iso.groups())
    written = _PARTS.fullmatch(plain)
    if not written or not (day_first or written[2] == "/"):
        example = "25/11/2026" if day_first else "11/25/2026"
        raise Unclear(f"This is not a day. Write it as 2026-11-25 or {example}, without a time.")
    first, _, second, year = written.groups()
    if int(second if day_first else first) > 12 >= int(first if day_first else second):
        order = "month" if day_first else "day"
        raise Unclear(f"There is no such month. If the {order} comes first in this file, say so and read it again.")
    return _day(year, second, first) if day_first else _day(year, first, second)


def _day(year: str, month: str, day: str) -> date:
    if len(year) != 4:
        raise Unclear("Write the year with four digits.")
    try:
        value = date(int(year), int(month), int(day))
    except ValueError:
        raise Unclear("There is no such day in the calendar.") from None
    return _sensible(value)


def _moment(text: str) -> datetime:
    """Read a date and time with its zone, as 2026-11-25T19:38:05-05:00 or with a Z for UTC."""
    try:
        value = datetime.fromisoformat(normalize.plain(text))
    except ValueError:
        raise Unclear("This is not a date and time. Write it as 2026-11-25T19:38:05Z.") from None
    if value.tzinfo is None:
        raise Unclear("This time has no zone. Write it as 2026-11-25T19:38:05-05:00, or with a Z for UTC.")
    return _sensible(value).astimezone(UTC)


def _sensible(value: Any) -> Any:
    if value.year not in YEARS:
        raise Unclear(f"The year {value.year} can't be right: dates are between {YEARS[0]} and {YEARS[-1]}.")
    return value


day = Reader(_month_first)
day_first = Reader(_day_first)
moment = Reader(_moment)


# Numbers


def decimal(least: int, most: int) -> Reader:
    """Read a number with so many decimals at least and at most, such as -1,234.50, $12 or (45.00)."""

    def read(text: str) -> Decimal:
        written = _AMOUNT.fullmatch(normalize.plain(text))
        if not written or not (written["whole"] or written["fraction"]):
            raise Unclear("This can't be read as a number in one way only. Write it with a point, such as 1234.50.")
        whole = written["whole"].replace(",", "").lstrip("0") or "0"
        fraction = _fraction(written["fraction"] or "", least, most)
        if len(whole) > DIGITS:
            raise Unclear(f"This number is too long: it can have {DIGITS} digits before the point.")
        value = Decimal(f"{whole}.{fraction}" if fraction else whole)
        negative = written["minus"] or written["dollar_minus"] or written["parenthesis"]
        return -value if negative else value

    return Reader(read)


def _fraction(digits: str, least: int, most: int) -> str:
    # 12.500 may be twelve and a half, or twelve thousand five hundred; 12.5000 is the former.
    told = digits if most == 2 and len(digits) == 3 else digits.rstrip("0")
    if len(told) > most:
        raise Unclear(f"This has more than {most} decimals. Round it.")
    return told.ljust(least, "0")


money = Reader(decimal(2, 2).read, _USUAL_MONEY, Decimal)


def count(least: int) -> Reader:
    """Read a whole number from `least` on."""

    def read(text: str) -> int:
        plain = normalize.plain(text)
        if not _COUNT.fullmatch(plain):
            raise Unclear("This is not a whole number.")
        digits = plain.replace(",", "").lstrip("0") or "0"
        if len(digits) > 10 or not least <= int(digits) < COUNT_ENDS:
            raise Unclear(f"This number has to be between {least} and {COUNT_ENDS - 1:,}.")
        return int(digits)

    return Reader(read)
