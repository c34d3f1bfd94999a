"""Values as cells of a CSV file that a spreadsheet opens."""

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NEGATIVE = re.compile(r"-[0-9]+(?:\.[0-9]+)?")


def inert(value: object) -> str:
    """Write a value so that no spreadsheet takes it for a formula; one that was not recorded stays empty."""
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NEGATIVE.fullmatch(text) else text


def csv_file(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a CSV file in UTF-8 with the mark that Excel looks for, in which no cell is a formula."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([inert(value) for value in row] for row in rows)
    return file.getvalue().encode("utf-8-sig")
