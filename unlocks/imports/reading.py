"""Opening a file of any kind, and reading its rows as values."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import getitem, itemgetter
from typing import IO, Any

from ..texts.normalize import one_line
from . import text_files, values, workbooks
from .kinds import KINDS, Kind
from .problems import Problem, Problems, Table, Unreadable, told
from .values import Cells, Unclear, squeezed

_TOTALS = ("total", "grandtotal", "subtotal")
NAMED = 10  # columns that a sentence lists


@dataclass(frozen=True)
class File:
    """A file that can be read: of which kind it is, which of its columns are ignored, and its SHA-256 (hex)."""

    name: str
    kind: Kind
    unknown_columns: list[str]
    sha256: str
    _table: Table
    _day_first: bool

    @property
    def columns(self) -> list[str]:
        """The names of the kind's columns that the file has."""
        names = _squeezed_header(self._table.header)
        return [column.name for column in self.kind.columns if squeezed(column.name) in names]

    def rows(self) -> Iterator[tuple[int, tuple[Any, ...] | list[Problem]]]:
        """Yield (line, values) of each row in the order of the kind's columns, or (line, what is wrong with it).

        A cell that is empty, or whose column is missing, is None. Blank rows are passed over.
        """
        read = self.reader()
        for line, cells in self.written():
            if values := read(line, cells):
                yield line, values

    def written(self) -> Iterator[tuple[int, tuple[str, ...] | list[Problem]]]:
        """Yield (line, cells) of each row as it is written, in the order of the kind's columns, for `reader`."""
        names = _squeezed_header(self._table.header)
        width, columns = len(names), self.kind.columns
        # What a column reads that the file does not have: a cell that is put behind each row.
        places = [names.index(name) if (name := squeezed(column.name)) in names else width for column in columns]
        pick, lacks = itemgetter(*places), width in places
        for line, cells in self._table.rows():
            if isinstance(cells, Problem):
                yield line, [cells]
                continue
            if len(cells) != width:
                if not any(map(str.strip, cells)):
                    continue
                if len(cells) < width or any(map(str.strip, cells[width:])):
                    yield line, [_ragged(line, cells, width)]
                    continue
            if lacks:
                cells.append("")
            yield line, pick(cells)

    def reader(self) -> Callable[[int, Any], tuple[Any, ...] | list[Problem]]:
        """Return what reads a row of `written`: its values, or what is wrong with it, nothing if it is blank."""
        finish = self.kind.finish
        cells_of = [Cells(self._reader(column.read), required=column.required) for column in self.kind.columns]

        def read(line: int, cells: Any) -> tuple[Any, ...] | list[Problem]:
            if type(cells) is list:
                return cells
            try:
                return finish(tuple(map(getitem, cells_of, cells)))
            except Unclear:
                return self._problems(line, cells, cells_of)

        return read

    def text(self, cells: tuple[str, ...]) -> str:
        """Return the cells of a row of `written` as one text."""
        return "\x1f".join(cells)

    @property
    def spelling(self) -> str:
        """How its cells are to be read: what is written alike in two files of one spelling has the same values."""
        return f"{'day first' if self._day_first else 'month first'}: {', '.join(self.columns)}"

    def _reader(self, read: values.Reader) -> values.Reader:
        return values.day_first if self._day_first and read is values.day else read

    def _problems(self, line: int, cells: tuple[str, ...], cells_of: list[Cells]) -> list[Problem]:
        """Return each thing that is wrong with a row, nothing if it is blank."""
        filled = [cell for cell in cells if cell and not cell.isspace()]
        if not filled:
            return []
        problems, row = Problems(), []
        for column, cell, read in zip(self.kind.columns, cells, cells_of, strict=True):
            try:
                row.append(read[cell])
            except Unclear as unclear:
                row.append(None)
                problems.append(Problem(line, column.name, told(cell), str(unclear)))
        problems.known = tuple(row)
        if not problems:
            return self._unfinished(line, cells, tuple(row))
        if len(filled) < len(self.kind.required) and squeezed(filled[0][:20]).startswith(_TOTALS):
            return [Problem(line, "", told(filled[0]), "This is a total and not a record. Delete the row.")]
        return problems

    def _unfinished(self, line: int, cells: tuple[str, ...], row: tuple[Any, ...]) -> list[Problem]:
        try:
            self.kind.finish(row)
        except Unclear as unclear:
            value = cells[self.kind.header.index(unclear.column)]
            problems = Problems([Problem(line, unclear.column, told(value), str(unclear))])
            problems.known = row
            return problems
        return []


