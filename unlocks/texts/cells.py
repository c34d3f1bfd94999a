"""Values as cells of a CSV file that a spreadsheet opens."""

import re

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NEGATIVE = re.compile(r"-[0-9]+(?:\.[0-9]+)?")


def inert(value: object) -> str:
    """Write a value so that no spreadsheet takes it for a formula; one that was not recorded stays empty."""
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NEGATIVE.fullmatch(text) else text
