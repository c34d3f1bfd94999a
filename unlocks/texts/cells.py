"""Values as cells of a CSV file that a spreadsheet opens."""

import codecs
import csv
import io
import re
from collections.abc import Iterable

_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")  # how one begins
_NEGATIVE = re.compile(r"-[0-9]+(?:\.[0-9]+)?")


def inert(value: object) -> str:
    """Write a value so that no spreadsheet takes it for a formula; one that was not recorded stays empty."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in _FORMULA and not _NEGATIVE.fullmatch(text) else text


def csv_file(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a CSV file in UTF-8 with the mark that Excel looks for, in which no cell is a formula."""
    return codecs.BOM_UTF8 + csv_lines([columns, *rows])


def csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows of a CSV file in UTF-8, in which no cell is a formula."""
    text = io.StringIO()
    csv.writer(text).writerows([inert(value) for value in row] for row in rows)
    return text.getvalue().encode()
