"""What is wrong with a file or with a row of it, and the file that tells whoever has to correct it."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..texts.cells import inert
from ..texts.normalize import one_line

VALUE = 200  # letters of a cell that are told


class Unreadable(Exception):
    """A file that no row can be read from. Its text is the sentence that says why, and what to do."""


class Problem(NamedTuple):
    """Why a row was not read. `column` is '' when it is about the whole row; `value` is `told`."""

    line: int
    column: str
    value: str
    sentence: str


# The line where a row begins, and its cells, or why it has none.
Row = tuple[int, list[str] | Problem]


class Table(NamedTuple):
    """A header, and what reads the rows below it. `name` is that of the sheet, '' in a text file."""

    name: str
    header: list[str]
    rows: Callable[[], Iterator[Row]]


class Problems(list[Problem]):
    """What is wrong with one row. `known` are its values as far as they could be read, None for the others."""

    known: tuple[Any, ...] = ()


def told(value: str) -> str:
    """Return what stood in a cell as it can be shown: on one line, and cut when it is long."""
    text = one_line(value[: VALUE + 1])
    return text if len(value) <= VALUE else f"{text[:VALUE]}…"


def errors_csv(problems: Iterable[tuple[str, Problem]]) -> Iterator[bytes]:
    """Return the pieces of errors.csv, one row for each (file name, problem), in UTF-8 with the mark for Excel."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow(["File", "Line", "Column", "Value", "Problem"])
    for name, problem in problems:
        yield _taken(buffer)
        writer.writerow(map(inert, (one_line(name), *problem)))
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()
