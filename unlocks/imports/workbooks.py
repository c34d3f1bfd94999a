"""Excel workbooks (.xlsx)."""

from typing import IO

from .problems import Table, Unreadable


def is_workbook(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(4) == b"PK\3\4"


def tables(file: IO[bytes]) -> list[Table]:
    raise Unreadable("Workbooks can't be read yet. Save the sheet as “CSV UTF-8”.")
