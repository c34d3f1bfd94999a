"""Excel workbooks (.xlsx). They can't be read piece by piece, so all is measured before any of it is opened."""

import posixpath
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain, repeat
from os import SEEK_END
from tempfile import TemporaryFile
from typing import IO, Any
from xml.parsers import expat
from zipfile import BadZipFile, ZipFile

from python_calamine import CalamineError, CalamineSheet, SheetTypeEnum, SheetVisibleEnum, load_workbook

from .problems import Row, Table, Unreadable
from .values import NO_VALUE, SPREADSHEET_ERRORS

ROWS = 200_000
CELLS = 3_000_000
FAULTS = 10_000  # errors, and formulas without a result
PACKED = 64 * 2**20  # bytes
UNPACKED = 400 * 2**20
CHUNK = 2**18

BEGINS = b"PK\3\4"
# Of the parts of a workbook, those that calamine reads besides the sheets, and how many bytes they may have.
_PARTS = dict.fromkeys(
    ["[content_types].xml", "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels"], 2**20
) | {"xl/styles.xml": 16 * 2**20, "xl/sharedstrings.xml": UNPACKED}
OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # .xls, and an .xlsx with a password
_LOCKED = "EncryptedPackage".encode("utf-16-le")
_CSV = "Save the sheet as “CSV UTF-8”."
_BROKEN = (BadZipFile, CalamineError, EOFError, NotImplementedError, RuntimeError, zlib.error, expat.ExpatError)

Place = tuple[int, int]  # row and column, from 0


def tables(file: IO[bytes]) -> list[Table]:
    """Return a table for each sheet that is not hidden. Raises Unreadable: damaged, too large, no workbook."""
    try:
        with TemporaryFile() as copy:
            faults = _copy(file, copy)
            copy.seek(0)
            workbook = load_workbook(copy)
            found = [
                _table(workbook.get_sheet_by_name(sheet.name), faults[sheet.name])
                for sheet in workbook.sheets_metadata
                if sheet.typ == SheetTypeEnum.WorkSheet and sheet.visible == SheetVisibleEnum.Visible
            ]
    except (*_BROKEN, KeyError, ValueError) as broken:
        raise Unreadable(f"The workbook is damaged, or is no Excel workbook (.xlsx). {_CSV}") from broken
    if not found:
        raise Unreadable(f"All sheets of the workbook are hidden. {_CSV}")
    return found


def refuse_old(file: IO[bytes]) -> None:
    """Say why a workbook of Excel before 2007, or one with a password, is not read."""
    file.seek(0)
    if _LOCKED in file.read(PACKED):
        raise Unreadable("The workbook is protected by a password. Save it again without one.")
    raise Unreadable("The file is an old workbook (.xls). Save it as .xlsx, or as “CSV UTF-8”.")


def _table(sheet: CalamineSheet, faults: dict[Place, str]) -> Table:
    rows = _rows(sheet, faults)
    line, header = next((row for row in rows if any(map(str.strip, row[1]))), (0, []))

    def below() -> Iterator[Row]:
        return (row for row in _rows(sheet, faults) if row[0] > line)

    return Table(sheet.name, header, below)


