"""CSV files, as people's programs write them."""

import codecs
import csv
import io
from collections.abc import Generator
from functools import partial
from typing import IO, Any

from .problems import Problem, Row, Table, Unreadable

DELIMITERS = (",", ";", "\t")
CHUNK = 2**20
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_AGAIN = "Open it in the program that it came from, and save it as “CSV UTF-8”."


def tables(file: IO[bytes]) -> list[Table]:
    """Return what a text file may hold: a table for each delimiter. Raises Unreadable if it is no text."""
    encoding = _encoding(file)
    return [_table(file, encoding, delimiter) for delimiter in DELIMITERS]


def _table(file: IO[bytes], encoding: str, delimiter: str) -> Table:
    rows = _rows(file, encoding, delimiter)
    line, header = next((row for row in rows if _is_header(*row)), (0, []))
    rows.close()
    if isinstance(header, Problem) or "\0" in "".join(header):
        header = []
    below = partial(_rows, file, encoding, delimiter, after=line, width=len(header))
    return Table("", header, below)


def _is_header(line: int, cells: list[str] | Problem) -> bool:
    """Return whether a row is neither blank nor the one that tells Excel the delimiter."""
    if isinstance(cells, Problem):
        return True
    return any(map(str.strip, cells)) and not (line == 1 and cells[0].lower().startswith("sep="))


def _rows(
    file: IO[bytes], encoding: str, delimiter: str, *, after: int = 0, width: int = 0
) -> Generator[Row, None, None]:
    """Yield each row that begins below the line `after`; a header is `width` cells wide, 0 if that isn't known yet."""
    file.seek(0)
    text = io.TextIOWrapper(_raw(file), encoding, newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line, more = 1, True
    try:
        while more:
            try:
                for cells in reader:
                    if line > after:
                        if reader.line_num > line and _holds_a_row(cells, delimiter, width):
                            yield line, _never_closed(line, reader.line_num)
                        else:
                            yield line, cells
                    line = reader.line_num + 1
                more = False
            except csv.Error as error:
                yield line, _broken(error, line, reader.line_num)
                line = reader.line_num + 1
    finally:
        text.detach()  # it would close the file


def _raw(file: Any) -> Any:
    """Return the file that an upload of Django's wraps: the wrapper is no stream to Python's own."""
    return getattr(file, "file", file)


def _holds_a_row(cells: list[str], delimiter: str, width: int) -> bool:
    """Return whether a cell of several lines ends its row and begins another, for want of a quotation mark."""
    for place, cell in enumerate(cells):
        lines = cell.splitlines()
        if len(lines) > 1 and (lines[0].count(delimiter), lines[-1].count(delimiter)) == (width - 1 - place, place):
            return True
    return False


def _broken(error: csv.Error, line: int, last: int) -> Problem:
    if last > line or "unexpected end" in str(error):
        return _never_closed(line, last)
    if "limit" in str(error):
        return Problem(line, "", "", f"A cell has more than {csv.field_size_limit():,} characters. Shorten it.")
    return Problem(
        line, "", "", "A quotation mark stands inside a cell. Double it, or leave it out, and read the file again."
    )


def _never_closed(line: int, last: int) -> Problem:
    upto = f" Lines {line} to {last} were not read." if last > line else ""
    return Problem(
        line, "", "", f"A quotation mark opens a cell here and does not close it before the row ends.{upto} Correct it."
    )


def _encoding(file: IO[bytes]) -> str:
    """Return the encoding of a text: what its mark says, else UTF-8 if all of it is, else that of Windows."""
    file.seek(0)
    start = file.read(4)
    marked = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "")
    failed = _undecodable(file, marked or "utf-8")
    if failed is None:
        return marked or "utf-8"
    if marked:
        raise Unreadable(f"The file begins as {marked.removesuffix('-sig').upper()} text and then is none. {_AGAIN}")
    if failed:
        raise Unreadable(f"The file mixes two encodings, so that some letters can't be read. {_AGAIN}")
    if _undecodable(file, "cp1252") is not None:
        raise Unreadable("The file is no text. It has to be a CSV file or an Excel workbook (.xlsx).")
    return "cp1252"


def _undecodable(file: IO[bytes], encoding: str) -> bool | None:
    """Return None if a file can be decoded, else whether letters beyond ASCII were decoded before it failed."""
    file.seek(0)
    decoder, beyond = codecs.getincrementaldecoder(encoding)(), False
    for chunk in iter(partial(file.read, CHUNK), b""):
        if len(chunk) == CHUNK and b"\n" not in chunk and b"\r" not in chunk:
            raise Unreadable("The file has a line of more than a million characters, so it is no CSV file.")
        try:
            beyond |= not decoder.decode(chunk).isascii()
        except UnicodeDecodeError as error:
            return beyond or not error.object[: error.start].decode(encoding).isascii()
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return beyond
    return None