def open_file(name: str, file: IO[bytes], *, kind: str | None = None, day_first: bool = False) -> File:
    """Open a CSV file or workbook, whose kind its header tells unless it is given; the file has to be seekable.

    `day_first` reads 3/4/2026 as April 3. The file stays open, and belongs to the caller, as long as rows are read.
    Raises Unreadable.
    """
    file.seek(0)
    start = file.read(len(workbooks.OLD))
    if not start:
        raise Unreadable("The file is empty.")
    if start == workbooks.OLD:
        workbooks.refuse_old(file)
    tables = workbooks.tables(file) if start.startswith(workbooks.BEGINS) else text_files.tables(file)
    table, found = _fitting(tables, kind)
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return File(name, found, _unknown(table, found), sha256, table, day_first)


def _fitting(tables: list[Table], wanted: str | None) -> tuple[Table, Kind]:
    """Return the one table whose header fits a kind, and that kind."""
    fits = [(table, kind) for table in tables for kind in _kinds(table)]
    chosen = [(table, kind) for table, kind in fits if wanted in (None, kind.name)]
    if not chosen:
        raise Unreadable(_none(tables, fits, wanted))
    if len(chosen) > 1:
        raise Unreadable(_several(chosen))
    table, kind = chosen[0]
    if doubled := _doubled(table, kind):
        raise Unreadable(f"The header names twice: {', '.join(doubled)}. Delete one of each.")
    return table, kind


def _kinds(table: Table) -> list[Kind]:
    """Return the kinds that have all they need and ignore the fewest columns.

    A header of contacts has all that one of accounts needs.
    """
    fits = [kind for kind in KINDS.values() if not _missing(table, kind)]
    fewest = min((len(_unknown(table, kind)) for kind in fits), default=0)
    return [kind for kind in fits if len(_unknown(table, kind)) == fewest]


def _squeezed_header(header: list[str]) -> list[str]:
    """Return the names of a header as they are compared, without blank ones at its end."""
    names = [squeezed(name).rstrip("*") for name in header]
    while names and not names[-1]:
        names.pop()
    return names


def _missing(table: Table, kind: Kind) -> list[str]:
    names = set(_squeezed_header(table.header))
    return [column.name for column in kind.columns if column.required and squeezed(column.name) not in names]


def _doubled(table: Table, kind: Kind) -> list[str]:
    names = _squeezed_header(table.header)
    return [column.name for column in kind.columns if names.count(squeezed(column.name)) > 1]


def _unknown(table: Table, kind: Kind) -> list[str]:
    known = {squeezed(name) for name in kind.header}
    named = zip(table.header, _squeezed_header(table.header), strict=False)
    return [one_line(name)[:60] for name, plain in named if plain and plain not in known]


def _ragged(line: int, cells: list[str], width: int) -> Problem:
    what = "too many" if len(cells) > width else "too few"
    return Problem(
        line,
        "",
        told(cells[-1]),
        f"This row has {what} cells: {len(cells)}, and the header has {width}. A delimiter or a quotation mark may be "
        "missing. Excel leaves out empty cells at the end: save the file as a workbook (.xlsx) then.",
    )


def _several(chosen: list[tuple[Table, Kind]]) -> str:
    if len({table.name for table, _ in chosen}) > 1:
        sheets = ", ".join(f"“{table.name}” ({kind.name})" for table, kind in chosen)
        return f"More than one sheet can be read: {sheets}. Save each as a file of its own."
    return f"The header fits files of {' and of '.join(kind.name for _, kind in chosen)}. Say which it is."


def _none(tables: list[Table], fits: list[tuple[Table, Kind]], wanted: str | None) -> str:
    """Say why no table fits, by the one that comes nearest."""
    if fits:
        return f"This is a file of {fits[0][1].name}, not of {wanted}."
    kinds = [KINDS[wanted]] if wanted else list(KINDS.values())
    pairs = [(table, kind) for table in tables for kind in kinds]
    table, kind = max(pairs, key=lambda pair: (_known(*pair), -len(_missing(*pair))))
    if not _known(table, kind):
        return (
            "No known column was found in the first row that is not blank. It has to name the columns, such as "
            "account_number."
        )
    where = f" of the sheet “{table.name}”" if table.name else ""
    return f"The header{where} looks like one of {kind.name}, and lacks: {', '.join(_missing(table, kind))}."


def _known(table: Table, kind: Kind) -> int:
    return len(set(_squeezed_header(table.header)) & {squeezed(name) for name in kind.header})