def _rows(sheet: CalamineSheet, faults: dict[Place, str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of each row of a sheet; what is wrong with a cell stands in its place."""
    by_row: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for (row, column), fault in faults.items():
        by_row[row][column] = fault
    before = [""] * sheet.start[1] if sheet.start else []
    # For calamine, a sheet ends before rows that hold nothing but faults.
    below: Iterator[list[Any]] = repeat([], max(0, max(by_row, default=-1) + 1 - sheet.total_height))
    for row, cells in enumerate(chain[list[Any]](sheet.iter_rows(), below)):
        texts = before + [cell if type(cell) is str else _text(cell) for cell in cells]
        for column, fault in by_row.get(row, {}).items():
            texts += [""] * (column + 1 - len(texts))
            texts[column] = fault
        yield row + 1, texts


def _text(value: Any) -> str:
    """Return what a cell shows, so that the same is read as from a CSV file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # A spreadsheet has 15 digits; of a number with more, these are not all. It stays shortened, and is refused.
        text = format(value, ".15g")
        return format(Decimal(text), "f") if "e-" in text else text
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"{value} 00:00:00"
    return str(value)


# Measured


def _copy(file: IO[bytes], copy: IO[bytes]) -> dict[str, dict[Place, str]]:
    """Copy what is read of a workbook, unpacked; return for each sheet what calamine takes for empty cells.

    What is opened then is what was measured: an archive can lie about its sizes.
    """
    if file.seek(0, SEEK_END) > PACKED:
        raise Unreadable(f"The workbook has more than {PACKED // 2**20} MB. {_CSV}")
    with ZipFile(file) as packed, ZipFile(copy, "w") as unpacked:
        parts = {part.filename.lower(): part for part in packed.infolist()}
        if len(parts) < len(packed.infolist()):
            raise BadZipFile("two parts of one name")
        if sum(part.file_size for part in parts.values()) > UNPACKED:
            raise Unreadable(f"The workbook has more than {UNPACKED // 2**20} MB when it is unpacked. {_CSV}")
        if any(name in parts and parts[name].file_size > most for name, most in _PARTS.items()):
            raise BadZipFile("a part that is too large")
        paths = _paths(packed)
        measures: dict[str, Measure] = {path: Sheet() for path in paths.values()}
        measures["xl/sharedstrings.xml"] = Texts()
        for name in sorted(parts.keys() & (_PARTS.keys() | measures.keys())):
            with packed.open(parts[name]) as source, unpacked.open(parts[name].filename, "w") as target:
                for chunk in iter(partial(source.read, CHUNK), b""):
                    target.write(chunk)
                    if name in measures:
                        measures[name].feed(chunk)
                    if sum(measure.size for measure in measures.values()) > CELLS:
                        raise Unreadable(f"The workbook has more than {CELLS:,} cells. {_CSV}")
        return {name: measures[path].faults for name, path in paths.items()}


def _paths(packed: ZipFile) -> dict[str, str]:
    """Return the path of each sheet, in small letters, by its name."""
    targets = {
        attributes["Id"]: posixpath.normpath(posixpath.join("/xl", attributes["Target"])).lstrip("/").lower()
        for attributes in _elements(packed.read("xl/_rels/workbook.xml.rels"), "Relationship")
    }
    sheets = _elements(packed.read("xl/workbook.xml"), "sheet")
    paths = {sheet["name"]: targets[next(sheet[key] for key in sheet if key.endswith(" id"))] for sheet in sheets}
    if len(paths) < len(sheets) or not paths:
        raise BadZipFile("two sheets of one name, or none")
    return paths


def _elements(xml: bytes, tag: str) -> list[dict[str, str]]:
    """Return the attributes of each element of that name."""
    found: list[dict[str, str]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(" ")[2] == tag:
            found.append(attributes)

    parser = _parser(start)
    parser.Parse(xml, True)
    return found


def _parser(start: Callable[[str, dict[str, str]], None]) -> expat.XMLParserType:
    def refuse(*doctype: object) -> None:
        raise BadZipFile("a document type")  # no spreadsheet writes one; it may hold what grows when it is read

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    return parser


class Measure:
    """A part of a workbook, as it is measured: how many things it makes room for, and the faults in it."""

    def __init__(self) -> None:
        self.size = 0
        self.faults: dict[Place, str] = {}
        self._parser = _parser(self._start)

    def feed(self, chunk: bytes) -> None:
        """Take the next piece. Raises Unreadable when it reaches further than may be opened."""
        self._parser.Parse(chunk, False)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError


class Texts(Measure):
    """The texts that cells share."""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.size += name.endswith(" si")


class Sheet(Measure):
    """A sheet: its size is that of the rectangle up to its last filled cell, however few are filled."""

    def __init__(self) -> None:
        super().__init__()
        self._columns, self._column_of = 0, _Columns()
        self._place, self._kind = (-1, -1), ""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "c":
            self._parser.CharacterDataHandler = None
            self._kind = attributes.get("t", "")
            self._move(self._placed(attributes["r"]) if "r" in attributes else (self._place[0], self._place[1] + 1))
        elif tag == "v":
            self._fill()
            if self._kind == "e" or self._place in self.faults:
                self._parser.CharacterDataHandler = self._value
        elif tag == "f":
            self._fill()
            if self._kind != "str":  # of a text, the result may be empty
                self._find(NO_VALUE)
        elif tag == "is":
            self._fill()
        elif tag == "row":
            self._move((int(attributes["r"]) - 1 if "r" in attributes else self._place[0] + 1, -1))

    def _value(self, text: str) -> None:
        if self._kind == "e":
            self._find(text if text in SPREADSHEET_ERRORS else "#VALUE!")
        elif not text.isspace():
            self.faults.pop(self._place, None)

    def _find(self, fault: str) -> None:
        self.faults[self._place] = fault
        if len(self.faults) > FAULTS:
            raise Unreadable(
                f"More than {FAULTS:,} cells are errors, or formulas without a result. Correct them, or open the "
                "workbook in Excel and save it, so that the formulas have results."
            )

    def _placed(self, name: str) -> Place:
        letters = name.rstrip("0123456789")
        return int(name[len(letters) :]) - 1, self._column_of[letters]

    def _move(self, place: Place) -> None:
        if place <= self._place:
            raise BadZipFile("cells that are in no order")
        self._place = place

    def _fill(self) -> None:
        row, column = self._place
        if row > ROWS:
            raise Unreadable(
                f"The sheet reaches down to row {row + 1:,}, and {ROWS:,} rows below the header are the most. {_CSV} "
                "If there is nothing that far down, delete the empty rows."
            )
        self._columns = max(self._columns, column + 1)
        self.size = (row + 1) * self._columns


class _Columns(dict[str, int]):
    """The place of a column by its letters."""

    def __missing__(self, letters: str) -> int:
        place = 0
        for letter in letters:
            place = place * 26 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter) + 1
        self[letters] = place - 1
        return place - 1
