"""Excel workbooks, written row by row into a stream, so that one of a million rows costs no memory."""

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from html import escape
from itertools import islice
from zipfile import ZIP_DEFLATED, ZipFile

from .zips import Stream

MOST_ROWS = 1_048_576  # of a sheet, its titles included
MOST_LETTERS = 32_767  # of a cell; Excel calls a file with more of them damaged
CUT = " … (cut: the CSV file has all of it)"
MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_AT_ONCE = 500  # rows
_DAY_0 = datetime(1899, 12, 30)  # Excel takes 1900 for a leap year; from March 1900 on this is right
_TITLE, _DAY, _MOMENT, _MONEY = 1, 2, 3, 4  # the styles, as they are numbered below
# What XML cannot hold, and what Excel reads as an escaped character: `_x0041_`.
_UNFIT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_STYLES = (
    f"<styleSheet {_MAIN}>"
    '<numFmts count="2"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/>'
    '<numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="5">'
    + "".join(
        f'<xf numFmtId="{number}" fontId="{font}" fillId="0" borderId="0" xfId="0" applyNumberFormat="1" '
        'applyFont="1"/>'
        for number, font in ((0, 0), (0, 1), (164, 0), (165, 0), (4, 0))
    )
    + '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def xlsx(sheets: Iterable[tuple[str, Iterable[Iterable[object]]]]) -> Iterator[bytes]:
    """Yield the pieces of a workbook with these sheets, (title, rows) each; the first row of each are its titles.

    Numbers, days and times stay what they are, times without their zone; everything else is text, and none of it a
    formula. The table of contents comes last: a file that breaks off is none.
    """
    stream, titles = Stream(), []
    with ZipFile(stream, "w", ZIP_DEFLATED, compresslevel=3) as book:  # type: ignore[call-overload]
        for number, (title, rows) in enumerate(sheets, 1):
            titles.append(title)
            with book.open(f"xl/worksheets/sheet{number}.xml", "w", force_zip64=True) as sheet:
                sheet.write(f"{_XML}<worksheet {_MAIN}><sheetData>".encode())
                written, style = iter(rows), _TITLE
                while some := list(islice(written, 1 if style else _AT_ONCE)):
                    sheet.write("".join([_row(row, style) for row in some]).encode())
                    style = 0
                    yield stream.taken()
                sheet.write(b"</sheetData></worksheet>")
        for name, content in _parts(titles).items():
            book.writestr(name, _XML + content)
    yield stream.taken()


def _row(values: Iterable[object], style: int) -> str:
    return f"<row>{''.join([_cell(value, style) for value in values])}</row>"


def _cell(value: object, style: int) -> str:
    match value:
        case None | "":
            return "<c/>"
        case bool():
            return _cell("yes" if value else "no", style)
        case int():
            return f"<c><v>{value}</v></c>"
        case Decimal():
            return f'<c s="{_MONEY}"><v>{value:f}</v></c>'
        case datetime():
            return f'<c s="{_MOMENT}"><v>{_days(value)!r}</v></c>'
        case date():
            return f'<c s="{_DAY}"><v>{_days(datetime.combine(value, time.min)):.0f}</v></c>'
    return f'<c t="inlineStr" s="{style}"><is><t xml:space="preserve">{_text(str(value))}</t></is></c>'


def _text(text: str) -> str:
    if len(text) > MOST_LETTERS:
        text = text[: MOST_LETTERS - len(CUT)] + CUT
    return escape(_ESCAPED.sub("_x005F_", _UNFIT.sub("\ufffd", text)), quote=False)


def _days(at: datetime) -> float:
    since = at.replace(tzinfo=None) - _DAY_0
    return since.days + since.seconds / 86400


def _parts(titles: list[str]) -> dict[str, str]:
    """Return the parts of a workbook beside its sheets."""
    numbered = list(enumerate(titles, 1))
    types = "".join(
        f'<Override PartName="/xl/{name}.xml" ContentType="{_CONTENT}.{kind}+xml"/>'
        for name, kind in (
            ("workbook", "sheet.main"),
            ("styles", "styles"),
            *((f"worksheets/sheet{number}", "worksheet") for number, _ in numbered),
        )
    )
    sheets = "".join(f'<sheet name="{escape(title)}" sheetId="{n}" r:id="rId{n}"/>' for n, title in numbered)
    related = "".join(_related(n, "worksheet", f"worksheets/sheet{n}.xml") for n, _ in numbered)
    return {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
        f'"application/vnd.openxmlformats-package.relationships+xml"/>{types}</Types>',
        "_rels/.rels": _relations(_related(1, "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(related + _related(len(titles) + 1, "styles", "styles.xml")),
        "xl/styles.xml": _STYLES,
    }


def _related(number: int, kind: str, target: str) -> str:
    return f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'


def _relations(related: str) -> str:
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>'
